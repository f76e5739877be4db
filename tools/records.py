"""Print a record of docs/records/ for a page: a .csv file as a Markdown table, .txt files as a block of text.

    python -m tools.records docs/records/scaling_memory.csv
    python -m tools.records docs/records/demo_training.txt --lines Data Network "best.h5 is"

Exit status: 0 done; 1 the file cannot be read, or lacks a line; 2 a wrong command line.
"""

import csv
import sys
from pathlib import Path

from bones.scores.text import markdown_table
from bones.system import scripts
from bones.system.errors import FileError


@scripts.command
def main(argv=None):
    """Print a record; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a .csv file, or one or more .txt files")
    begin = "of .txt files, print only the lines that begin with one of these texts, in this order"
    parser.add_argument("--lines", nargs="+", metavar="TEXT", help=begin)
    options = parser.parse_args(argv)
    if options.lines and options.files[0].suffix == ".csv":
        parser.error("--lines chooses lines of .txt files; a .csv file is printed whole.")
    text = "".join(read(file) for file in options.files)
    print(as_table(text) if options.files[0].suffix == ".csv" else as_block(text, options.lines))


def read(file):
    """The text of a record. Raises: FileError when it cannot be read."""
    try:
        return file.read_text()
    except (OSError, ValueError) as error:
        raise FileError(f"{file} cannot be read: {error}. Expected a record in docs/records/.") from None


def as_table(text):
    """The content of a .csv file as a Markdown table."""
    return markdown_table(list(csv.DictReader(text.splitlines())))


def as_block(text, starts):
    """Lines of a text as a Markdown block. Raises: FileError when no line begins with one of `starts`."""
    lines = text.splitlines()
    for start in starts or ():
        if not any(line.startswith(start) for line in lines):
            raise FileError(f"the record has no line that begins with {start!r}.")
    chosen = [line for start in starts for line in lines if line.startswith(start)] if starts else lines
    return "\n".join(["```", *chosen, "```"])


if __name__ == "__main__":
    sys.exit(scripts.run(main))

"""Regenerate the numbers of README.md and docs/ from their records in docs/records/.

    make numbers
    python -m tools.numbers            the same: writes the pages, and names those that differed

A page has a measured number only between two lines like

    <!-- numbers: python -m tools.results docs/records/fracatlas -->
    <!-- /numbers -->

where the command's output stands. A score with three decimals, an interval or a ± anywhere else is an error, except in a
quotation (lines that begin with >), which names its source.
Exit status: 0 all pages are up to date; 1 a page differed and was written, or has a number outside of a block.
"""

import contextlib
import importlib
import io
import re
import shlex
import sys
from pathlib import Path

from bones.system import scripts
from bones.system.errors import PageError
from bones.system.files import whole_file

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^<!-- numbers: (?P<command>[^\n]+) -->\n.*?^<!-- /numbers -->$", re.MULTILINE | re.DOTALL)
QUOTATION = re.compile(r"^>.*$", re.MULTILINE)
NUMBER = re.compile(r"(?<![\d.])0\.\d{3}(?!\d)|\[-?\d+(?:\.\d+)?, -?\d+(?:\.\d+)?\]|±")
MARKER = re.compile(r"<!-- /?numbers")


@scripts.command
def main(argv=None):
    """Write all pages; returns the exit status."""
    scripts.parser(__doc__).parse_args(argv)
    outputs, faults = run_all(commands()), []
    for page in pages():
        before = page.read_text()
        after = regenerated(before, outputs)
        if after != before:
            with whole_file(page) as partial:
                partial.write_text(after)
            faults.append(f"{page.relative_to(ROOT)} differed from its records and was written again")
        faults += [f"{page.relative_to(ROOT)}: {fault}" for fault in faults_of(after)]
    print("\n".join(faults) or f"{len(outputs)} commands: the numbers of all pages are those of the records.")
    return int(bool(faults))


def pages():
    """README.md and the pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands():
    """The commands of all blocks, each once."""
    return list(dict.fromkeys(block["command"] for page in pages() for block in BLOCK.finditer(page.read_text())))


def run_all(lines):
    """{command: its output}, each run in this process, in the repository's root."""
    with contextlib.chdir(ROOT):
        return {line: output_of(line) for line in lines}


def output_of(line):
    """What a command prints. Raises: PageError when it fails, or is not one of ours."""
    module, arguments = words_of(line)
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        try:
            status = importlib.import_module(module).main(arguments)
        except SystemExit as end:  # argparse's
            status = end.code
    if status:
        raise PageError(f"numbers: {line} ended with status {status}:\n{errors.getvalue()[-2000:]}")
    return printed.getvalue().strip("\n") + "\n"


def words_of(line):
    """(module, arguments) of a command python -m tools.NAME ..."""
    try:
        python, option, module, *arguments = shlex.split(line)
    except ValueError:  # an open quotation mark, or too few words
        python = option = module = ""
    if (python, option) != ("python", "-m") or not re.fullmatch(r"tools\.\w+", module):
        raise PageError(f"numbers: {line!r} is not a command of this repository. Expected python -m tools.NAME ...")
    return module, arguments


def regenerated(page, outputs):
    """The text of a page with the current output in each block. Args: outputs: {command: output}."""
    return BLOCK.sub(lambda block: f"<!-- numbers: {block['command']} -->\n{outputs[block['command']]}<!-- /numbers -->", page)


def faults_of(page):
    """Messages on numbers outside of blocks and quotations, and on markers without a counterpart."""
    outside = QUOTATION.sub("", BLOCK.sub(lambda block: "\n" * block[0].count("\n"), page))
    faults = []
    for line, text in enumerate(outside.split("\n"), start=1):
        if found := NUMBER.findall(text):
            faults.append(f"line {line}: {', '.join(found)} outside of a block of generated numbers")
        if MARKER.match(text):
            faults.append(f"line {line}: {text} has no counterpart")
    return faults


if __name__ == "__main__":
    sys.exit(scripts.run(main))

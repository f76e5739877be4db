"""Classify unlabelled studies, given as folders or images: prints lines, or writes a table and heat maps."""

import contextlib
import csv
import functools
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from bones.data.pixels import LEFT_OUT
from bones.data.studies import find
from bones.evaluation.classifier import COLUMNS, Classifier, decision, is_left_out, study_note
from bones.scores.text import DISCLAIMER, apart
from bones.system.errors import DataError, FileError
from bones.system.files import printable, whole_file

STANDARD_OUTPUT = ("-", "/dev/stdout")  # as --csv


@contextlib.contextmanager
def csv_file(file):
    """Yield a function that appends a table to a .csv file. The file is created when the block ends without an error.

    Args:
        file: its path, or one of STANDARD_OUTPUT.
    Raises: FileError when the file exists, or cannot be written.
    """
    if file in STANDARD_OUTPUT:
        yield table_writer(sys.stdout)
        return
    if Path(file).exists() and not (Path(file).is_file() or Path(file).is_dir()):  # a pipe or a device
        with open(file, "w", newline="", encoding="utf-8", errors="surrogateescape") as out:
            yield table_writer(out)
        return
    if Path(file).exists():
        raise FileError(f"{file} exists. Remove it, or pass another --csv.")
    with whole_file(file) as partial:
        try:
            out = open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise FileError(f"{file} cannot be written: {error.strerror}. Pass another --csv.") from None
        with out:
            yield table_writer(out)


def table_writer(out):
    """Write a table's header to an open file. Returns: a function that appends a table to it."""
    print(",".join(COLUMNS), file=out)
    # Without quotes, a carriage return in a name would end the row. Windows's standard output ends lines itself.
    options = {"index": False, "header": False, "quoting": csv.QUOTE_NONNUMERIC, "lineterminator": "\n"}
    return lambda table: table.to_csv(out, **options)


def classify_named(run, names, table_file=None, heatmaps=None, skip_unreadable=False):
    """Print or write the probabilities of named studies, and optionally draw a heat map panel of each.

    Args:
        run: RunFolder.
        names: see `find`.
        table_file: .csv to write instead of lines; None: predictions.csv if a folder contains several studies, else lines.
        heatmaps: folder for the panels, or None.
    Raises: DataError at the end if views were unreadable; the others are printed or written before.
    """
    record, views = run.record(), find(names)
    if heatmaps:
        from bones.evaluation import panels  # here: Matplotlib and heat maps are for these alone

        panels.check_apart(heatmaps, names)
        panels.make_folder(heatmaps)
    table_file = table_file or ("predictions.csv" if views["study"].nunique() > len(names) else None)
    with (
        csv_file(table_file)
        if table_file
        else contextlib.nullcontext(functools.partial(print_lines, record.threshold)) as write
    ):
        classifier = Classifier(run, with_maps=bool(heatmaps))
        draw = panels.panels(classifier, Path(heatmaps)) if heatmaps else lambda table, pixels: None
        decided, files = [], []
        for table, pixels in classifier.classify(views, skip_unreadable):
            write(table)
            draw(table, pixels)
            decided += table.drop_duplicates("study")["decision"].to_list()
            files.append(table[(table["fault"] != "") | (table["note"] != "")])
    files = pd.concat(files)
    left_out = is_left_out(files)
    if table_file:
        counts = ", ".join(f"{decided.count(word)} {word or 'not classified'}" for word in ("Positive", "Negative", ""))
        number = len(views) - left_out.sum()
        written = f"Wrote {printable(table_file)}: {number} views of {len(decided)} studies, {counts}."
        print(written, file=sys.stderr if table_file in STANDARD_OUTPUT else sys.stdout)
        print_notes(files[files["note"] != ""])
    print(
        f"Positive is a probability of {record.threshold:g} or more. Computed on {keras.backend.backend()}. {DISCLAIMER}",
        file=sys.stderr,
    )
    if (bad := files[files["fault"] != ""]).size:
        lines = [f"  {printable(path)}   {fault}" for path, fault in zip(bad["path"], bad["fault"], strict=True)]
        report_unreadable(f"{len(bad)} of {len(views)} images cannot be decoded:\n" + "\n".join(lines), skip_unreadable)
    elif not any(decided):
        raise DataError("Nothing was classified: no file is a radiograph. Name a study's folder, or an image.")


def print_notes(files):
    """Print the notes on files to standard error, where the lines with them are in a table."""
    for path, note in zip(files["path"], files["note"], strict=True):
        print(f"{printable(path)}: {printable(note)}", file=sys.stderr)


def report_unreadable(message, skip_unreadable):
    """Report the views that do not decode: raise an error, or print a note if they may be skipped."""
    if not skip_unreadable:
        raise DataError(
            f"{message}\nTheir studies were not classified. Repair or remove these files, or pass --skip-unreadable to "
            "classify the studies by their other views."
        )
    print(f"{message}\nTheir studies were classified by their other views, if any.", file=sys.stderr)


def print_lines(threshold, table):
    """Print a line per view, name<TAB>decision<TAB>probability, with <TAB>note if there is one, and one per study folder.

    Args:
        threshold: probability from which on a decision is Positive.
        table: of `Classifier.classify`.
    """
    for name, study in table.groupby("study", sort=False):
        for path, probability, note in study[["path", "probability", "note"]].itertuples(index=False):
            print_line(path, probability, threshold, note)
        if list(study["path"]) != [name]:
            print_line(f"study {name}", study["study_probability"].iloc[0], threshold, study_note(study))


def print_line(what, probability, threshold, note):
    """Print one line of `print_lines`."""
    called = (
        "Not classified\t-"
        if np.isnan(probability)
        else f"{decision(probability, threshold)}\t{apart(probability, threshold)[0]}"
    )
    if note.startswith(f"{LEFT_OUT}: "):
        called, note = "Left out\t-", note.removeprefix(f"{LEFT_OUT}: ")
    print("\t".join([printable(what), called, *([printable(note)] if note else [])]))

"""Labels of studies: from the names of their folders, and corrections from a file."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from bones.data.layouts import FOLDERS, LABELS, label_of
from bones.system.errors import DataError

WORDS = {"0": 0, "1": 1, "negative": 0, "positive": 1}  # labels in a file of corrections


def correct_labels(views, root, file):
    """The table with the labels of a file, see `read_labels`, for the studies that it names."""
    labels = read_labels(file, root)
    return views.assign(
        label=[labels.get(study, label) for study, label in zip(study_paths(views, root), views["label"], strict=True)]
    )


def study_paths(views, root):
    """Study folder of each view as a file of label corrections names it: valid/XR_HUMERUS/patient11185/study1_positive."""
    return [Path(path).parent.relative_to(root).as_posix() for path in views["path"]]


def folder_labels(views):
    """(n,) labels of the views by the names of their study folders."""
    return np.array([label_of(Path(study)) for study in views["study"]])


def read_labels(file, root):
    """Labels that override those of study folders' names.

    Args:
        file: .csv with the columns study and label, or without a header as MURA's own valid_labeled_studies.csv. A study is a
            path that contains train/ or valid/ and what follows; a label is 1, 0, positive or negative.
        root: data root that contains the studies.
    Returns: {"valid/XR_HUMERUS/patient11185/study1_positive": 0 or 1}.
    Raises: DataError when the file cannot be read, names a path that is not a study of the root, or gives a study two labels.
    """
    form = "Expected the columns study and label, as in: valid/XR_HUMERUS/patient11185/study1_positive,0"
    try:  # blank lines are kept, so that line numbers are right
        rows = pd.read_csv(
            file, header=None, dtype=str, na_filter=False, skip_blank_lines=False, encoding_errors="surrogateescape"
        )
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. {form}") from None
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{file} is not a CSV table ({error}). {form}") from None
    rows = rows[(rows != "").any(axis=1)]
    header = [name.strip().lower() for name in rows.iloc[0]] if len(rows) else []
    if "study" in header and "label" in header:
        rows = rows.iloc[1:, [header.index("study"), header.index("label")]]
    if len(rows.columns) != 2:
        raise DataError(f"{file} has {len(rows.columns)} columns and no header with study and label. {form}")
    labels = {}
    for line, study, word in rows.itertuples():
        where = f"{file}, line {line + 1}"
        key, label = study_key(study, root), WORDS.get(word.strip().lower())
        if key is None:
            raise DataError(f"{where}: {study[:200]!r} is not a study folder of {root}. {form}")
        if label is None:
            raise DataError(f"{where}: {word!r} is not a label; expected 1, 0, positive or negative.")
        if labels.setdefault(key, label) != label:
            raise DataError(f"{where}: {study} has another label in an earlier line; keep one of the two.")
    return labels


def study_key(path, root):
    """A study's path from train/ or valid/ on, or None where it is not a study folder of a data root."""
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part]
    starts = [place for place, part in enumerate(parts) if part in FOLDERS.values()]
    if not starts or ".." in parts or not parts[-1].endswith(tuple(LABELS)):
        return None
    key = "/".join(parts[starts[-1] :])
    return key if os.path.isdir(root / key) else None  # pathlib's raises where a path is too long

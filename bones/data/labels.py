"""Labels of studies: from the names of their folders, and corrections from a file."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from bones.data.layouts import LABELS, label_of
from bones.data.roots import data_roots, have_study_folders, in_list, path_in_roots, paths_from_root
from bones.data.table import root_of
from bones.system.errors import DataError, short_message

WORDS = {"0": 0, "1": 1, "negative": 0, "positive": 1}  # labels in a file of corrections


def correct_labels(views, roots, file):
    """The table with the labels of a file, see `read_labels`, for the studies that it names. Args: roots: of `data_roots`."""
    if not have_study_folders(roots):
        raise DataError(
            f"{file}: --labels corrects labels in the names of study folders. Correct those of {in_list(roots)} there."
        )
    labels = labels_in_roots(file, roots)
    return views.assign(
        label=[labels.get(study, label) for study, label in zip(study_paths(views, roots), views["label"], strict=True)]
    )


def study_paths(views, roots):
    """Study of each view as a file of label corrections names it: valid/XR_HUMERUS/patient11185/study1_positive."""
    owners = views["patient"].map(root_of)
    return [roots[owner].study_path(path) for owner, path in zip(owners, paths_from_root(views, roots), strict=True)]


def folder_labels(views, roots):
    """(n,) labels of the views by the names of their study folders; those of the table where a root has none."""
    if not have_study_folders(roots):
        return views["label"].to_numpy()
    return np.array([label_of(Path(study)) for study in views["study"]])


def read_labels(file, root):
    """Labels that override those of study folders' names.

    Args:
        file: .csv with the columns study and label, or without a header as MURA's own valid_labeled_studies.csv. A study is a
            path that contains train/ or valid/ and what follows; a label is 1, 0, positive or negative.
        root: data root that contains the studies, or several; a study that is in two of them has the root's name in front.
    Returns: {"valid/XR_HUMERUS/patient11185/study1_positive": 0 or 1}.
    Raises: DataError when the file cannot be read, names a path that is not a study of the root, or gives a study two labels.
    """
    return labels_in_roots(file, data_roots(root))


def labels_in_roots(file, roots):
    """`read_labels` of what `data_roots` returned."""
    form = "Expected the columns study and label, as in: valid/XR_HUMERUS/patient11185/study1_positive,0"
    rows, labels = label_rows(file, form), {}
    for line, study, word in rows.itertuples():
        where = f"{file}, line {line + 1}"
        key, label = study_key(study, roots), WORDS.get(word.strip().lower())
        if key is None:
            raise DataError(f"{where}: {study[:200]!r} is not a study folder of {in_list(roots)}. {form}")
        if label is None:
            raise DataError(f"{where}: {word!r} is not a label; expected 1, 0, positive or negative.")
        if labels.setdefault(key, label) != label:
            raise DataError(f"{where}: {study} has another label in an earlier line; keep one of the two.")
    return labels


def label_rows(file, form):
    """The rows of a file of labels as text, with the columns study and label alone. Raises: DataError; `form` ends it."""
    try:  # blank lines are kept, so that line numbers are right
        rows = pd.read_csv(
            file, header=None, dtype=str, na_filter=False, skip_blank_lines=False, encoding_errors="surrogateescape"
        )
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. {form}") from None
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{file} is not a CSV table ({short_message(error)}). {form}") from None
    rows = rows[(rows != "").any(axis=1)]
    header = [name.strip().lower() for name in rows.iloc[0]] if len(rows) else []
    if "study" in header and "label" in header:
        rows = rows.iloc[1:, [header.index("study"), header.index("label")]]
    if len(rows.columns) != 2:
        raise DataError(f"{file} has {len(rows.columns)} columns and no header with study and label. {form}")
    return rows


def study_key(path, roots):
    """A study's path from its data root on, or None where it is not a study folder of a data root, see `path_in_roots`."""
    key = path_in_roots(path, roots, os.path.isdir)
    return key if key and key.endswith(tuple(LABELS)) else None

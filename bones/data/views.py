"""Find the views of a split, or of a data root with its layout errors; and fingerprints of data sets."""

import concurrent.futures
import hashlib
import os

import numpy as np
import pandas as pd

from bones.data.labels import correct_labels
from bones.data.layouts import FOLDERS
from bones.data.roots import data_roots, in_root, paths_from_root, with_split
from bones.data.table import STUDY
from bones.system.errors import DataError


def find_views(root, split, study_types=("XR_HUMERUS",), labels=None):
    """One row a view of a split of a data root in MURA's layout, or of several roots as one.

    Args:
        root: folder that contains train/ and valid/, or whose only such subfolder does. Below them are an optional XR_* level,
            patients, studies named *_positive or *_negative, and images (.png, .jpg, .jpeg, .dcm). A list of such folders:
            patients of equal name in two of them are two patients, see `roots.data_roots`. Or a `source.Source` of class
            folders or tables.
        split: "train" (MURA's train/) or "held-out" (MURA's valid/). Views of "train" whose split reads "tuning" are named as
            such by their source.
        study_types: XR_* names, or ["all"].
        labels: .csv of study paths and labels that override those of the folders' names, see `labels.read_labels`.
    Returns: pandas.DataFrame with the columns path, split, study_type, patient, study, view, label (1 positive), sorted.
    Raises: DataError when the layout is not MURA's, the split is empty or has one class only, or a patient is in both splits.
    """
    roots = data_roots(root)
    used = with_split(roots, split) or roots
    tables = [find_in_root(name, one, split, types_of(one, split, study_types, used)) for name, one in used.items()]
    views = pd.concat(tables, ignore_index=True)
    if labels is not None:
        views = correct_labels(views, roots, labels)
    check_both_classes(views, f"{', '.join(one.place(split) for one in used.values())} ({' '.join(study_types)})")
    return views


def types_of(root, split, study_types, roots):
    """Which of the study types a root is searched for: those that it has, where several roots together have them."""
    if len(roots) == 1 or "all" in study_types:
        return study_types
    in_any = {name for one in roots.values() for name in types_in(one, split, study_types)}
    missing = [name for name in study_types if name not in in_any]
    return types_in(root, split, study_types) + missing or study_types


def types_in(root, split, study_types):
    """Which of the study types a root has."""
    there = root.types(split)
    return [name for name in study_types if name in there]


def find_in_root(name, root, split, study_types):
    """The views of one data root, see `find_views`; `name` begins the names of its patients."""
    views = root.find(split, study_types)
    root.check(views, split, study_types)
    return of_root(name, views)


def of_root(name, views):
    """A table of views whose patients' names begin with their data root's."""
    return views.assign(patient=[in_root(name, patient) for patient in views["patient"]]) if name else views


def find_patients(root, split, study_types):
    """Names of the patients of a split of one data root, of those of the study types that it has."""
    return set(root.find(split, types_in(root, split, study_types) or study_types)["patient"])


def survey(root, study_types=("all",), labels=None):
    """Every view of both splits that can be found, and all layout errors, where `find_views` raises the first.

    Args: see `find_views`.
    Returns: (views, faults): a table like that of `find_views`, and a list of messages.
    Raises: DataError when a root contains neither train/ nor valid/.
    """
    roots, faults = data_roots(root), []

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except DataError as fault:
            faults.append(str(fault))
            return []

    tables = []
    for split in FOLDERS:
        used = with_split(roots, split)
        for name, one in used.items():
            tables.append(of_root(name, one.find(split, types_of(one, split, study_types, used), attempt)))
    views = pd.concat(tables, ignore_index=True)
    return (views if labels is None else correct_labels(views, roots, labels)), faults


def check_both_classes(views, where):
    """Raise DataError unless a table of views has both labels."""
    if views["label"].nunique() < 2:
        kind = "positive" if views["label"].iloc[0] else "negative"
        other = "negative" if kind == "positive" else "positive"
        raise DataError(f"{where}: all {len(views)} views are {kind}. Learning and scoring need both: add {other} studies.")


def fingerprint(views, root):
    """Fingerprint of a table of views, to compare data sets: counts and a hash of relative paths and labels.

    Args: see `find_views`.
    Returns: dict with views, studies, patients, positive_views, bytes (of all image files), sha256, and content, a hash of the
        files' bytes, which differs where an image was replaced by another of its size.
    """
    paths = paths_from_root(views, data_roots(root))
    lines = [f"{path} {label}" for path, label in zip(paths, views["label"], strict=True)]
    return {
        "views": len(views),
        "studies": len(views.drop_duplicates(STUDY)),
        "patients": views["patient"].nunique(),
        "positive_views": int(views["label"].sum()),
        "bytes": sum(os.path.getsize(path) for path in views["path"]),
        "sha256": hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest(),
        "content": content_hash(views["path"].iloc[np.argsort(lines, kind="stable")]),
    }


def content_hash(paths):
    """SHA-256 of the SHA-256 of each file."""

    def digest(path):
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing releases the global interpreter lock
        return hashlib.sha256(b"".join(pool.map(digest, paths))).hexdigest()


def is_same(recorded, found):
    """Whether two fingerprints are of the same data; one of an earlier version may have fewer keys."""
    return bool(recorded) and recorded == {name: found.get(name) for name in recorded}

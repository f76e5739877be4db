"""Find the views of a split, or of a data root with its layout errors; and fingerprints of data sets."""

import concurrent.futures
import hashlib
import os

import numpy as np
import pandas as pd

from bones.data.labels import correct_labels
from bones.data.layouts import FOLDERS, split_folder, subfolders, walk
from bones.data.roots import data_roots, in_root, paths_from_root, with_split
from bones.data.table import STUDY
from bones.system.errors import DataError


def find_views(root, split, study_types=("XR_HUMERUS",), labels=None):
    """One row a view of a split of a data root in MURA's layout, or of several roots as one.

    Args:
        root: folder that contains train/ and valid/, or whose only such subfolder does. Below them are an optional XR_* level,
            patients, studies named *_positive or *_negative, and images (.png, .jpg, .jpeg, .dcm). A list of such folders:
            patients of equal name in two of them are two patients, see `roots.data_roots`.
        split: "train" (MURA's train/) or "held-out" (MURA's valid/).
        study_types: XR_* names, or ["all"].
        labels: .csv of study paths and labels that override those of the folders' names, see `labels.read_labels`.
    Returns: pandas.DataFrame with the columns path, split, study_type, patient, study, view, label (1 positive), sorted.
    Raises: DataError when the layout is not MURA's, the split is empty or has one class only, or a patient is in both splits.
    """
    roots = data_roots(root)
    used = with_split(roots, split) or roots
    tables = [find_in_root(name, path, split, types_of(path, split, study_types, used)) for name, path in used.items()]
    views = pd.concat(tables, ignore_index=True)
    if labels is not None:
        views = correct_labels(views, roots, labels)
    folders = ", ".join(str(split_folder(path, split)) for path in used.values())
    check_both_classes(views, f"{folders} ({' '.join(study_types)})")
    return views


def types_of(root, split, study_types, roots):
    """Which of the study types a root is searched for: those that it has, where several roots together have them."""
    if len(roots) == 1 or "all" in study_types:
        return study_types
    in_any = {name for path in roots.values() for name in types_in(path, split, study_types)}
    missing = [name for name in study_types if name not in in_any]
    return types_in(root, split, study_types) + missing or study_types


def types_in(root, split, study_types):
    """Which of the study types a root has."""
    return [name for name in study_types if (root / FOLDERS[split] / name).is_dir()]


def find_in_root(name, root, split, study_types):
    """The views of one data root, see `find_views`; `name` begins the names of its patients."""
    folder = split_folder(root, split)
    views = walk(folder, split, study_types)
    if views.empty:
        raise DataError(
            f"{folder} contains no views of {' '.join(study_types)}.\n"
            "Expected patient*/study*_positive|negative/image*.png below it; unpack MURA again, or check --data."
        )
    check_patients_apart(root, split, study_types, views)
    return of_root(name, views)


def of_root(name, views):
    """A table of views whose patients' names begin with their data root's."""
    return views.assign(patient=[in_root(name, patient) for patient in views["patient"]]) if name else views


def find_patients(root, split, study_types):
    """Names of the patients of a split of one data root, of those of the study types that it has."""
    return set(walk(split_folder(root, split), split, types_in(root, split, study_types) or study_types)["patient"])


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
    for split, folder in FOLDERS.items():
        used = with_split(roots, split)
        for name, path in used.items():
            tables.append(of_root(name, walk(path / folder, split, types_of(path, split, study_types, used), attempt)))
    views = pd.concat(tables, ignore_index=True)
    return (views if labels is None else correct_labels(views, roots, labels)), faults


def check_both_classes(views, where):
    """Raise DataError unless a table of views has both labels."""
    if views["label"].nunique() < 2:
        kind = "positive" if views["label"].iloc[0] else "negative"
        raise DataError(
            f"{where}: all {len(views)} views are {kind}. Learning and scoring need both classes: "
            "look for study folders named *_positive and *_negative, or add studies."
        )


def check_patients_apart(root, split, study_types, views):
    """Raise DataError when a patient of these study types is in train/ and in valid/."""
    other = root / ({"train", "valid"} - {FOLDERS[split]}).pop()
    if not other.is_dir():
        return
    found = {entry.name for entry in subfolders(other)}
    wanted = found if "all" in study_types else found & set(study_types)
    folders = [other / name for name in wanted] if any(name.upper().startswith("XR_") for name in found) else [other]
    both = sorted({patient.name for folder in folders for patient in subfolders(folder)} & set(views["patient"]))
    if both:
        raise DataError(
            f"{len(both)} patients are in both {root}/train and {root}/valid: {', '.join(both[:5])}"
            f"{', ...' if len(both) > 5 else ''}.\n"
            "Scores on patients seen in training are not valid: remove them from one of the two."
        )


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

"""Read the folders of a data set in MURA's layout as rows of a table: data root, study types, patients, studies, labels."""

import logging
import os
import posixpath
import re
import sys
from pathlib import Path

import pandas as pd

from bones.data.file_kinds import EXPECTED, is_image, is_system_file
from bones.data.table import COLUMNS
from bones.system.errors import DataError

log = logging.getLogger(__name__)

FOLDERS = {"train": "train", "held-out": "valid"}  # name of a split: MURA's folder
LABELS = {"_negative": 0, "_positive": 1}
SPLITS = {  # names of splits in other layouts; a validation split is for tuning where there is a test, and held out otherwise
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("test", "testing"), "held-out"),
    **dict.fromkeys(("val", "valid", "validation"), "tuning"),
}


def directly(function, *arguments):
    """Call a function: what `attempt` does where the first DataError is to be raised."""
    return function(*arguments)


class Root:
    """A data root: a folder or file with views. A subclass for each layout finds them.

    Attributes:
        path: of the root, a Path.
        folder: from which on the paths of its views are written, a Path.
        notes: sentences on what its layout leaves open.
    """

    has_patients = True  # whether it says whose the images are
    has_study_folders = True  # whether the folders of studies have labels in their names
    notes = ()

    def __fspath__(self):
        return os.fspath(self.path)

    def __str__(self):
        return str(self.path)

    def has(self, split):
        """Whether it has views of a split, "train" or "held-out"."""
        raise NotImplementedError

    def types(self, split):
        """Study types that it names in a split."""
        raise NotImplementedError

    def place(self, split):
        """Where the views of a split are, for messages. Raises: DataError when it has none."""
        raise NotImplementedError

    def find(self, split, study_types, attempt=directly):
        """Table of the views of a split, see `views.find_views`; `attempt` calls functions that may raise a DataError."""
        raise NotImplementedError

    def check(self, views, split, study_types):
        """Raise DataError when the views that `find` returned are none, or of patients who are in another split, too."""
        raise NotImplementedError

    def locate(self, parts, exists):
        """A path that a user wrote, from `folder` on, or None. Args: parts: its parts; exists: f(path) -> bool."""
        raise NotImplementedError

    def study_path(self, path):
        """What names the study of a view in tables of users: the view itself where studies have no folders.

        Args: path: of the view, from `folder` on.
        """
        return path


class MuraRoot(Root):
    """A folder in MURA's layout: train/ and valid/, XR_*, patients, studies with labels in their names, images."""

    def __init__(self, path):
        self.path = self.folder = data_root(path)

    def has(self, split):
        return (self.path / FOLDERS[split]).is_dir()

    def types(self, split):
        return [entry.name for entry in subfolders(self.path / FOLDERS[split])] if self.has(split) else []

    def place(self, split):
        return str(split_folder(self.path, split))

    def find(self, split, study_types, attempt=directly):
        return walk(split_folder(self.path, split), split, study_types, attempt)

    def check(self, views, split, study_types):
        if views.empty:
            raise DataError(
                f"{self.place(split)} contains no views of {' '.join(study_types)}.\n"
                "Expected patient*/study*_positive|negative/image*.png below it; unpack MURA again, or check --data."
            )
        check_patients_apart(self.path, split, study_types, views)

    def locate(self, parts, exists):
        starts = [place for place, part in enumerate(parts) if part in FOLDERS.values()]
        below = "/".join(parts[starts[-1] :]) if starts else None
        return below if below and exists(self.folder / below) else None

    def study_path(self, path):
        return posixpath.dirname(path)


def ends_of(parts):
    """The ends of a path, the longest one first: a/b/c, b/c, c. Args: parts: ["a", "b", "c"]."""
    return ["/".join(parts[start:]) for start in range(len(parts))]


def walk(folder, split, study_types, attempt):
    """Table of the views below a split's folder; `attempt` calls functions that may raise a DataError."""
    rows = []
    for study_type, type_folder in attempt(type_folders, folder, study_types):
        for patient in folders_without_images(type_folder, attempt):
            studies = folders_without_images(patient, attempt)
            if not studies:
                log.warning("%s contains no study folder", patient)
            for study in studies:
                # Interned: most studies and images have one of few names, which then take memory once.
                place = (split, study_type, patient.name, sys.intern(study.name))
                rows += [
                    (str(image), *place, sys.intern(image.name), label) for image, label in attempt(images_and_label, study)
                ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"label": int})  # also for a table without rows


def data_root(path):
    """The folder at or just below `path` that contains train/ or valid/, as a Path.

    Raises: DataError when there is none, or when several below `path` do.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; a data root is the folder that MURA unpacks to, with train/ and valid/.")
    candidates = [path]
    for _ in range(3):  # MURA-v1.1.zip unpacked by hand often ends up as MURA-v1.1/MURA-v1.1
        roots = [folder for folder in candidates if any((folder / name).is_dir() for name in FOLDERS.values())]
        if len(roots) > 1:
            names = ", ".join(str(folder) for folder in roots)
            raise DataError(f"{path} contains several data roots ({names}); pass one of them as --data.")
        if roots:
            return roots[0]
        candidates = [folder for candidate in candidates for folder in subfolders(candidate)]
    above = next((parent for parent in path.resolve().parents if (parent / "train").is_dir()), None)
    advice = f"Did you mean --data {above}?" if above else "Pass the folder that MURA unpacks to (MURA-v1.1) as --data."
    raise DataError(f"{path} contains neither train/ nor valid/, and no folder just below it does. {advice}")


def types_in_words(study_types, between=" "):
    """Study types, or ["all"], for a sentence."""
    return "all study types" if list(study_types) == ["all"] else between.join(study_types)


def split_folder(root, split):
    """MURA's folder of a split."""
    folder = root / FOLDERS[split]
    if not folder.is_dir():
        there = ", ".join(sorted(entry.name for entry in root.iterdir())) or "nothing"
        raise DataError(
            f"{root} contains no {folder.name}/ folder with the {split} studies (found: {there}).\n"
            f"Expected {root}/train and {root}/valid; unpack MURA again, or check --data."
        )
    return folder


def type_folders(folder, study_types):
    """[(study type, folder of its patients)] of a split; a split without the XR_* level is one folder of the given type."""
    found = {entry.name: entry for entry in subfolders(folder)}
    types = {name: entry for name, entry in found.items() if name.upper().startswith("XR_")}
    if not types:
        return [(single_type(folder, study_types), folder)]
    if len(types) < len(found):
        others = ", ".join(name for name in found if name not in types)
        raise DataError(f"{folder} mixes XR_* folders with others ({others}); move the others out of it.")
    if "all" in study_types:
        return list(types.items())
    missing = [name for name in study_types if name not in types]
    if missing:
        raise DataError(
            f"{folder} contains no {' '.join(missing)}; it contains {', '.join(types)}.\n"
            "Pass one or more of them, or all, as --study-type."
        )
    return [(name, types[name]) for name in sorted(set(study_types))]


def single_type(place, study_types):
    """The study type of data that name none. Args: study_types: as the user asked for. Raises: DataError for several."""
    if len(study_types) > 1:
        raise DataError(f"{place} names no study types, so all of it is of one; pass that one as --study-type.")
    return study_types[0] if len(study_types) == 1 and study_types[0] != "all" else "XR_UNKNOWN"


def sorted_entries(folder):
    """Paths of the entries of a folder without system files, study2 before study10."""
    return [path for path, _ in typed_entries(folder)]


def typed_entries(folder):
    """[(path, whether it is a folder)] of `sorted_entries`, which the system lists together: nothing is asked for each path."""
    folder = Path(folder)
    try:
        with os.scandir(folder) as found:
            entries = [(entry.name, is_folder(entry)) for entry in found if not is_system_file(entry.name)]
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}. Make it readable, or move it away.") from None
    return [(folder / name, is_dir) for name, is_dir in sorted(entries, key=lambda entry: natural_key(entry[0]))]


def is_folder(entry):
    """Whether an os.DirEntry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # such as a link to itself
        return False


def natural_key(name):
    """Sorting key of a name, by which study2 is before study10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def subfolders(folder):
    """Folders directly inside a folder, in order."""
    return [path for path, is_dir in typed_entries(folder) if is_dir]


def folders_without_images(folder, attempt):
    """Folders directly inside a folder of patients or studies; `attempt` calls functions that may raise a DataError."""
    entries = attempt(typed_entries, folder)
    attempt(check_no_images, [path for path, is_dir in entries if not is_dir])
    return [path for path, is_dir in entries if is_dir]


def check_no_images(files):
    """Raise DataError when an image is among the files of a folder of patients or studies, where it has no label."""
    for entry in files:
        if is_image(entry):
            raise DataError(
                f"{entry} lies outside of a study folder, so it has no label. Move it into one (study1_negative), or remove it."
            )


def images_and_label(study):
    """[(path, label)] of a study's images."""
    label = label_of(study)
    return [(image, label) for image in images_of(study)]


def images_of(study):
    """Paths of a study's images, in order; other files, besides system files, are skipped with a warning.

    Raises: DataError when there is none.
    """
    entries = sorted_entries(study)
    images = [entry for entry in entries if is_image(entry)]
    if not images and entries:
        found = ", ".join(entry.name for entry in entries[:3])
        raise DataError(f"{study} contains no image that can be read (found: {found}); {EXPECTED}. Convert what it contains.")
    if not images:
        raise DataError(f"{study} contains no image: it is empty. Unpack it again, or remove the folder.")
    for entry in entries:
        if entry not in images:
            log.warning("%s is not an image and is skipped", entry)
    return images


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
        raise DataError(in_both(both, f"{root}/train and {root}/valid"))


def in_both(patients, places):
    """The message for patients who are in two splits. Args: places: in words."""
    return (
        f"{len(patients)} patients are in both {places}: {', '.join(patients[:5])}{', ...' * (len(patients) > 5)}.\n"
        "Scores on patients seen in training are not valid: remove them from one of the two."
    )


def label_of(study):
    """1 for a study folder named *_positive, 0 for *_negative; anything else is a DataError."""
    for suffix, label in LABELS.items():
        if study.name.endswith(suffix):
            return label
    raise DataError(
        f"{study}: the name of a study folder ends in _positive or _negative, which is its label; rename or remove it."
    )

"""Studies that a user names: images, and folders with images at or below them, as a table of views without labels."""

import dataclasses
import logging
import os
from collections import defaultdict
from pathlib import Path

import pandas as pd

from bones.data.file_kinds import EXPECTED, is_image
from bones.data.layouts import sorted_entries
from bones.data.study_uids import study_uids
from bones.system.errors import DataError
from bones.system.files import printable

log = logging.getLogger(__name__)


@dataclasses.dataclass
class FoundStudy:
    """Files of one study, and the folders that they are in."""

    files: list = dataclasses.field(default_factory=list)
    folders: dict = dataclasses.field(default_factory=dict)  # in order; a dict for a set, which has none
    unidentified: int = 0  # images without a Study Instance UID
    beside: int = 0  # studies whose DICOM files are in the folder of these images


def find(names):
    """Views of the studies that paths name.

    Args:
        names: images, each a study of its own, and folders: see `group` for the studies of each, `study_names` for their names.
    Returns: pandas.DataFrame with path and study, its name, in order; labels in names are ignored.
        Other files beside images, such as reports, are among them, so that they are reported.
    Raises: DataError when a path is missing, or no image is found at or below one.
    """
    rows, by_name = [], {}
    for name in names:
        path = Path(name)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; expected a study's folder, an image or a run folder.")
        if not path.is_dir():
            rows.append((str(path), name))
            continue
        studies = without_stray_files(group(folders(path)))
        if not studies:
            raise DataError(f"{path} contains no image, nor does a folder below it; {EXPECTED}.")
        for study, called in zip(studies, study_names(studies), strict=True):
            rows += [(str(file), called) for file in study.files]
            by_name[called] = study
    report(by_name)
    return pd.DataFrame(rows, columns=["path", "study"]).drop_duplicates()


# ---------------------------------------------------------------------------------------------------------------------
# Files -> studies


def group(folders):
    """The studies in some folders.

    DICOM files with the same Study Instance UID are one study, also in several folders. Files without one belong to the study
    of the DICOM files in their folder, as previews do, or are a study of their own if these are of none or of several studies.

    Args:
        folders: [(folder, files)]; a folder is anything that tells it from others.
    Returns: [FoundStudy] in the order of their first files.
    """
    folders = list(folders)
    uids = iter(study_uids([file for _, files in folders for file in files]))
    studies = defaultdict(FoundStudy)
    for folder, files in folders:
        found = [next(uids) for _ in files]
        known = set(filter(None, found))
        others = next(iter(known)) if len(known) == 1 else ("no UID", folder)
        for file, uid in zip(files, found, strict=True):
            study = studies[uid or others]
            study.files.append(file)
            study.folders[folder] = None
            if uid == "" and is_image(file):
                study.unidentified, study.beside = study.unidentified + 1, len(known)
    return list(studies.values())


def without_stray_files(studies):
    """Studies that contain an image; of the others, as a text file beside DICOM files of several studies, a warning."""
    found = []
    for study in studies:
        if any(is_image(file) for file in study.files):
            found.append(study)
        else:
            warn_not_an_image(study.files)
    return found


def study_names(studies):
    """Names of studies: their folder, or their first image with the number of other files, as in "films/03.dcm +1".

    Of a study in several folders, such as series, the folder is the deepest that contains them. The folder is the name if no
    other study has files in these folders.
    """
    common = [common_folder(study.folders) for study in studies]
    inside = defaultdict(set)
    for number, study in enumerate(studies):
        for folder in (common[number], *study.folders):
            inside[folder].add(number)
    names = []
    for number, study in enumerate(studies):
        is_alone = all(inside[folder] == {number} for folder in (common[number], *study.folders))
        names.append(str(common[number]) if is_alone else file_name(study.files))
    return names


def common_folder(folders):
    """The deepest folder that contains some folders, which are Paths."""
    return next(iter(folders)) if len(folders) == 1 else Path(os.path.commonpath(folders))


def file_name(files):
    """Name of a study by its files: the first image, and how many more there are; not the name of another file."""
    name = str(next(filter(is_image, files)))
    if len(files) == 1:
        return name
    name += f" +{len(files) - 1}"
    while os.path.lexists(name):
        name += "+"
    return name


# ---------------------------------------------------------------------------------------------------------------------
# What is said of them


def report(studies):
    """Warn once of each way in which what is one study may not be what a user expects. Args: studies: {name: FoundStudy}."""
    counted, apart, spread = [], [], []
    for name, study in studies.items():
        shown, folder = printable(name), next(iter(study.folders))
        images = f"{study.unidentified} image{'s' * (study.unidentified > 1)} without a Study Instance UID"
        if study.beside > 1 and study.unidentified:
            where = f"{printable(folder)}: {images} beside DICOM files of {study.beside} studies"
            apart.append(f"{where} count as another study")
        # In MURA's layout a folder is one study by its name.
        elif study.unidentified > len(study.folders) and not Path(folder).resolve().name.lower().startswith("study"):
            counted.append(f"{shown}: {images} count as one study")
        if len(study.folders) > 1:
            spread.append(f"{shown}: files in {len(study.folders)} folders count as one study, by their Study Instance UID")
    for lines in (counted, apart, spread):
        if lines:
            log.warning("%s", lines[0] + f"; likewise {len(lines) - 1} more" * (len(lines) > 1))


# ---------------------------------------------------------------------------------------------------------------------
# Folders -> files


def folders(root):
    """The folders at and below one that contain images, in order, each with its files without system files.

    A link back to a parent folder is not followed; files in folders without images are skipped with a warning.
    """
    waiting = [(Path(root), ())]  # a stack, each with the device and inode of its parent folders
    while waiting:
        folder, above = waiting.pop()
        status = os.stat(folder)
        here = status.st_dev, status.st_ino
        if here in above:
            continue
        files, inner = [], []
        for entry in sorted_entries(folder):
            (inner if entry.is_dir() else files).append(entry)
        if any(is_image(file) for file in files):
            yield folder, files
        else:
            warn_not_an_image(files)
            if not inner:
                log.warning("%s contains no image and is skipped", printable(folder))
        waiting += [(entry, (*above, here)) for entry in inner[::-1]]


def warn_not_an_image(files):
    """Warn of each of some files that is skipped."""
    for file in files:
        log.warning("%s is not an image and is skipped", printable(file))

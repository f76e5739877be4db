"""Studies that a user names: images, and folders with images at or below them, as a table of views without labels."""

import logging
import os
from pathlib import Path

import pandas as pd

from bones.data.file_kinds import EXPECTED, is_image
from bones.data.layouts import sorted_entries
from bones.system.errors import DataError
from bones.system.files import printable

log = logging.getLogger(__name__)


def find(names):
    """Views of the studies that paths name.

    Args:
        names: images, each a study of its own, and folders: each folder at or below them that contains images is a study.
    Returns: pandas.DataFrame with path and study, the name of its folder or image, in order; labels in names are ignored.
        Other files beside images, such as reports, are among them, so that they are reported.
    Raises: DataError when a path is missing, or no image is found at or below one.
    """
    rows = []
    for name in names:
        path = Path(name)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; expected a study's folder, an image or a run folder.")
        if not path.is_dir():
            rows.append((str(path), name))
            continue
        found = [(str(file), str(folder)) for folder, inside in folders(path) for file in inside]
        if not found:
            raise DataError(f"{path} contains no image, nor does a folder below it; {EXPECTED}.")
        rows += found
    return pd.DataFrame(rows, columns=["path", "study"]).drop_duplicates()


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
            for file in files:
                log.warning("%s is not an image and is skipped", printable(file))
            if not inner:
                log.warning("%s contains no image and is skipped", printable(folder))
        waiting += [(entry, (*above, here)) for entry in inner[::-1]]

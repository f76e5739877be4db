"""Study Instance UIDs of DICOM files, which say what is one study: they are compared, and never printed or stored.

Source: DICOM PS3.3, C.7.2.1, https://dicom.nema.org/medical/dicom/current/output/html/part03.html.
"""

import os
from pathlib import Path

from PIL import Image  # the error on a bomb

from bones.data import dicom
from bones.data.dicom_elements import term
from bones.data.pixels import in_threads
from bones.system.errors import DicomError
from bones.system.files import printable

SHOWN = 3  # maximum studies that a line of `findings` names


def study_uid(path):
    """Study Instance UID of a file without padding; "" where it has none or is not DICOM, None where it cannot be read."""
    path = Path(path)
    try:
        if not path.is_file():  # opening a pipe would block
            return ""
        with path.open("rb") as file, dicom.hide_library_errors(dicom.DAMAGED_HEADER):
            if file.read(132)[128:] != dicom.MAGIC:
                return ""
            return term(dicom.read_header(file, ["StudyInstanceUID"], pixels=False), "StudyInstanceUID")
    except (DicomError, Image.DecompressionBombError, OSError):  # decoding reports the reason
        return None


def study_uids(paths):
    """[`study_uid`] of paths, in order, read in threads: a network's file system answers each late."""
    return list(in_threads(study_uid, paths, "Reading headers"))


def findings(images, paths):
    """Findings of `data_loader.py --check` where Study Instance UIDs and folders disagree.

    Args:
        images: table of `bones.data.check.examine`, whose paths begin at the data root.
        paths: the images' paths.
    Yields: (kind, title, details), see `bones.data.check.check`.
    """
    films = images[images["mode"] == "DICOM"]
    films = films.assign(uid=study_uids(paths[films.index]), folder=films["path"].map(os.path.dirname))
    films = films[films["uid"].fillna("") != ""]
    mixed = films.groupby("folder", sort=False)["uid"].agg(["nunique", "size"])
    mixed = mixed[mixed["nunique"] > 1]
    if len(mixed):
        details = [f"{printable(row.Index)}   {row.nunique} in {row.size} DICOM files" for row in mixed.itertuples()]
        yield "note", f"{len(mixed)} study folder{'s' * (len(mixed) > 1)} with several studies by Study Instance UID", details
    by_uid = films.groupby("uid", sort=False)
    spread = by_uid.agg(splits=("split", "nunique"), patients=("patient", "nunique"), folders=("folder", in_words))
    for kind, found, where in (
        ("WRONG", spread[spread["splits"] > 1], "in both splits: training images are scored"),
        (
            "note",
            spread[(spread["splits"] == 1) & (spread["patients"] > 1)],
            "of different patients, who may end up in training and in tuning",
        ),
    ):
        if len(found):
            studies = "1 study" if len(found) == 1 else f"{len(found)} studies"
            yield kind, f"{studies} by Study Instance UID {where}", list(found["folders"])


def in_words(folders):
    """The folders of one UID as text, some of them."""
    names = list(dict.fromkeys(map(printable, folders)))
    more = f" and {len(names) - SHOWN} more" * (len(names) > SHOWN)
    return " = ".join(names[:SHOWN]) + more

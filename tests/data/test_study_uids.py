"""Study Instance UIDs are compared whatever their padding, read without the pixels, and kept to this program."""

import os

import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, film, save
from pydicom import uid
from study_folders import write_image

import data_loader
from bones.data import dicom
from bones.data.studies import find
from bones.data.study_uids import study_uid, study_uids

UID = "1.2.826.0.1.3680043.10.1338.77"


def with_raw_uid(value, **options):
    """A film whose Study Instance UID is these bytes."""
    dataset = film(RAMP, **options, StudyInstanceUID=UID)
    element = dataset["StudyInstanceUID"]
    raw = pydicom.dataelem.RawDataElement(element.tag, "UI", len(value), value, 0, False, True)
    dataset["StudyInstanceUID"] = raw
    return dataset


@pytest.mark.parametrize("padding", [b"\0", b" ", b"\0\0\0"])
def test_padding_does_not_matter(padding, in_tmp):
    assert study_uid(save(with_raw_uid(UID.encode() + padding))) == UID


@pytest.mark.parametrize("value", [b"", b"\0\0", b"  "])
def test_an_empty_one_is_none(value, in_tmp):
    assert study_uid(save(with_raw_uid(value))) == ""


@pytest.mark.parametrize(
    "syntax",
    [uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian],
)
def test_any_transfer_syntax(syntax, in_tmp):
    assert study_uid(save(film(RAMP, syntax=syntax, StudyInstanceUID=UID))) == UID


def test_pixels_are_not_read(in_tmp):
    path = in_tmp / save(film(RAMP, StudyInstanceUID=UID))
    path.write_bytes(path.read_bytes()[:-6000])
    assert study_uid(path) == UID
    with path.open("rb") as file:
        dataset = dicom.read_header(file, ["StudyInstanceUID"], pixels=False)
    assert list(dataset.keys()) == [pydicom.datadict.tag_for_keyword("StudyInstanceUID")]


def test_what_has_none(in_tmp):
    write_image("film.png")
    (in_tmp / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    os.mkfifo("pipe.dcm")
    assert study_uids(["film.png", save(film(RAMP)), "pipe.dcm", "absent.dcm"]) == ["", "", "", ""]
    assert study_uid("damaged.dcm") is None


def test_a_damaged_header_and_a_missing_pydicom_leave_the_folder_one_study(in_tmp, caplog, monkeypatch):
    (in_tmp / "r").mkdir()
    for name in ("r/1.dcm", "r/2.dcm"):
        (in_tmp / name).write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    assert find(["r"])["study"].tolist() == ["r", "r"] and caplog.records == []
    for name, number in (("r/1.dcm", 1), ("r/2.dcm", 2)):
        save(film(RAMP, StudyInstanceUID=f"{UID}.{number}"), name)
    assert find(["r"])["study"].nunique() == 2

    def missing():
        raise dicom.DicomError("DICOM needs pydicom")

    monkeypatch.setattr(dicom, "library", missing)
    assert find(["r"])["study"].tolist() == ["r", "r"] and caplog.records == []


# data_loader.py --check


@pytest.mark.parametrize(
    ("shared", "status", "message", "detail"),
    [
        ({}, 0, None, None),
        (
            {"train2": 10, "train3": 10},
            0,
            "note  1 study by Study Instance UID of different patients",
            "train2/study1_negative = ",
        ),
        (
            {"train2": 10, "valid3": 10},
            1,
            "WRONG  1 study by Study Instance UID in both splits: training",
            " = valid/XR_HAND/valid3",
        ),
        (
            {"train2": None},
            0,
            "note  1 study folder with several studies by Study",
            "train2/study1_negative   2 in 2 DICOM files",
        ),
    ],
)
def test_the_check_compares_them_with_folders(shared, status, message, detail, in_tmp, capsys):
    """Four patients a split, of two DICOM files each; shared: patient -> number of the study, None for one a file."""
    rng = np.random.default_rng(0)
    for place in range(8):
        patient = f"{'train' if place < 4 else 'valid'}{place % 4}"
        folder = in_tmp / "root" / patient[:5] / "XR_HAND" / patient / f"study1_{'positive' if place % 2 else 'negative'}"
        folder.mkdir(parents=True)
        for view in (1, 2):
            number = shared.get(patient, place)
            name = f"{UID}.{20 + view if number is None else number}"
            save(film(rng.integers(0, 4096, (64, 64), np.uint16), StudyInstanceUID=name), folder / f"image{view}.dcm")
    assert data_loader.main(["--check", "root"]) == status
    out = capsys.readouterr().out.replace(os.sep, "/")
    assert UID not in out and out.count("by Study Instance UID") == bool(message)
    if message:
        assert message in out and detail in out

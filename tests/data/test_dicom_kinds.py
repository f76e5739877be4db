"""Objects beside radiographs in a study are left out with a word, wherever they may stand, and no radiograph is."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import RAMP, SHIPPED, film, read, save
from pydicom import uid
from tiny import TINY

import data_loader
import model_test
import mura
from bones.data import images
from bones.system.errors import NotARadiographError

CAPTURE = {"SOPClassUID": uid.SecondaryCaptureImageStorage}
NO_PIXELS = {"PixelData": None}
OTHERS = {
    "segmentation": ({"SOPClassUID": uid.SegmentationStorage}, "DICOM Segmentation"),
    "dose": ({"SOPClassUID": uid.XRayRadiationDoseSRStorage, **NO_PIXELS}, "DICOM X-Ray Radiation Dose SR"),
    "report": ({"SOPClassUID": uid.BasicTextSRStorage, **NO_PIXELS}, "DICOM Basic Text SR"),
    "presentation": ({"SOPClassUID": uid.GrayscaleSoftcopyPresentationStateStorage, **NO_PIXELS}, "Presentation State"),
    "key objects": ({"SOPClassUID": uid.KeyObjectSelectionDocumentStorage, **NO_PIXELS}, "DICOM Key Object Selection"),
    "document": ({"SOPClassUID": uid.EncapsulatedPDFStorage, **NO_PIXELS}, "DICOM Encapsulated PDF"),
    "structures": ({"SOPClassUID": uid.RTStructureSetStorage, **NO_PIXELS}, "DICOM RT Structure Set"),
    "raw": ({"PresentationIntentType": "FOR PROCESSING"}, "a detector's raw data"),
    "raw by class": ({"SOPClassUID": uid.DigitalXRayImageStorageForProcessing}, "a detector's raw data"),
    "dose sheet": ({**CAPTURE, "Modality": "DX", "SeriesDescription": "Dose Report"}, "a screen capture or dose sheet"),
    "without pixels": ({"SOPClassUID": "1.3.12.2.1107.5.9.1", **NO_PIXELS}, "a DICOM object without pixels"),
    "screen": ({**CAPTURE, "Modality": "OT", "ConversionType": "WSD"}, "a screen capture or dose sheet"),
}
RADIOGRAPHS = {
    "digitised": {**CAPTURE, "Modality": "OT", "ConversionType": "DF"},
    "scanned": {**CAPTURE, "Modality": "OT", "ConversionType": "SD"},
    "of a workstation": {**CAPTURE, "Modality": "CR", "ConversionType": "WSD"},
    "without a type": {**CAPTURE},
    "of a low dose": {**CAPTURE, "Modality": "CR", "ConversionType": "DF", "SeriesDescription": "Thorax low dose report"},
    "of a screening": {"Modality": "CR", "SeriesDescription": "Humerus screening, low dose"},
    "for presentation": {"PresentationIntentType": "FOR PRESENTATION"},
    "computed": {"SOPClassUID": uid.ComputedRadiographyImageStorage, "Modality": "CR"},
    "of radiotherapy": {"SOPClassUID": uid.RTImageStorage},
    "fluoroscopy": {"SOPClassUID": uid.XRayRadiofluoroscopicImageStorage},
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_radiograph(kind, in_tmp):
    elements, name = OTHERS[kind]
    with pytest.raises(NotARadiographError, match=name):
        images.read(save(film(RAMP, **elements)))


@pytest.mark.parametrize("kind", RADIOGRAPHS)
def test_what_is_one(kind, in_tmp):
    assert (read(film(RAMP, **RADIOGRAPHS[kind])) == read(film(RAMP))).all()


@pytest.fixture
def study(in_tmp):
    """A study of two different films."""
    Path("study").mkdir()
    save(film(RAMP), "study/film1.dcm")
    save(film(RAMP.T.copy()), "study/film2.dcm")
    return "study"


def call(run, study, capsys):
    """({name: columns} of the lines, what was printed to standard error)."""
    assert model_test.main([str(run), study]) == 0
    out, err = capsys.readouterr()
    return {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}, err


def test_a_study_is_classified_without_them(run, study, capsys):
    expected, _ = call(run, study, capsys)
    for number, (elements, _) in enumerate(OTHERS.values()):
        save(film(RAMP, **elements), f"study/other{number}.dcm")
    Path("study/notes.txt").write_text("left hand", encoding="utf-8")
    found, _ = call(run, study, capsys)
    assert {name: found[name] for name in list(expected)[:2]} == {name: expected[name] for name in list(expected)[:2]}
    assert found["study study"] == [*expected["study study"], f"{len(OTHERS) + 1} of {len(OTHERS) + 3} files left out"]
    assert found["study/other0.dcm"] == ["Left out", "-", "DICOM Segmentation"]
    assert found["study/notes.txt"][:2] == ["Left out", "-"]
    assert model_test.main([str(run), study, "--csv", "out.csv"]) == 0
    table = pd.read_csv("out.csv", keep_default_na=False)
    assert (table["decision"] == expected["study study"][0]).all() and (table["fault"] == "").all()
    assert table["note"].str.startswith("left out: ").sum() == len(OTHERS) + 1
    assert "study/other0.dcm: left out: DICOM Segmentation" in capsys.readouterr().err


def test_a_study_of_others_alone_is_told(run, in_tmp, capsys):
    save(film(RAMP, **OTHERS["segmentation"][0]), "mask.dcm")
    assert model_test.main([str(run), "mask.dcm"]) == 1
    out, err = capsys.readouterr()
    assert out == "mask.dcm\tLeft out\t-\tDICOM Segmentation\n" and "no file is a radiograph" in err


def test_in_training_and_in_the_check(small_root, in_tmp, capsys, caplog):
    study = next((small_root / "train").rglob("study1_positive"))
    save(film(RAMP, **OTHERS["segmentation"][0]), study / "mask.dcm")
    save(film(RAMP, **OTHERS["report"][0]), next((small_root / "valid").rglob("study1_positive")) / "report")
    arguments = ["--data", str(small_root), *TINY, "--epochs", "1", "--tuning-fraction", "0.3", "--out", "new"]
    assert mura.main(arguments) == 0
    assert "1 of 17 images" in caplog.text and "are no radiographs" in caplog.text
    assert "mask.dcm   DICOM Segmentation" in caplog.text
    assert model_test.main(["new"]) == 0
    assert "report   DICOM Basic Text SR" in caplog.text
    capsys.readouterr()
    data_loader.main(["--check", str(small_root)])
    assert "note  2 of 26 files are no radiographs and are left out" in capsys.readouterr().out


def test_one_frame_of_several_and_the_same_picture_twice_are_noted(run, study, capsys):
    shutil.copy("study/film1.dcm", "study/again.dcm")
    frames = np.stack([RAMP[::-1], RAMP])
    save(film(RAMP, NumberOfFrames=2, PixelData=frames.tobytes()), "study/frames.dcm")
    found, _ = call(run, study, capsys)
    assert found["study/film1.dcm"][2:] == ["the same picture as again.dcm"]
    assert found["study/frames.dcm"][2:] == ["frame 1 of 2"]
    assert len(found["study study"]) == 2, "all files count"


def test_the_directory_of_a_medium_is_none(in_tmp):
    with pytest.raises(NotARadiographError, match="a DICOM directory"):
        images.read(SHIPPED / "dicomdirtests" / "DICOMDIR")

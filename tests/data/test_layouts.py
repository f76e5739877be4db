"""The layouts that a data root may have, what is skipped in it, and what is refused."""

import os
import shutil

import pandas as pd
import pytest
from support import rename_study, write_study

from bones.data.views import find_views
from bones.system.errors import DataError


def test_root_forms(small_root):
    expected = find_views(small_root, "train")["label"].tolist()
    deep = small_root.parent / "unpacked"
    deep.mkdir()
    shutil.move(small_root, deep / "MURA-v1.1")
    (deep / "__MACOSX" / "train").mkdir(parents=True)
    assert find_views(deep, "train")["label"].tolist() == expected
    flat = deep / "MURA-v1.1"
    for split in ("train", "valid"):
        shutil.move(flat / split / "XR_HUMERUS", flat / "patients")
        (flat / split).rmdir()
        shutil.move(flat / "patients", flat / split)
    views = find_views(flat, "train")
    assert views["label"].tolist() == expected
    assert set(views["study_type"]) == {"XR_HUMERUS"}


def test_suffixes_types_and_order(tmp_path):
    root = tmp_path / "root"
    folder = write_study(root, "train", "study1_positive", images=11, patient="patient1")
    os.rename(folder / "image1.png", folder / "image1.JPG")
    write_study(root, "train", "study1_negative", patient="patient2", study_type="XR_ELBOW")
    views = find_views(root, "train", ["all"])
    assert set(views["study_type"]) == {"XR_HUMERUS", "XR_ELBOW"}
    humerus = views[views["study_type"] == "XR_HUMERUS"]["view"].tolist()
    assert humerus == ["image1.JPG"] + [f"image{view}.png" for view in range(2, 12)]


def test_strays_are_passed_over(small_root):
    before = find_views(small_root, "train")
    study = small_root / "train" / "XR_HUMERUS" / "patient00001" / "study1_positive"
    for name in ("._image1.png", ".DS_Store", "Thumbs.db"):
        (study / name).write_bytes(b"litter")
        (study.parent / name).write_bytes(b"litter")
    (small_root / "train" / "__MACOSX" / "patient00001" / "study1_broken").mkdir(parents=True)
    (small_root / "train" / ".ipynb_checkpoints").mkdir()
    pd.testing.assert_frame_equal(find_views(small_root, "train"), before)


def test_other_files_are_named(small_root, caplog):
    study = small_root / "train" / "XR_HUMERUS" / "patient00001" / "study1_positive"
    (study / "report.txt").write_text("normal")
    find_views(small_root, "train")
    assert "report.txt is not an image" in caplog.text


FAULTS = {
    "study name": (
        lambda root: rename_study(root, "study1_positive", "study1_pos"),
        "study1_pos: the name of a study folder ends in",
    ),
    "no train": (lambda root: shutil.rmtree(root / "train"), "contains no train/ folder"),
    "empty split": (
        lambda root: [shutil.rmtree(path) for path in (root / "train/XR_HUMERUS").iterdir()],
        "contains no views of XR_HUMERUS",
    ),
    "empty study": (
        lambda root: [path.unlink() for path in (root / "train/XR_HUMERUS/patient00001/study1_positive").iterdir()],
        "study1_positive contains no image",
    ),
    "one class": (
        lambda root: [shutil.rmtree(path) for path in root.glob("train/*/*/*_negative")],
        "all 8 views are positive",
    ),
    "patient twice": (
        lambda root: shutil.copytree(root / "train/XR_HUMERUS/patient00001", root / "valid/XR_HUMERUS/patient00001"),
        "1 patients are in both .*: patient00001",
    ),
    "loose image": (
        lambda root: (root / "train/XR_HUMERUS/patient00001/study1_positive/image1.png").rename(
            root / "train/XR_HUMERUS/patient00001/image1.png"
        ),
        "image1.png lies outside of a study folder",
    ),
    "no such folder": (shutil.rmtree, "is not a folder"),
    "other type": (
        lambda root: (root / "train/XR_HUMERUS").rename(root / "train/XR_HAND"),
        "contains no XR_HUMERUS; it contains XR_HAND",
    ),
    "mixed levels": (lambda root: (root / "train/patient00077").mkdir(), "mixes XR_.* folders with others"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_layout_faults(small_root, fault):
    make, message = FAULTS[fault]
    make(small_root)
    with pytest.raises(DataError, match=message):
        find_views(small_root, "train")


def test_root_hints(small_root, tmp_path):
    with pytest.raises(DataError, match=f"Did you mean --data {small_root}"):
        find_views(small_root / "train" / "XR_HUMERUS", "train")
    shutil.copytree(small_root, tmp_path / "second")
    with pytest.raises(DataError, match="several data roots"):
        find_views(tmp_path, "train")

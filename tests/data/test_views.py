"""The table of views of a split, and the fingerprint that tells two data sets apart."""

import os
import shutil
from pathlib import Path

import pytest
from support import rename_study, write_study

from bones.data.views import find_views, fingerprint, is_same, survey
from bones.system.errors import DataError


def test_table_of_views(small_root):
    views = find_views(small_root, "train")
    assert list(views.columns) == ["path", "split", "study_type", "patient", "study", "view", "label"]
    assert len(views) == 16
    assert views["label"].sum() == 8
    first = views.iloc[0]
    assert (first.study_type, first.patient, first.study, first.view) == (
        "XR_HUMERUS",
        "patient00001",
        "study1_positive",
        "image1.png",
    )
    assert first.split == "train" and first.label == 1
    assert set(find_views(small_root, "held-out")["split"]) == {"held-out"}


def test_real_counts(fracatlas):
    # Counts of the data's own README.
    train = find_views(fracatlas, "train", ["all"])
    valid = find_views(fracatlas, "held-out", ["all"])
    assert train["label"].value_counts().to_dict() == {0: 634, 1: 253}
    assert valid["label"].value_counts().to_dict() == {0: 511, 1: 186}
    assert train["patient"].nunique() + valid["patient"].nunique() == 465


def test_fingerprint_tells_data_apart(small_root, tmp_path):
    views = find_views(small_root, "train")
    moved = tmp_path / "elsewhere"
    shutil.copytree(small_root, moved)
    assert fingerprint(find_views(moved, "train"), moved) == fingerprint(views, small_root)
    rename_study(moved, "study1_positive", "study1_negative")
    assert fingerprint(find_views(moved, "train"), moved) != fingerprint(views, small_root)
    shutil.rmtree(moved)
    shutil.copytree(small_root, moved)
    last = find_views(moved, "train").iloc[-1]
    os.rename(last.path, last.path.replace("image2", "image3"))
    assert fingerprint(find_views(moved, "train"), moved)["sha256"] != fingerprint(views, small_root)["sha256"]


def test_fingerprint_tells_replaced_images_apart(small_root):
    views = find_views(small_root, "train")
    before = fingerprint(views, small_root)
    one, two = (Path(path) for path in views["path"][:2])
    one.rename("kept")
    two.rename(one)
    Path("kept").rename(two)
    after = fingerprint(views, small_root)
    assert {name for name in before if before[name] != after[name]} == {"content"}
    assert fingerprint(views.iloc[::-1], small_root) == after, "in any order"


def test_fingerprints_of_earlier_versions_have_fewer_keys(small_root):
    found = fingerprint(find_views(small_root, "train"), small_root)
    earlier = {name: found[name] for name in ("views", "sha256")}
    assert is_same(found, found) and is_same(earlier, found)
    assert not is_same(earlier | {"views": 1}, found) and not is_same(None, found) and not is_same({"other": 1}, found)


def test_a_root_of_one_split_is_surveyed(small_root):
    shutil.rmtree(small_root / "valid")
    views, faults = survey(small_root)
    assert len(views) == 16 and not faults


def test_fingerprint_has_the_labels(small_root):
    views = find_views(small_root, "train")
    for place in (0, len(views) - 1):
        changed = views.assign(label=[1 - label if row == place else label for row, label in enumerate(views["label"])])
        assert fingerprint(changed, small_root)["sha256"] != fingerprint(views, small_root)["sha256"], "of any view"


@pytest.mark.parametrize("study_types", [["XR_HAND"], ["all"], ["XR_HUMERUS", "XR_HAND"]])
def test_patients_in_both_splits_are_found(small_root, study_types):
    for split, label in (("train", "positive"), ("train", "negative"), ("valid", "positive"), ("valid", "negative")):
        patient = "patient00077" if label == "positive" else None
        write_study(small_root, split, f"study1_{label}", patient=patient, study_type="XR_HAND")
    for split in ("train", "held-out"):
        with pytest.raises(DataError, match=r"1 patients are in both .*: patient00077"):
            find_views(small_root, split, study_types)
    assert len(find_views(small_root, "train")) == 16, "of other study types"


def test_five_patients_in_both_splits_are_named(small_root):
    for patient in range(9, 16):
        write_study(small_root, "train", "study2_positive", patient=f"patient{patient:05d}")
        if patient > 12:
            write_study(small_root, "valid", "study1_positive", patient=f"patient{patient:05d}")
    with pytest.raises(DataError) as error:
        find_views(small_root, "train")
    assert str(error.value).startswith("7 patients are in both") and "patient00013, ..." in str(error.value)
    assert "patient00014" not in str(error.value)

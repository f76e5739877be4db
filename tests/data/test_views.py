"""The table of views of a split, and the fingerprint that tells two data sets apart."""

import shutil

from support import rename_study

from bones.data.views import find_views, fingerprint


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

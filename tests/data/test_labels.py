"""Corrections of labels from a file: they override folders' names, and files that are wrong are told."""

import pytest

from bones.data.labels import folder_labels
from bones.data.roots import data_roots
from bones.data.views import find_views
from bones.system.errors import DataError


def test_labels_override_folder_names(small_root, tmp_path):
    file = tmp_path / "labels.csv"
    studies = ["train/XR_HUMERUS/patient00001/study1_positive", "valid/XR_HUMERUS/patient00010/study1_negative"]
    for content in (
        f"study,label\n{studies[0]},0\n{studies[1]},1\n",
        f"probability,label,study\n0.1,negative,{studies[0]}\n0.9,Positive,{studies[1]}\n",
        f"MURA-v1.1/{studies[0]}/,0\nMURA-v1.1/{studies[1]}/,1\n",  # as MURA's own valid_labeled_studies.csv
        f" Study ,LABEL\n\n{studies[0].replace('/', chr(92))},0\n{studies[1]},1\n{studies[1]},1\n",
    ):
        file.write_text(content)
        for split, study, label in (("train", studies[0], 0), ("held-out", studies[1], 1)):
            views = find_views(small_root, split, labels=file)
            plain = find_views(small_root, split)
            corrected = views["path"].str.contains(study)
            assert set(views["label"][corrected]) == {label} != set(plain["label"][corrected])
            assert (views["label"] == plain["label"])[~corrected].all() and corrected.sum() == 2
            assert (folder_labels(views, data_roots(small_root)) == plain["label"]).all()


STUDY = "train/XR_HUMERUS/patient00001/study1_positive"


@pytest.mark.parametrize(
    ("content", "message"),
    (
        (None, "cannot be read: No such file"),
        ("", "is not a CSV table"),
        ("study,label\ntrain/XR_HUMERUS/patient99999/study1_positive,0\n", "line 2: .* is not a study folder"),
        ("patient00001,0\n", "line 1: 'patient00001' is not a study folder"),
        ("study,label\ntrain/XR_HUMERUS/patient00001,0\n", "line 2: .* is not a study folder"),
        ("study,label\ntrain,0\n", "line 2: 'train' is not a study folder"),
        (
            f"study,label\ntrain/XR_HUMERUS/../{STUDY},0\n".replace("train/XR_HUMERUS/../train", "train/../train"),
            "not a study folder",
        ),
        ("study,label\ntrain/" + "x" * 5000 + "_positive,0\n", "line 2: .* is not a study folder"),
        (f"study,label\n\n\n{STUDY},maybe\n", "line 4: 'maybe' is not a label"),
        (f"study,label\n{STUDY},\n", "line 2: '' is not a label"),
        (f"study,label\n{STUDY},0\n{STUDY},1\n", "line 3: .* has another label in an earlier line"),
        (f"{STUDY}\n", "has 1 columns"),
        (f"a,b,c\n{STUDY},0,1\n", "has 3 columns and no header"),
        ("\0\1\xff", "not a study folder|columns|is not a CSV table"),
    ),
)
def test_faults_of_label_files(content, message, small_root, tmp_path):
    if content is not None:
        (tmp_path / "labels.csv").write_text(content, encoding="latin-1")
    with pytest.raises(DataError, match=message):
        find_views(small_root, "train", labels=tmp_path / "labels.csv")


def test_corrections_that_leave_one_class_are_told(small_root, tmp_path):
    studies = [path.relative_to(small_root) for path in (small_root / "train").glob("*/*/*_negative")]
    (tmp_path / "labels.csv").write_text("study,label\n" + "".join(f"{study},1\n" for study in studies))
    with pytest.raises(DataError, match="all 16 views are positive"):
        find_views(small_root, "train", labels=tmp_path / "labels.csv")


def test_a_file_with_the_name_of_a_study_is_none(small_root, tmp_path):
    (small_root / "train" / "XR_HUMERUS" / "note_positive").write_text("")
    (tmp_path / "labels.csv").write_text("study,label\ntrain/XR_HUMERUS/note_positive,0\n")
    with pytest.raises(DataError, match="is not a study folder"):
        find_views(small_root, "train", labels=tmp_path / "labels.csv")

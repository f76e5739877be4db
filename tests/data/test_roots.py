"""Several data roots used as one: names, patients, paths, labels, the check, and what is refused."""

import shutil

import pytest
from support import write_study

from bones.data import check, roots
from bones.data.splits import split_by_patient
from bones.data.views import find_views, fingerprint, survey
from bones.system.errors import DataError


@pytest.fixture
def pair(small_root):
    """`small_root` and a root with patients of the same names and another study type."""
    other = small_root.parent / "clinic"
    for split, first, count in (("train", 1, 8), ("valid", 9, 4)):
        for patient in range(first, first + count):
            name = f"study1_{'positive' if patient % 2 else 'negative'}"
            write_study(other, split, name, patient=f"patient{patient:05d}", study_type="XR_LEG")
    return [small_root, other]


def test_patients_of_equal_name_are_different(pair):
    views = find_views(pair, "train", ["all"])
    assert views["patient"].nunique() == 16 and len(views) == 16 + 8
    assert {*views["patient"].str.rpartition("/")[0]} == {"MURA-v1.1", "clinic"}
    train, tuning = split_by_patient(views, 0.3, seed=0)
    assert not {*train["patient"]} & {*tuning["patient"]}
    assert find_views(pair[0], "train")["patient"].iloc[0] == "patient00001", "one root has no name"


def test_a_study_type_may_be_in_one_root_alone(pair):
    assert {*find_views(pair, "train", ["XR_LEG", "XR_HUMERUS"])["study_type"]} == {"XR_LEG", "XR_HUMERUS"}
    with pytest.raises(DataError, match="contains no XR_HAND"):
        find_views(pair, "train", ["XR_HUMERUS", "XR_HAND"])


def test_a_root_without_the_split_adds_nothing_to_it(pair):
    shutil.rmtree(pair[1] / "valid")
    assert {*find_views(pair, "held-out", ["all"])["study_type"]} == {"XR_HUMERUS"}
    with pytest.raises(DataError, match="contains no valid/ folder"):
        find_views(pair[1], "held-out", ["all"])


def test_names_tell_roots_apart(small_root, tmp_path):
    for place in ("a/mura", "b/mura"):
        shutil.copytree(small_root, tmp_path / place)
    assert [*roots.data_roots([tmp_path / "a", tmp_path / "b" / "mura"])] == ["a/mura", "b/mura"]
    assert [*roots.data_roots([small_root])] == [""] == [*roots.data_roots(small_root)]
    assert roots.in_words([small_root, tmp_path / "a"]) == "MURA-v1.1 + a"


def test_a_root_named_twice_is_refused(small_root):
    with pytest.raises(DataError, match="named twice"):
        roots.data_roots([small_root, small_root / ".." / small_root.name])


def test_fingerprints_depend_on_the_root_of_each_view(pair):
    views = find_views(pair, "train", ["all"])
    assert fingerprint(views, pair)["patients"] == 16
    one = find_views(pair[0], "train")
    assert fingerprint(one, pair[0]) == fingerprint(one, [pair[0]])


def test_labels_are_corrected_in_the_root_that_is_named(pair, tmp_path):
    for root in pair:  # the same study in both
        write_study(root, "train", "study2_positive", patient="patient00001", study_type="XR_WRIST")
    file = tmp_path / "labels.csv"
    study = "train/XR_WRIST/patient00001/study2_positive"
    file.write_text(f"study,label\nclinic/{study},0\ntrain/XR_LEG/patient00001/study1_positive,0\n")
    views = find_views(pair, "train", ["all"], labels=file).set_index(["patient", "study"])["label"]
    assert views["clinic/patient00001"].tolist() == [0, 0] and views["MURA-v1.1/patient00001", "study2_positive"].all()
    file.write_text(f"study,label\n{study},0\n")
    with pytest.raises(DataError, match=r"in several data roots: MURA-v1\.1, clinic"):
        find_views(pair, "train", ["all"], labels=file)


def test_the_check_counts_each_root(pair):
    views, faults = survey(pair)
    assert not faults and len(views) == 24 + 12
    report, wrong = check.check_root(pair)
    lines = report.splitlines()
    assert f"{pair[0]}, {pair[1]}" == lines[0] and lines[2].split()[0] == "root"
    assert any(line.split()[:3] == ["clinic", "train", "XR_LEG"] for line in lines)
    assert "clinic/train/XR_LEG" in report, "byte-identical images are named with their root"
    assert "patient is in several splits" not in report and "patients are in several splits" not in report
    assert wrong, "all images of write_study are equal"


def test_a_patient_in_both_splits_of_a_root_is_refused(pair):
    write_study(pair[1], "valid", "study1_negative", patient="patient00001", study_type="XR_LEG")
    with pytest.raises(DataError, match="1 patients are in both"):
        find_views(pair, "train", ["all"])
    assert "1 patient is in several splits" in check.check_root(pair)[0]

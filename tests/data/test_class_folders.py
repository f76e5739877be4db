"""Data sets with one folder a class: splits, labels by names, unknown patients, and what is refused."""

import shutil

import pytest
from study_folders import write_image

from bones.data import check, roots
from bones.data.class_names import class_labels, label_of_name
from bones.data.source import Source
from bones.data.splits import split_by_patient
from bones.data.views import find_views, survey
from bones.system.errors import DataError


def class_set(root, splits=("train", "test"), classes=("normal", "fractured"), images=4):
    """A data set of class folders. Returns: its Source."""
    for split in splits:
        for name in classes:
            for number in range(images):
                write_image(f"{root}/{split}/{name}/{number}.png".replace("//", "/"))
    return Source((str(root),), "classes")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *[(name, 0) for name in ("Non_fractured", "not fractured", "NORMAL", "no-finding", "unfractured", "nonfractured", "0")],
        *[(name, 1) for name in ("Fractured", "abnormal", "1", "Positive", "XR_fracture", "broken bones")],
        *[(name, None) for name in ("group A", "knotty", "north", "notes", "cat", "10", "Non-displaced fracture")],
    ],
)
def test_names_that_say_a_label(name, label):
    assert label_of_name(name) == label


def test_one_of_two_names_is_enough_and_others_are_asked_for():
    assert class_labels(["sick", "healthy"], None, "x") == {"sick": 1, "healthy": 0}
    assert class_labels(["cats", "dogs"], "Dogs ", "x") == {"cats": 0, "dogs": 1}
    for names in (["cats", "dogs"], ["fractured", "broken"], ["normal", "healthy"]):
        with pytest.raises(DataError, match="Pass the name of the positive one as --positive NAME"):
            class_labels(names, None, "x")
    with pytest.raises(DataError, match="classes are cats, dogs; expected two, of which --positive birds is one"):
        class_labels(["cats", "dogs"], "birds", "x")
    with pytest.raises(DataError, match="expected two"):
        class_labels(["cats", "dogs", "birds"], "birds", "x")
    with pytest.raises(DataError, match=r"3 classes are there \(fractured, normal, pets\).*\nMerge them into two"):
        class_labels(["normal", "fractured", "pets"], None, "x")


@pytest.mark.parametrize(
    ("splits", "train", "held_out"),
    [
        (("train", "test"), {"train"}, 8),
        (("Train", "VAL"), {"train"}, 8),
        (("train", "valid", "test"), {"train", "tuning"}, 8),
        (("training", "validation", "testing"), {"train", "tuning"}, 8),
        (("",), {"train"}, 0),
        (("only_folder/train", "only_folder/test"), {"train"}, 8),
    ],
)
def test_names_of_splits(splits, train, held_out, in_tmp):
    source = class_set("set", splits)
    views = find_views(source, "train")
    assert {*views["split"]} == train and (views["label"] == views["path"].str.contains("fractured")).all()
    assert views["patient"].nunique() == len(views) == 8 * len(train) and not views["patient"].str.contains("/").any()
    assert {*views["study_type"]} == {"XR_HUMERUS"}
    assert (
        len(find_views(source, "held-out")) == held_out
        if held_out
        else not roots.with_split(roots.data_roots(source), "held-out")
    )
    fractions = split_by_patient(views, 0.5, seed=0)
    assert {*fractions[0]["split"]} == {"train"} and {*fractions[1]["split"]} == {"tuning"}
    if len(train) == 2:
        assert fractions[1]["path"].str.contains("val").all() and not fractions[0]["path"].str.contains("val").any()
    assert not roots.has_patients(roots.data_roots(source))


def test_images_of_folders_below_a_class_belong_to_it(in_tmp):
    source = class_set("set")
    write_image("set/train/fractured/from_2021/0.png")
    assert len(find_views(source, "train")) == 9


def test_a_set_without_splits_is_scored_whole(in_tmp):
    source = Source((class_set("set", ("",)).paths), "classes", unsplit="held-out")
    assert len(find_views(source, "held-out")) == 8


def test_what_is_refused(in_tmp):
    source = class_set("set")
    write_image("set/train/loose.png")
    with pytest.raises(DataError, match=r"loose.png is in no class's folder"):
        find_views(source, "train")
    with pytest.raises(DataError, match="is not a folder"):
        find_views(Source(("absent",), "classes"), "train")
    (in_tmp / "empty").mkdir()
    with pytest.raises(DataError, match="contains no folder"):
        find_views(Source(("empty",), "classes"), "train")
    with pytest.raises(DataError, match="--labels corrects labels in the names of study folders"):
        find_views(class_set("other"), "train", labels="labels.csv")
    with pytest.raises(DataError, match="names no study types"):
        find_views(class_set("other"), "train", ["XR_HAND", "XR_WRIST"])


def test_without_the_option_it_is_named(in_tmp, small_root):
    class_set("set", classes=("Fractured", "Not fractured"))
    with pytest.raises(DataError, match=r"one folder for each class \(Fractured, Not fractured\).*\nPass --layout classes"):
        find_views("set", "train")
    with pytest.raises(DataError, match="Pass --layout classes"):
        survey("set")
    find_views(small_root, "train")
    for studies in ("study1_positive", "study1_negative"):  # of one patient, named as a root
        write_image(f"patient1/{studies}/image1.png")
    with pytest.raises(DataError, match="contains neither train/ nor valid/"):
        find_views("patient1", "train")
    with pytest.raises(DataError, match=r"is a file; .* Pass a table of images as --table"):
        find_views(next(small_root.rglob("*.png")), "train")


@pytest.mark.parametrize("deeper", ["archive/Bone set", "images"])
def test_it_is_named_also_where_classes_are_deeper_or_missing(deeper, in_tmp):
    class_set(f"set/{deeper}", classes=("fractured/2021", "healthy/2021"))
    shutil.rmtree(f"set/{deeper}/test/healthy")
    with pytest.raises(DataError, match="Pass --layout classes"):
        survey("set")


def test_splits_inside_classes_are_refused(in_tmp):
    class_set("set", ("fractured", "normal"), ("train", "test"))
    with pytest.raises(DataError, match="Pass --layout classes"):
        survey("set")
    source, message = (
        Source(("set",), "classes"),
        r"fractured contains test/ and train/, but splits have to be above the classes",
    )
    with pytest.raises(DataError, match=message):
        find_views(source, "train")
    with pytest.raises(DataError, match=message):
        check.check_root(source)


def test_what_is_read_is_said(in_tmp):
    source = class_set("set", ("train", "val", "valid", "test", "annotations"), ("Fx", "no Fx"))
    said = " ".join(roots.notes(roots.data_roots(source)))
    assert "positive is Fx; negative is no Fx" in said and "the images in val/ and valid/ are for tuning" in said
    assert "annotations/ beside train/, test/, val/, valid/ is not read" in said


def test_a_set_without_held_out_images_is_told(in_tmp):
    with pytest.raises(DataError, match=r"no folder test/ or val/.*--split tuning"):
        find_views(class_set("set", ("train",)), "held-out")


def test_the_check_counts_them(in_tmp):
    report, wrong = check.check_root(class_set("set", ("train", "val", "test")))
    assert "note  set: patients are unknown" in report and "the images in val/ are for tuning" in report
    assert "tuning" in report and wrong  # copies of one image in different splits

"""Tables of images: columns that are there or missing, spreadsheets' forms, and one line for each fault."""

import pandas as pd
import pytest
from study_folders import write_image

from bones.data import check, roots
from bones.data.labels import study_paths
from bones.data.source import Source
from bones.data.splits import split_by_patient
from bones.data.views import find_views, fingerprint
from bones.system.errors import BonesError, DataError

KINDS, SPLITS = ["XR_HAND", "XR_HIP", "XR_HIP", "XR_HIP"] * 3, ["train"] * 8 + ["test"] * 4
FULL = "path,label,patient,study,split,study_type\n" + "".join(
    f"films/{number}.png,{number % 2},p{number // 2},s{number},{split},{kind}\n"
    for number, (split, kind) in enumerate(zip(SPLITS, KINDS, strict=True))
)
PLAIN = "path,label\n" + "".join(f"films/{number}.png,{number % 2}\n" for number in range(12))


@pytest.fixture(autouse=True)
def films(in_tmp):
    for number in range(12):
        write_image(f"films/{number}.png")


def table(text, name="table.csv", encoding="utf-8", **more):
    """The Source of a table with this text."""
    with open(name, "w", encoding=encoding, newline="") as file:
        file.write(text)
    return Source((name,), "table", **more)


def notes(source):
    """All that its missing columns mean."""
    return " ".join(roots.notes(roots.data_roots(source)))


def test_every_column(in_tmp):
    source = table(FULL)
    views = find_views(source, "train", ["all"])
    assert len(views) == 8 and views["patient"].nunique() == 4 and {*views["study"]} == {f"s{number}" for number in range(8)}
    assert len(find_views(source, "held-out", ["XR_HIP"])) == 3 and notes(source) == ""
    assert fingerprint(views, source)["studies"] == 8 and roots.has_patients(roots.data_roots(source))
    with pytest.raises(BonesError, match=r"no train rows of XR_WRIST \(found: 2 train XR_HAND, 6 train XR_HIP"):
        find_views(source, "train", ["XR_WRIST"])


def test_missing_columns_are_said():
    source = table(PLAIN)
    views = find_views(source, "train", ["all"])
    assert views["patient"].nunique() == len(views) == 12 and {*views["study_type"]} == {"XR_UNKNOWN"}
    said = notes(source)
    assert "no column patient: patients are unknown, and each image counts as a patient of its own" in said
    assert (
        "no column study:" in said
        and "no column study_type:" in said
        and "no column split: all 12 images are for training" in said
    )
    assert study_paths(views, roots.data_roots(source))[0] == "films/0.png"
    scored = table(PLAIN, unsplit="held-out")
    assert len(find_views(scored, "held-out", ["all"])) == 12 and "all 12 images are scored" in notes(scored)
    assert "columns without effect: age, note" in notes(
        table(PLAIN.replace("label", "label,Age,note").replace(",0\n", ",0,1,x\n").replace(",1\n", ",1,2,y\n"))
    )


def test_studies_without_patients_are_kept_together():
    rows = [f"films/{number}.png,{number // 2 % 2},s{number // 2}" for number in range(12)]
    source = table("\n".join(["path,label,study", *rows]))
    views = find_views(source, "train", ["all"])
    assert views["patient"].nunique() == views["study"].nunique() == 6
    assert "each study counts as a patient of its own" in notes(source)


def test_studies_of_both_labels_are_divided_into_images():
    rows = [f"films/{number}.png,{number % 2},p{number // 4},s{number // 4}" for number in range(12)]
    source = table("\n".join(["path,label,patient,study", *rows]))
    views = find_views(source, "train", ["all"])
    assert views["study"].nunique() == 12 and views["patient"].nunique() == 3
    assert "3 studies have images of both labels, so each image counts as a study of its own" in notes(source)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("form", [("\n", ","), ("\r\n", ","), ("\r\n", ";"), ("\n", "\t")])
def test_forms_that_spreadsheets_write(encoding, form):
    text = FULL.replace("\n", form[0]).replace(",", form[1])
    source = table(text, encoding=encoding)
    assert find_views(source, "train", ["all"])["label"].to_list() == [0, 1] * 4


@pytest.mark.parametrize(
    ("words", "labels"),
    [("normal abnormal", [0, 1]), ("0.0 1.0", [0, 1]), ("False True", [0, 1]), ("Fracture No_fracture", [1, 0])],
)
def test_labels_in_words(words, labels):
    frame = pd.DataFrame({" Path ": [f"films\\{n}.png" for n in range(12)], "LABEL": words.split() * 6})
    views = find_views(table(frame.to_csv(index=False)), "train", ["all"])
    assert views["label"].to_list() == labels * 6


def test_three_splits():
    rows = [
        f"films/{number}.png,{number % 2},{split}"
        for number, split in zip(range(12), ["train", "train", "val", "val", "TEST", "test"] * 2, strict=True)
    ]
    source = table("\n".join(["path,label,split", *rows]))
    assert [*find_views(source, "train", ["all"])["split"]] == ["train", "train", "tuning", "tuning"] * 2
    assert len(find_views(source, "held-out", ["all"])) == 4 and "for tuning" in notes(source)
    source = table("\n".join(["path,label,split", *rows]).replace("TEST", "train").replace("test", "train"))
    assert len(find_views(source, "held-out", ["all"])) == 4, "validation is held out where there is no test"


def changed(*pairs):
    """PLAIN with texts replaced."""
    text = PLAIN
    for before, after in pairs:
        text = text.replace(before, after)
    return text


FAULTS = [
    (changed(("label", "outcome")), "has no column label; it has path, outcome"),
    (changed(("path,label", "a,b")), "has no column path and no column label"),
    (changed(("path,label", "path,label,Path"), (",1\n", ",1,x\n"), (",0\n", ",0,x\n")), "several columns path"),
    ("path,label\n", "has no rows"),
    ("", "is not a CSV table"),
    (f"{PLAIN}films/13.png,1\n", r"1 row whose file does not exist \(line 14: films/13.png\)"),
    (f"{PLAIN}films,1\n", "whose path is a folder; name its images"),
    (f"{PLAIN}films/../films/0.png,1\n", "lines 2 and 14: both name .*0.png, with the labels 0 and 1"),
    (f"{PLAIN}films/0.png,0\n", "lines 2 and 14: both name .*0.png, with the same label"),
    (f"{PLAIN}\n\nfilms/0.png,\n", r"1 row without a label \(line 16"),
    (f"{PLAIN},1\n", "1 row without a path"),
    (f"{PLAIN}films/0.png,1,2,3\n", "Expected 2 fields in line 14, saw 4"),
    (changed((",1\n", ",maybe\n"), (",0\n", ",perhaps\n")), "classes are maybe, perhaps, and their names do not say"),
    (changed(("label", "label,split"), ("0\n", "0,train\n"), ("1\n", "1,here\n")), "with a split other than train"),
    (changed(("label", "label,patient,split"), ("0\n", "0,p,train\n"), ("1\n", "1,p,test\n")), "1 patients are in both splits"),
]


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_one_message_for_each_fault(text, message):
    with pytest.raises(BonesError, match=message):
        find_views(table(text), "train", ["all"])


def test_a_table_that_is_missing_or_a_folder():
    for path, message in (("absent.csv", "cannot be read: No such file"), ("films", "cannot be read: Is a directory")):
        with pytest.raises(BonesError, match=message):
            find_views(Source((path,), "table"), "train")


def test_tables_used_together(in_tmp):
    sources = [table(PLAIN, "one.csv"), table(PLAIN.replace("films", "more"), "two.csv")]
    for number in range(12):
        write_image(f"more/{number}.png")
    both = Source(tuple(path for source in sources for path in source.paths), "table")
    views = find_views(both, "train", ["all"])
    assert views["patient"].nunique() == 24 and {*views["patient"].str.partition("/")[0]} == {"one.csv", "two.csv"}
    assert fingerprint(views, both)["views"] == 24
    assert roots.path_in_roots("more/3.png", roots.data_roots(both)) == "two.csv/more/3.png"


def test_tables_that_share_images_or_patients_are_refused(in_tmp):
    rows = FULL.splitlines(keepends=True)
    first = table("".join(rows[:9]), "train.csv")

    def both(text):
        return Source((*first.paths, *table(text, "test.csv").paths), "table")

    with pytest.raises(DataError, match=r"train.csv, line 9, and test.csv, line 2: both name .*films/7.png\. Keep one row"):
        find_views(both(rows[0] + rows[8]), "held-out", ["all"])
    seen = "".join(row.replace(",p4,", ",p3,") for row in rows[9:])
    with pytest.raises(DataError, match=r"1 patients are in both train.csv \(train rows\) and test.csv \(held-out rows\): p3"):
        find_views(both(rows[0] + seen), "held-out", ["all"])
    assert len(find_views(both(rows[0] + "".join(rows[9:])), "held-out", ["all"])) == 4


def test_what_its_labels_mean_is_said():
    text = PLAIN.replace(",0\n", ",intact\n").replace(",1\n", ",broken\n")
    assert "positive is broken; negative is intact" in notes(table(text))
    decimal = table(PLAIN.replace(",0\n", ",0.0\n").replace(",1\n", ",1.0\n"), positive="1.0")
    assert find_views(decimal, "train", ["all"])["label"].sum() == 6


def test_a_table_of_another_encoding_is_told():
    write_image("films/f\u00fcnf.png")
    with pytest.raises(BonesError, match="the table is not UTF-8; save it as CSV UTF-8"):
        find_views(table(f"{PLAIN}films/f\u00fcnf.png,1\n", encoding="cp1252"), "train", ["all"])


def test_a_validation_split_of_one_class_is_told():
    rows = [f"films/{number}.png,{number % 2},{'val' if number in (1, 3) else 'train'}\n" for number in range(8)]
    rows += [f"films/{number}.png,{number % 2},test\n" for number in range(8, 12)]
    source = table("path,label,split\n" + "".join(rows))
    with pytest.raises(DataError, match=r"tuning part lacks a class .*the data name 2 patients for tuning.*name others"):
        split_by_patient(find_views(source, "train", ["all"]), 0.1, seed=0)
    report, wrong = check.check_root(source)
    assert wrong and "WRONG  all 2 tuning views of XR_UNKNOWN are positive" in report and "valid/" not in report

"""Studies without labels that are found at and below what a user names."""

import os
import shutil
from pathlib import Path

import pytest
from dicom_files import RAMP, film, save
from PIL import Image
from study_folders import rows_of, write_image

from bones.data.studies import find
from bones.system.errors import DataError


def test_studies_are_folders_with_images_however_deep(in_tmp, caplog):
    for path in ("r/image1.png", "r/p10/s/1.JPG", "r/p2/s/image10.png", "r/p2/s/image9.jpeg", "r/p2/s/deep/er/x.dcm"):
        write_image(path)
    for stray in ("r/p2/s/._image1.png", "r/.DS_Store", "r/__MACOSX/s/image1.png", "r/p2/s/Thumbs.db"):
        write_image(stray)
    Path("r/empty").mkdir()
    expected = [
        ("r", "r/image1.png"),
        ("r/p2/s", "r/p2/s/image9.jpeg"),
        ("r/p2/s", "r/p2/s/image10.png"),
        ("r/p2/s/deep/er", "r/p2/s/deep/er/x.dcm"),
        ("r/p10/s", "r/p10/s/1.JPG"),
    ]
    assert rows_of(find(["r"])) == expected
    assert [record.getMessage() for record in caplog.records] == [
        "r/empty contains no image and is skipped",
        "r/p2/s: 2 images without a Study Instance UID count as one study",
    ]
    caplog.clear()
    Path("r/p2/s/report.txt").touch()
    Path("r/p10/notes.txt").touch()
    assert rows_of(find(["r"])) == [*expected[:3], ("r/p2/s", "r/p2/s/report.txt"), *expected[3:]]
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["r/empty", "r/p10/notes.txt", "r/p2/s:"]


@pytest.mark.parametrize(
    "name", ["IM1.dicom", "IM1.ima", "IM1", "1.2.826.0.1.3680043.10.1338.1.1.1", "x.tif", "x.bmp", "x.WEBP", "x.jp2"]
)
def test_what_is_an_image(name, in_tmp):
    write_image("r/p/image1.png")
    Path("r/p", name).write_bytes(bytes(128) + b"DICM")
    Path("r/alone").mkdir()
    Path("r/alone", name).write_bytes(bytes(128) + b"DICM")
    expected = [("r/alone", f"r/alone/{name}"), ("r/p", "r/p/image1.png"), ("r/p", f"r/p/{name}")]
    assert sorted(rows_of(find(["r"]))) == sorted(expected)


def test_images_without_an_ending(in_tmp):
    for form in ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "JPEG2000"):
        Path("r", form).mkdir(parents=True)
        Image.new("L", (20, 20), 90).save(Path("r", form, "IMG0001"), format=form)
    assert len(find(["r"])) == 6


def test_a_dicom_medium(in_tmp, caplog):
    for name in ("DICOMDIR", "DICOM/PA1/ST1/SE1/IM1", "DICOM/PA1/ST1/SE1/IM2"):
        Path("cd", name).parent.mkdir(parents=True, exist_ok=True)
        Path("cd", name).write_bytes(bytes(128) + b"DICM")
    Path("cd/README.TXT").touch()
    folder = "cd/DICOM/PA1/ST1/SE1"
    assert rows_of(find(["cd"])) == [(folder, f"{folder}/IM1"), (folder, f"{folder}/IM2")]
    assert [record.getMessage() for record in caplog.records] == ["cd/README.TXT is not an image and is skipped"]


def test_a_folder_with_the_name_of_an_image_is_a_folder(in_tmp):
    write_image("r/1.2.840.dcm/image1.png")
    write_image("r/a.png")
    assert rows_of(find(["r"])) == [("r", "r/a.png"), ("r/1.2.840.dcm", "r/1.2.840.dcm/image1.png")]


def test_links(in_tmp):
    write_image("r/a/image1.png")
    write_image("elsewhere/s/image1.png")
    Path("r/a/up").symlink_to("..")
    Path("r/loop").symlink_to("loop")
    Path("r/z").symlink_to("../elsewhere")
    Path("r/a/image2.png").symlink_to("image1.png")
    Path("r/self").symlink_to(".")
    found = rows_of(find(["r"]))
    assert found == [("r/a", "r/a/image1.png"), ("r/a", "r/a/image2.png"), ("r/z/s", "r/z/s/image1.png")]
    # A link to another folder of the tree is a folder of its own.
    Path("r/b").symlink_to("a")
    assert ("r/b", "r/b/image1.png") in rows_of(find(["r"]))


def test_folders_a_thousand_deep(in_tmp):
    here = Path.cwd()
    for _ in range(1200):
        os.mkdir("d")
        os.chdir("d")
    write_image("image1.png")
    os.chdir(here)
    assert len(find(["d"])) == 1
    shutil.move("d" + "/d" * 600, "half")  # pytest's own clearing recurses
    shutil.move("d" + "/d" * 300, "quarter")
    shutil.move("half" + "/d" * 300, "last")


def test_odd_names_are_found(in_tmp):
    names = ["new\nline", "quo\"te's", "tab\there", b"latin\xe4".decode(errors="surrogateescape"), "-v", "骨", "a,b"]
    for name in names:
        write_image(f"r/{name}/{name}.png")
    assert {study for study, _ in rows_of(find(["r"]))} == {f"r/{name}" for name in names}


def test_named_twice_is_called_once_and_images_are_studies_of_their_own(in_tmp):
    write_image("r/a/image1.png")
    write_image("r/b/image1.png")
    expected = [("r/a", "r/a/image1.png"), ("r/b", "r/b/image1.png"), ("r/b/image1.png", "r/b/image1.png")]
    assert rows_of(find(["r", "r/a", "r/b/", "r/b/image1.png"])) == expected


@pytest.mark.parametrize(("name", "message"), [("absent", "no such file or folder"), ("empty", "contains no image")])
def test_nothing_to_find(name, message, in_tmp):
    write_image("r/a/image1.png")
    Path("empty/inner").mkdir(parents=True)
    Path("empty/inner/notes.txt").touch()
    with pytest.raises(DataError, match=f"^{name}.*{message}"):
        find(["r", name])


# ---------------------------------------------------------------------------------------------------------------------
# DICOM by Study Instance UID


def write_dicom(path, uid):
    """A DICOM file of a study; uid None: without one."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    elements = {} if uid is None else {"StudyInstanceUID": uid}
    return save(film(RAMP, **elements), path)


def messages(caplog):
    """What was reported, without the numbers of a UID."""
    found = [record.getMessage() for record in caplog.records]
    assert not any("1.2.826" in message for message in found)
    return found


A, B, C = (f"1.2.826.0.1.3680043.10.1338.{number}" for number in (1, 2, 3))


def test_a_flat_folder_is_several_studies(in_tmp, caplog):
    for name, uid in (("f01.dcm", A), ("f02.dcm", B), ("f03.dcm", B), ("f04", C), ("f10.dcm", A)):
        write_dicom(f"flat/{name}", uid)
    two, one = "flat/f01.dcm +1", "flat/f02.dcm +1"
    expected = [(two, "flat/f01.dcm"), (two, "flat/f10.dcm"), (one, "flat/f02.dcm"), (one, "flat/f03.dcm")]
    assert rows_of(find(["flat"])) == [*expected, ("flat/f04", "flat/f04")]
    assert rows_of(find(["flat", "flat"])) == rows_of(find(["flat"])) and messages(caplog) == []
    # An image that is named is a study of its own.
    assert rows_of(find(["flat", "flat/f01.dcm"]))[-1] == ("flat/f01.dcm", "flat/f01.dcm")


def test_a_folder_of_one_study_keeps_its_name(in_tmp, caplog):
    for name in ("r/p1/IM1", "r/p1/IM2"):
        write_dicom(name, A)
    write_image("r/p1/IM1.png")  # a preview
    Path("r/p1/report.txt").touch()
    write_dicom("r/p2/IM1", B)
    found = find(["r"])
    assert rows_of(found) == [("r/p1", f"r/p1/{name}") for name in ("IM1", "IM1.png", "IM2", "report.txt")] + [
        ("r/p2", "r/p2/IM1")
    ]
    assert messages(caplog) == []


def test_series_folders_are_one_study(in_tmp, caplog):
    for name in ("ST1/SE1/IM1", "ST1/SE1/IM2", "ST1/SE2/IM1"):
        write_dicom(f"cd/DICOM/{name}", A)
    write_dicom("cd/DICOM/ST2/SE1/IM1", B)
    write_dicom("cd/DICOMDIR", None)
    studies = find(["cd"]).groupby("study", sort=False)["path"].apply(list).to_dict()
    assert list(studies) == ["cd/DICOM/ST1", "cd/DICOM/ST2/SE1"]
    assert studies["cd/DICOM/ST1"] == [f"cd/DICOM/ST1/{name}" for name in ("SE1/IM1", "SE1/IM2", "SE2/IM1")]
    assert messages(caplog) == ["cd/DICOM/ST1: files in 2 folders count as one study, by their Study Instance UID"]
    # From inside, and where every file of the medium is of one study.
    os.chdir("cd/DICOM/ST1")
    assert find(["."])["study"].tolist() == ["."] * 3
    # Named one by one, folders are apart.
    assert find(["SE1", "SE2"])["study"].unique().tolist() == ["SE1", "SE2"]


def test_a_folder_names_no_study_where_another_has_files_in_it(in_tmp):
    write_dicom("r/S1/1.dcm", A)
    write_dicom("r/S2/2.dcm", A)
    write_dicom("r/S2/3.dcm", B)
    write_dicom("r/0.dcm", C)
    assert dict(map(reversed, rows_of(find(["r"])))) == {
        "r/0.dcm": "r/0.dcm",
        "r/S1/1.dcm": "r/S1/1.dcm +1",
        "r/S2/2.dcm": "r/S1/1.dcm +1",
        "r/S2/3.dcm": "r/S2/3.dcm",
    }


def test_no_two_studies_have_one_name(in_tmp):
    for name, uid in (("1.dcm", A), ("2.dcm", A), ("1.dcm +1", B), ("3.dcm", C)):
        write_dicom(f"r/{name}", uid)
    found = find(["r"])
    assert found["study"].nunique() == 3 and found.groupby("study")["path"].size().tolist().count(2) == 1


def test_images_without_an_identifier_are_one_study_which_is_said_once(in_tmp, caplog):
    for name in ("flat/1.png", "flat/2.png", "flat/3.png", "other/1.png", "other/2.png", "alone/1.png"):
        write_image(f"r/{name}")
    write_dicom("r/other/3.dcm", None)
    assert sorted(find(["r"])["study"].unique()) == ["r/alone", "r/flat", "r/other"]
    assert messages(caplog) == ["r/flat: 3 images without a Study Instance UID count as one study; likewise 1 more"]
    caplog.clear()
    for name in ("study1_positive/image1.png", "study1_positive/image2.png"):
        write_image(f"p1/{name}")
    find(["p1"])
    os.chdir("p1/study1_positive")
    find(["."])
    assert messages(caplog) == []


def test_images_beside_dicom_files_of_several_studies_are_another_study(in_tmp, caplog):
    write_dicom("r/1.dcm", A)
    write_dicom("r/2.dcm", B)
    Path("r/2.txt").touch()
    assert rows_of(find(["r"])) == [("r/1.dcm", "r/1.dcm"), ("r/2.dcm", "r/2.dcm")]
    assert messages(caplog) == ["r/2.txt is not an image and is skipped"]
    caplog.clear()
    write_image("r/3.png")
    write_image("r/4.png")
    assert rows_of(find(["r"]))[2:] == [("r/3.png +2", f"r/{name}") for name in ("2.txt", "3.png", "4.png")]
    assert messages(caplog) == [
        "r: 2 images without a Study Instance UID beside DICOM files of 2 studies count as another study"
    ]

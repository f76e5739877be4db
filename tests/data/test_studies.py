"""Studies without labels that are found at and below what a user names."""

import os
import shutil
from pathlib import Path

import pytest
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
    assert [record.getMessage() for record in caplog.records] == ["r/empty contains no image and is skipped"]
    caplog.clear()
    Path("r/p2/s/report.txt").touch()
    Path("r/p10/notes.txt").touch()
    assert rows_of(find(["r"])) == [*expected[:3], ("r/p2/s", "r/p2/s/report.txt"), *expected[3:]]
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["r/empty", "r/p10/notes.txt"]


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

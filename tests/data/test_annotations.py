"""Tables of users: groups of views and boxes, matched by path, with one message where something is wrong."""

import numpy as np
import pytest

from bones.data import annotations
from bones.data.roots import data_roots
from bones.data.views import find_views
from bones.system.errors import DataError, FileError

STUDY = "valid/XR_HUMERUS/patient00009/study1_positive"


@pytest.fixture
def held_out(small_root):
    """(views, roots) of the held-out split: four studies of two views."""
    return find_views(small_root, "held-out"), data_roots(small_root)


def write(tmp_path, text, name="table.csv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_groups_by_path(held_out, tmp_path):
    """Rows of train/ have no effect; a path may begin anywhere before valid/."""
    train = "train/XR_HUMERUS/patient00001/study1_positive/image1.png,1,x"
    file = write(tmp_path, f"path,hardware,kind\n{STUDY}/image1.png,1,\n/anywhere/{STUDY}/image2.png,0,x\n{train}\n")
    found = annotations.read_groups([file], *held_out)
    assert found["hardware"].tolist()[:2] == ["1", "0"] and found["hardware"].isna().sum() == 6
    assert found["kind"].tolist()[:2] == ["", "x"] and found.index.equals(held_out[0].index)


def test_groups_by_study_and_of_two_files(held_out, tmp_path):
    one = write(tmp_path, f"study,age\n{STUDY},70\n", "one.csv")
    two = write(tmp_path, "study,age\nvalid/XR_HUMERUS/patient00010/study1_negative,30\n", "two.csv")
    assert annotations.read_groups([one, two], *held_out)["age"].dropna().tolist() == ["70", "70", "30", "30"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image,hardware\nx,1\n", "has the columns image, hardware. Expected a column path"),
        (f"path\n{STUDY}/image1.png\n", "has the columns path. Expected"),
        ("path,hardware\nvalid/XR_HUMERUS/patient00009/study1_positive/image9.png,1\n", "line 2: .* is not in"),
        ("path,hardware\nimage1.png,1\n", "line 2: 'image1.png' is not in"),
        ("path,hardware\n../valid/../valid,1\n", "is not in"),
        (f"path,hardware\n{STUDY}/image1.png,1\n{STUDY}/image1.png,0\n", "several rows of valid/"),
        ("study,hardware\ntrain/XR_HUMERUS/patient00001/study1_positive,1\n", "a row for none of the 8 views"),
        ("path,hardware\n", "a row for none"),
    ],
)
def test_wrong_groups(text, says, held_out, tmp_path):
    with pytest.raises(DataError, match=says):
        annotations.read_groups([write(tmp_path, text)], *held_out)


def test_boxes(held_out, tmp_path):
    rows = f"{STUDY}/image1.png,1,2,3.5,4\n{STUDY}/image1.png,5,6,7,8\n{STUDY}/image2.png,,,,\n"
    found = annotations.read_boxes([write(tmp_path, f"path,left,top,right,bottom\n{rows}")], *held_out)
    assert len(found) == 8 and np.array_equal(found[0], [[1, 2, 3.5, 4], [5, 6, 7, 8]])
    assert all(one.shape == (0, 4) for one in found[1:])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("5,6,5,8", "line 2: 5, 6, 5, 8 is not a box"),
        ("a,6,7,8", "line 2: a, 6, 7, 8 is not a box"),
        ("5,,7,8", "line 2: 5, nan, 7, 8|is not a box"),
    ],
)
def test_wrong_boxes(row, says, held_out, tmp_path):
    with pytest.raises(DataError, match=says):
        annotations.read_boxes([write(tmp_path, f"path,left,top,right,bottom\n{STUDY}/image1.png,{row}\n")], *held_out)


def test_files_that_are_no_tables(held_out, tmp_path):
    with pytest.raises(FileError, match="lacks the columns left"):
        annotations.read_boxes([write(tmp_path, f"path\n{STUDY}/image1.png\n")], *held_out)
    with pytest.raises(FileError, match="cannot be read"):
        annotations.read_groups([tmp_path / "absent.csv"], *held_out)
    with pytest.raises(FileError, match="more values than its first line has names"):
        annotations.read_boxes([write(tmp_path, f"path,left,top,right,bottom\n{STUDY}/image1.png,1,2,3,4,5\n")], *held_out)
    with pytest.raises(FileError, match="more values than its first line has names"):
        annotations.read_groups([write(tmp_path, f"path,hardware\n{STUDY}/image1.png,1,\n")], *held_out)
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 20)
    with pytest.raises((FileError, DataError)):
        annotations.read_groups([tmp_path / "binary.csv"], *held_out)

"""Images that were altered a little are found under another split or label; others are not."""

import functools

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageEnhance, ImageOps
from support import write_study

import data_loader
from bones.data import check, duplicates
from bones.data.images import read_grey
from bones.data.views import survey

ALTERED = {
    "encoded again": lambda grey: grey,
    "half as large": lambda grey: grey.resize((grey.width // 2, grey.height // 2), Image.Resampling.BILINEAR),
    "brighter": lambda grey: ImageEnhance.Brightness(grey).enhance(1.15),
    "inverted": ImageOps.invert,
}


def films(phantoms, count):
    """Views of different phantoms, as paths."""
    views, _ = survey(phantoms)
    return views.drop_duplicates("patient")["path"].to_list()[:count]


@pytest.fixture
def root(phantoms, tmp_path):
    """A data root of twelve phantoms: half in each split, half of each label."""
    folder = tmp_path / "MURA-v1.1"
    for place, path in enumerate(films(phantoms, 12)):
        split, label = ("train", "valid")[place % 2], ("positive", "negative")[place // 2 % 2]
        study = write_study(folder, split, f"study1_{label}", patient=f"patient{place:05d}")
        read_grey(path).save(study / "image1.png")
    return folder


def findings(root, capsys, *more):
    """(exit status, lines of the report that begin with WRONG or note)."""
    status = data_loader.main(["--check", str(root), *more])
    out = capsys.readouterr().out
    return status, [line for line in out.splitlines() if line.startswith(("WRONG", "note"))], out


def test_different_phantoms_do_not_look_alike(root, capsys):
    status, lines, out = findings(root, capsys)
    assert status == 0 and any("0 pairs look alike" in line for line in lines)
    assert "Other views of one examination cannot be found from pixels" in out


@pytest.mark.parametrize("what", ALTERED)
def test_altered_copies_in_both_splits_are_found(what, root, tmp_path, capsys):
    source = next(root.glob("train/*/patient00000/*/image1.png"))
    target = next(root.glob("valid/*/patient00001/*")) / "image2.jpg"
    ALTERED[what](read_grey(source)).save(target, quality=80)
    status, lines, out = findings(root, capsys, "--pairs", str(tmp_path / "pairs.png"))
    assert status == 1 and "WRONG  1 pair of copies of one image in two splits, where scores on them are not valid" in lines
    (pair,) = [line for line in out.splitlines() if " bits, correlation " in line and "patient00000" in line]
    assert "patient00001" in pair and "image2.jpg" in pair
    with Image.open(tmp_path / "pairs.png") as sheet:
        assert sheet.width == 800 and np.asarray(sheet).std() > 10
        left, right = np.asarray(sheet, float)[60:460, :400], np.asarray(sheet, float)[60:460, 400:]
        assert what == "inverted" or np.corrcoef(left.ravel(), right.ravel())[0, 1] > 0.9, "the two stand side by side"


def test_copies_under_both_labels_are_found(root, capsys):
    source = next(root.glob("train/*/patient00000/study1_positive/image1.png"))
    target = next(root.glob("train/*/patient00002/study1_negative")) / "image2.jpg"
    read_grey(source).save(target, quality=60)
    status, lines, _ = findings(root, capsys)
    assert status == 1 and "WRONG  1 pair of copies of one image under different labels" in lines
    assert any("pass --pairs FILE.png to see them" in line for line in lines)


def test_copies_of_one_split_and_label_are_no_finding(root, capsys):
    source = next(root.glob("train/*/patient00000/*/image1.png"))
    read_grey(source).save(source.with_name("image2.jpg"), quality=60)
    status, lines, _ = findings(root, capsys)
    assert status == 0 and any("0 pairs look alike" in line for line in lines)


def test_near_copies_are_a_note(root, capsys, monkeypatch):
    """A crop by one pixel, of which the limits of a certain copy here want less."""
    monkeypatch.setattr(duplicates, "SAME", (8, 0.99))
    source = next(root.glob("train/*/patient00002/*/image1.png"))
    target = next(root.glob("valid/*/patient00001/*")) / "image2.png"
    ImageOps.crop(read_grey(source), 1).save(target)  # of 64 pixels
    views, _ = survey(root)
    bits = [pair[2] for pair in duplicates.near_pairs(check.examine(views))]
    status, lines, _ = findings(root, capsys)
    assert status == 0 and len(bits) == 1 and duplicates.SAME[0] < bits[0] <= duplicates.NEAR[0]
    assert "note  1 pair of images that look alike in two splits, where scores on them are not valid" in lines


def test_pairs_are_those_of_a_plain_loop():
    """In chunks, with the inverted ones, and without byte-identical ones."""
    rng = np.random.default_rng(0)
    count = 3 * duplicates.CHUNK // 2
    hashes = [rng.integers(0, 256, duplicates.BITS // 8, np.uint8) for _ in range(count)]
    for place in range(0, 60, 3):
        hashes[count - 1 - place] = hashes[place].copy()
        hashes[count - 1 - place][0] ^= place
    hashes[2] = ~hashes[1]
    table = pd.DataFrame({"hash": hashes, "split": np.arange(count) % 2, "label": 0, "path": "p"})
    table["sha256"] = [str(place) for place in range(count)]
    table.loc[count - 1, "sha256"] = table.loc[0, "sha256"] = "same"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "small", functools.cache(lambda path: np.ones(1)))
        found = {pair[:2] for pair in duplicates.near_pairs(table)}
    expected = set()
    for i in range(count):
        for j in range(i + 1, count):
            bits = int(np.unpackbits(hashes[i] ^ hashes[j]).sum())
            alike = min(bits, duplicates.BITS - bits) <= duplicates.NEAR[0]
            if alike and i % 2 != j % 2 and table["sha256"][i] != table["sha256"][j]:
                expected.add((i, j))
    assert found == expected and (1, 2) in found and (0, count - 1) not in found and len(found) > 5


def test_more_images_than_can_be_compared_are_a_note(root, capsys, monkeypatch):
    monkeypatch.setattr(check, "MOST", 5)
    status, lines, _ = findings(root, capsys)
    assert status == 0 and any("were not searched for: 12 are more than 5" in line for line in lines)


def test_the_copies_of_fracatlas_are_found(fracatlas):
    """Its README names films that exist twice; one is under both labels and not byte-identical."""
    views, _ = survey(fracatlas)
    some = views[views["patient"].isin(["patient01187", "patient00941", "patient00967"])].reset_index(drop=True)
    pairs = duplicates.near_pairs(check.examine(some))
    assert [(pair[2], round(pair[3], 3)) for pair in pairs] == [(0, 1.0)]
    assert {some["study"][place] for place in pairs[0][:2]} == {"study3_negative", "study6_positive"}

"""Pixels of views: what does not decode is told or left out, and the cache is mapped, renewed and built again."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bones.data.images import read_grey
from bones.data.pixels import Rows, cache_key, load_pixels
from bones.data.sizes import fit_square
from bones.data.views import find_views
from bones.system.errors import DataError

BROKEN = {
    "image1.png": (b"", "0 bytes"),
    "image2.png": (b"no image at all", "not an image that Pillow can read"),
    "image3.dcm": (b"\0" * 128 + b"DICM", "its header names no transfer syntax"),
    "image4.png": (None, "ends after 300 bytes"),
}


def break_images(study):
    """Put every kind of broken file into a study."""
    good = next(study.glob("*.png")).read_bytes()
    for name, (content, _) in BROKEN.items():
        (study / name).write_bytes(good[:300] if content is None else content)


def test_unreadable_are_all_listed_or_left_out(small_root, tmp_path, caplog):
    study = small_root / "train" / "XR_HUMERUS" / "patient00001" / "study1_positive"
    break_images(study)
    views = find_views(small_root, "train")
    for _ in range(2):  # the second time too
        with pytest.raises(DataError) as error:
            load_pixels(views, 16, "pad", cache=tmp_path / "cache")
    message = str(error.value)
    assert message.startswith("4 of 18 images") and "--skip-unreadable" in message
    for name, (_, reason) in BROKEN.items():
        assert any(name in line and reason in line for line in message.split("\n")), name
    assert "image2.png" not in caplog.text
    for _ in range(2):  # decoded, then from the cache
        kept, pixels = load_pixels(views, 16, "pad", skip_unreadable=True, cache=tmp_path / "cache")
        assert len(kept) == len(pixels) == 14
        assert not set(kept["view"][kept["patient"] == "patient00001"])
        assert "image2.png   not an image that Pillow can read" in caplog.text
        expected = [fit_square(read_grey(path), 16, "pad") for path in kept["path"]]
        assert (pixels[np.arange(14)][..., 0] == expected).all()


def test_real_truncated(fracatlas_truncated, tmp_path):
    paths = sorted(map(str, fracatlas_truncated.rglob("*.jpg")))
    views = pd.DataFrame({"path": paths})
    with pytest.raises(DataError, match="31 of 31 images") as error:
        load_pixels(views, 64, "pad", cache=tmp_path)
    assert str(error.value).count("ends after") == 31


def test_cache_is_mapped_and_renewed(small_root, tmp_path):
    views = find_views(small_root, "train")
    cache = tmp_path / "cache"
    first = load_pixels(views, 16, "pad", cache=cache)[1]
    assert isinstance(first.array, np.memmap) and first.array.dtype == np.uint8 and first.shape == (16, 16, 16, 1)
    files = sorted(cache.iterdir())
    load_pixels(views, 16, "pad", cache=cache)
    assert sorted(cache.iterdir()) == files
    Image.new("L", (20, 16), 77).save(views["path"][3])
    changed = load_pixels(views, 16, "pad", cache=cache)[1]
    assert set(np.unique(changed[3])) == {0, 77}  # the padded ground, and the new picture
    for size, resize in ((16, "stretch"), (24, "pad")):
        assert load_pixels(views, size, resize, cache=cache)[1].shape[1] == size
    assert len(list(cache.glob("*.npy"))) == 4 and not list(cache.glob(".*"))
    in_memory = load_pixels(views, 16, "pad", cache=None)[1]
    assert (in_memory[np.arange(16)] == changed[np.arange(16)]).all()


@pytest.mark.parametrize("kept", ["size", "time", "size and time"])
def test_a_replaced_image_gives_its_own_pixels(kept, small_root, tmp_path):
    """Also where the file has the byte size, the modification time, or both, of the one before."""
    views = find_views(small_root, "train")
    path, cache = Path(views["path"][3]), tmp_path / "cache"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    images = [tmp_path / f"{value}.png" for value in (33, 77)]
    for value, image in zip((33, 77), images, strict=True):
        Image.new("L", (20, 16), value).save(image)
    before, after = (image.read_bytes() for image in images)
    after += b"" if "size" in kept else b"more"
    assert ("size" in kept) == (len(before) == len(after))
    path.write_bytes(before)
    os.utime(path, ns=times)
    assert 33 in load_pixels(views, 16, "pad", cache=cache)[1][3]
    path.write_bytes(after)
    if "time" in kept:
        os.utime(path, ns=times)
    found = load_pixels(views, 16, "pad", cache=cache)[1][3]
    assert 77 in found and 33 not in found


def test_images_of_other_paths_have_a_cache_of_their_own(small_root, tmp_path):
    """Two tables whose files agree in size and times, as hard links do."""
    views = find_views(small_root, "train")
    cache = tmp_path / "cache"
    order = views.iloc[::-1].reset_index(drop=True)
    for path in views["path"][1:]:  # all alike but for their paths
        os.remove(path)
        os.link(views["path"][0], path)
    names = [cache_key(table, 16, "pad") for table in (views, order, views[1:])]
    assert len(set(names)) == 3
    other = tmp_path / "other"
    os.link(views["path"][0], other)
    assert cache_key(views.assign(path=[*views["path"][:-1], str(other)]), 16, "pad") != names[0]
    load_pixels(views, 16, "pad", cache=cache)


@pytest.mark.parametrize("content", [b"", b"damaged"])
@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_a_damaged_cache_is_built_again(content, suffix, small_root, tmp_path):
    views = find_views(small_root, "train")
    before = load_pixels(views, 16, "pad", cache=tmp_path / "cache")[1][np.arange(16)]
    file = next((tmp_path / "cache").glob(f"*{suffix}"))
    file.write_bytes(content if suffix == ".npy" else b"")
    assert (load_pixels(views, 16, "pad", cache=tmp_path / "cache")[1][np.arange(16)] == before).all()
    file.unlink()
    assert (load_pixels(views, 16, "pad", cache=tmp_path / "cache")[1][np.arange(16)] == before).all()


def test_rows_of_some_views():
    views = pd.DataFrame({"path": ["a", "b", "c", "d"]})
    rows = Rows(np.arange(10), [2, 4, 6, 8]).of(views, views.iloc[[3, 1]])
    assert rows[np.arange(2)].tolist() == [8, 4] and len(rows) == 2

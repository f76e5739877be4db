"""Random folder trees, options and damaged bytes: nothing but our own errors comes out. FUZZ=50 takes fifty times as long."""

import io
import os
import shutil
import string
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_images import BAD, ODD
from PIL import Image

import model_test
import mura
import plot_results
from bones.data import images, sizes
from bones.data.pixels import load_pixels
from bones.data.views import find_views
from bones.runs.folder import RunFolder
from bones.runs.options import SETTINGS
from bones.system.errors import BonesError, DataError, UnreadableImageError
from bones.training import command_line

TIMES = int(os.environ.get("FUZZ", "1"))
PATIENT = settings(max_examples=60 * TIMES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=TIMES == 1)

# ---------------------------------------------------------------------------------------------------------------------
# Folder trees

CONTENTS = [*(content for content, _ in BAD.values()), ODD["white"], ODD["CMYK"], ODD["1 x 1"]]
FILES = st.dictionaries(
    st.sampled_from(["image1.png", "image2.PNG", "._image1.png", "a.jpg", "notes.txt", ".DS_Store", "x.dcm", "image"]),
    st.sampled_from(CONTENTS),
    max_size=4,
)
LEVELS = [
    ["study1_positive", "study1_negative", "study2_negative", "study1", "_positive", "._study1_positive"],
    ["patient00001", "patient00002", "patient00003", "patient1", ".hidden"],
    ["XR_HUMERUS", "XR_HAND", "xr_wrist", "other"],
    ["train", "valid", "MURA-v1.1"],
]


def trees():
    """Trees like MURA's with levels left out, strays anywhere, and good and bad files."""
    tree = FILES
    for names in LEVELS:
        folder = st.dictionaries(st.sampled_from(names), st.one_of(tree, FILES), max_size=4)
        tree = st.one_of(folder, folder, tree, st.builds(lambda folder, files: {**files, **folder}, folder, FILES))
    return tree


def grow(path, tree):
    """Write a tree to disk."""
    path.mkdir()
    for name, content in tree.items():
        if isinstance(content, dict):
            grow(path / name, content)
        else:
            (path / name).write_bytes(content)


@PATIENT
@given(tree=trees(), split=st.sampled_from(["train", "held-out"]), study_type=st.sampled_from(["all", "XR_HUMERUS", "XR_HAND"]))
def test_any_folder_tree(tree, split, study_type):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        grow(root, tree)
        try:
            views = find_views(root, split, [study_type])
            for skip in (False, True):
                kept, pixels = load_pixels(views, 16, "pad", skip, cache=Path(folder) / "cache")
                assert len(kept) == len(pixels) <= len(views)
        except DataError as error:
            assert str(error)


# ---------------------------------------------------------------------------------------------------------------------
# Command lines

WORDS = st.one_of(
    st.sampled_from(["0", "1", "-1", "0.5", "nan", "inf", "1e999", "none", "all", "XR_HUMERUS", "pad", "9" * 30, "--", "="]),
    st.sampled_from([f"{name}=" for name in SETTINGS]).flatmap(lambda name: st.builds(name.__add__, st.text(max_size=5))),
    st.text(string.printable, max_size=8),
)


def options_of(build_parser):
    """Every option of a parser, but for help."""
    return [name for action in build_parser()._actions for name in action.option_strings if "h" not in name[1:3]]


@pytest.mark.parametrize("script", [mura, model_test, plot_results], ids=lambda script: script.__name__)
def test_any_command_line(script, in_tmp, capsys):
    build = getattr(script, "build_parser", None)
    names = options_of(build) if build else ["--out"]

    @PATIENT
    @given(arguments=st.lists(st.one_of(st.sampled_from(names), WORDS), max_size=8))
    def check(arguments):
        try:
            if script is mura:
                command_line.parse(arguments)
            else:
                assert script.main(arguments) == 1, "there is no run to be found"
        except SystemExit as end:
            assert end.code in (1, 2)
        assert "Traceback" not in capsys.readouterr().err

    check()


# ---------------------------------------------------------------------------------------------------------------------
# Damaged bytes


def flips(content, rng):
    """Content with some bytes changed, cut out, put in or cut off, or a value of many in its place."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(0, len(content) + 1))
        kind = rng.integers(0, 5)
        if kind <= 1 and place < len(content):
            content[place] = rng.integers(0, 256)
        elif kind == 2:
            del content[place : place + int(rng.integers(1, 9))]
        elif kind == 3:
            content[place:place] = rng.bytes(int(rng.integers(1, 9)))
        else:
            content[place : place + 4] = [b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"-1e9", b"null"][rng.integers(0, 5)]
    return bytes(content[: int(rng.integers(1, len(content) + 2))] if rng.random() < 0.1 else content)


def encoded():
    """Small images as files of many kinds."""
    picture = Image.effect_noise((24, 20), 90)
    found = [ODD["16 bits"], ODD["palette with transparency"], ODD["animated"], ODD["CMYK"]]
    for kind, more in (("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("TIFF", {}), ("BMP", {}), ("WEBP", {})):
        file = io.BytesIO()
        picture.save(file, kind, **more)
        found.append(file.getvalue())
    return found


def count_read(content, path, times):
    """How often an image was read of so many times that it was damaged."""
    rng, read = np.random.default_rng(0), 0
    for _ in range(times * TIMES):
        path.write_bytes(flips(content, rng))
        try:
            square = sizes.fit_square(images.read_grey(path), 16, "pad")
        except UnreadableImageError as error:
            assert str(error)
        else:
            read += 1
            assert square.shape == (16, 16)
    return read


@pytest.mark.filterwarnings("ignore")
def test_damaged_images(tmp_path):
    read = [count_read(content, tmp_path / "image1.png", 150) for content in encoded()]
    assert any(read), "no damaged image was read: the damage is too great to find anything"


# Files that pydicom ships, and how often each is damaged: the last three are decoded in a process of their own.
DICOM = {
    "MR_small.dcm": 150,
    "MR_small_implicit.dcm": 150,
    "MR_small_bigendian.dcm": 150,
    "CT_small.dcm": 150,
    "image_dfl.dcm": 150,
    "SC_rgb_jpeg_dcmtk.dcm": 150,
    "MR_small_jp2klossless.dcm": 150,
    "examples_palette.dcm": 30,
    "MR_small_RLE.dcm": 3,
    "MR_small_jpeg_ls_lossless.dcm": 3,
    "SC_rgb_jpeg_gdcm.dcm": 3,
}


@pytest.mark.filterwarnings("ignore")
def test_damaged_dicom(tmp_path, capfd):
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    read = [count_read((folder / name).read_bytes(), tmp_path / "image1.dcm", times) for name, times in DICOM.items()]
    assert any(read), "no damaged image was read: the damage is too great to find anything"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["run.json", "history.csv", "predictions.csv"])
def test_damaged_records(name, trained, phantoms, in_tmp):
    shutil.copytree(trained, "run")
    assert model_test.main(["run"]) == 0
    run, rng, read = RunFolder("run"), np.random.default_rng(0), 0
    content = (run / name).read_bytes()
    reading = {"run.json": run.record, "history.csv": run.read_history, "predictions.csv": run.read_predictions}[name]
    for _ in range(300 * TIMES):
        (run / name).write_bytes(flips(content, rng))
        try:
            reading()
        except BonesError as error:
            assert name in str(error)
        else:
            read += 1
    assert read, "no damaged record was read: the damage is too great to find anything"

"""Collections of small inputs that were once shown wrongly, each with what is right; skipped where they are absent."""

import numpy as np
import pytest
from support import ROOT

from bones.data import images
from bones.system.errors import UnreadableImageError

CASES = ROOT.parent / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is absent")
REFUSED = {"high_bit_11_of_16.dcm", "function_unknown.dcm", "no_preamble.dcm"}
AS_FILM = {"high_bit_15_values_above", "high_bit_15_values_below", "high_bit_15_of_14_values_below", "high_bit_0"}
AS_FILM |= {
    "lower_case_rgb",
    "window_0_and_0",
    "window_centre_alone",
    "window_negative_width",
    "window_of_words",
    "window_width_0",
}
RIGHT = {
    "01-voi-lut-signed": ("film.dcm", "right.png"),
    "02-window-of-a-frame": ("film.dcm", "right.png"),
    "03-pixels-not-square": ("film.dcm", "right.png"),
    "09-grey-with-a-transparent-value": ("film.png", "right.png"),
    "10-camera-tags": ("photo.jpg", "right.png"),
    "11-windows-that-cannot-be": ("comma.dcm", "comma_right.png"),
    "11-windows-that-cannot-be/": ("width0.dcm", "width0_right.png"),
}


def read(path):
    """(height, width) float of an image."""
    return np.asarray(images.read_grey(path)).astype(float)


def files(folder):
    """Names of a folder's files; none where it is absent."""
    return sorted(file.name for file in (CASES / folder).iterdir()) if CASES.is_dir() else []


@pytest.mark.parametrize("name", files("1_grey_levels"))
def test_grey_levels(name):
    folder, expected = CASES / "1_grey_levels", "film_8bit.png"
    if "dim" in name:
        expected = "sbit12_not_spread_dim_8bit.png"
    shown = read(folder / name)
    if name == "all_zero16.png":
        assert not shown.any()
    else:
        assert np.abs(shown - read(folder / expected)).max() <= 1


@pytest.mark.parametrize("name", files("7_intact"))
def test_intact(name):
    assert np.abs(read(CASES / "7_intact" / name) - read(CASES / "7_intact" / "film.png")).max() <= 1


@pytest.mark.parametrize("name", files("2_voi"))
def test_voi(name):
    folder = CASES / "2_voi"
    if name in REFUSED:
        with pytest.raises(UnreadableImageError):
            images.read(folder / name)
        return
    stem = name.removesuffix(".dcm")
    has_table = stem.startswith("voi_lut") or stem == "voi_items_first_empty"
    mean = (
        114.9
        if has_table
        else 121.4
        if "sigmoid" in stem
        else 82.6
        if stem in AS_FILM | {"film", "high_bit_missing"}
        else 117.3
    )
    assert read(folder / name).mean() == pytest.approx(mean, abs=0.5)


@pytest.mark.parametrize("case", RIGHT)
def test_second_collection(case):
    name, right = RIGHT[case]
    found, expected = read(CASES / "second" / case / name), read(CASES / "second" / case / right)
    assert found.shape == expected.shape and np.abs(found - expected).max() <= 2

"""Stored values of DICOM files as grey, against the standard's formulas and pydicom's own."""

import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, SHIPPED, film, read, table
from pydicom import pixels, uid

from bones.data import images


def linear(x, c, w):
    """PS3.3, C.11.2.1.2.1, for an output of 0 to 255."""
    if x <= c - 0.5 - (w - 1) / 2:
        return 0
    if x > c - 0.5 + (w - 1) / 2:
        return 255
    return ((x - (c - 0.5)) / (w - 1) + 0.5) * 255


def linear_exact(x, c, w):
    """PS3.3, C.11.2.1.3.2."""
    if x <= c - w / 2:
        return 0
    if x > c + w / 2:
        return 255
    return ((x - c) / w + 0.5) * 255


def sigmoid(x, c, w):
    """PS3.3, C.11.2.1.3.1."""
    return 255 / (1 + np.exp(min(-4 * (x - c) / w, 700)))


WINDOWS = {"LINEAR": linear, "LINEAR_EXACT": linear_exact, "SIGMOID": sigmoid}


def apply(function, values, *arguments):
    """A function of one number on each of an array, rounded."""
    return np.array([[round(float(function(float(x), *arguments))) for x in row] for row in values])


@pytest.mark.parametrize("width", [1, 2, 700, 4096, 100_000])
@pytest.mark.parametrize("name", WINDOWS)
def test_windows_are_the_standards(name, width, in_tmp):
    dataset = film(RAMP, WindowCenter=1000, WindowWidth=width, VOILUTFunction=name)
    expected = apply(WINDOWS[name], RAMP, 1000, width)
    assert (
        np.abs(read(dataset) - expected).max() <= 1 and (read(dataset) == expected).mean() > 0.999
    )  # halves may round either way
    theirs = (
        pixels.apply_windowing(RAMP.astype(float), dataset) / 4095 * 255
    )  # pydicom's output is 12 bits wide, as its input is
    assert np.abs(read(dataset) - theirs).max() <= 0.51


def test_the_first_of_several_windows_counts_and_linear_is_the_default(in_tmp):
    dataset = film(RAMP, WindowCenter=[1000, 3000], WindowWidth=[700, 50])
    assert (read(dataset) == read(film(RAMP, WindowCenter=1000, WindowWidth=700, VOILUTFunction="LINEAR"))).all()


def test_monochrome1_is_the_exact_inverse(in_tmp):
    for more in ({"WindowCenter": 1000, "WindowWidth": 700}, {}):
        one, two = (read(film(RAMP, PhotometricInterpretation=kind, **more)) for kind in ("MONOCHROME1", "MONOCHROME2"))
        assert (one == 255 - two).all() and one.std() > 30


def test_rescale_comes_before_the_window(in_tmp):
    found = read(film(RAMP, RescaleSlope="2.5", RescaleIntercept="-1000", WindowCenter=40, WindowWidth=400))
    expected = apply(linear, RAMP * 2.5 - 1000, 40, 400)
    assert np.abs(found - expected).max() <= 1 and (found == expected).mean() > 0.999
    assert (read(film(RAMP, RescaleSlope="-1", RescaleIntercept="0")) == 255 - read(film(RAMP))).all()


@pytest.mark.parametrize(("bits", "packed"), [(8, True), (8, False), (12, False), (16, False)])
def test_voi_luts(bits, packed, in_tmp):
    """A root over the values 1,000 to 2,999; those below and above get the first and last entry. It beats a window."""
    entries = np.rint(np.sqrt(np.arange(2000) / 1999) * (2**bits - 1))
    luts = [table(entries, 1000, bits, packed), table(entries[::-1], 1000, bits, packed)]
    found = read(film(RAMP, VOILUTSequence=luts, WindowCenter=50, WindowWidth=5))
    expected = np.rint(entries[np.clip(RAMP.astype(int) - 1000, 0, 1999)] * 255 / (2**bits - 1))
    assert (found == expected).all() and found.min() == 0 and found.max() == 255


def test_modality_luts(in_tmp):
    """Stored values 0 to 4,095 mean 4,095 to 0; what they mean is windowed."""
    falling = table(np.arange(4096)[::-1], 0, 12)
    found = read(film(RAMP, ModalityLUTSequence=[falling], WindowCenter=1000, WindowWidth=700))
    assert (found == read(film(RAMP[::-1, ::-1].copy(), WindowCenter=1000, WindowWidth=700))).all()
    assert (read(film(RAMP, ModalityLUTSequence=[falling])) == 255 - read(film(RAMP))).all()


def test_deep_pixels_without_window_are_spread_over_their_range(in_tmp):
    stored = np.array([[-300, 0], [100, 700]], np.int16)
    assert read(film(stored, 16)).tolist() == [[0, round(0.3 * 255)], [round(0.4 * 255), 255]]
    big_endian = film(stored, 16, uid.ExplicitVRBigEndian, PixelData=stored.astype(">i2").tobytes())
    assert (read(big_endian) == read(film(stored, 16))).all()
    assert read(film(np.full((2, 2), 77, np.uint16))).tolist() == [[0, 0], [0, 0]]


def test_8_bit_pixels_without_window_stay_as_they_are(in_tmp):
    stored = np.random.default_rng(0).integers(50, 90, (10, 12), np.uint8)
    assert (read(film(stored, 8)) == stored).all()
    assert (read(film(stored, 8, RescaleSlope="3", RescaleIntercept="-7")) == stored).all()
    assert read(film(np.array([[0, 63]], np.uint8), 6)).tolist() == [[0, 255]]


def test_padding_is_black_and_no_end_of_the_range(in_tmp):
    stored = np.array([[-2000, -2000], [-2001, 100], [300, 500]], np.int16)
    grey = [[0, 0], [0, 0], [128, 255]]
    assert read(film(stored, 16, PixelPaddingValue=-2000, PixelPaddingRangeLimit=-3000)).tolist() == grey
    stored[1, 0] = 100
    dataset = film(stored, 16, PhotometricInterpretation="MONOCHROME1")
    dataset.add_new("PixelPaddingValue", "US", 63536)  # -2,000, as some write it
    assert read(dataset).tolist() == [[0, 0], [255, 255], [127, 0]]
    assert not read(film(np.full((2, 2), 9, np.uint16), PixelPaddingValue=9)).any()


def test_real_films_come_back(fracatlas, in_tmp):
    for path in sorted(fracatlas.rglob("*.jpg"))[:2]:
        grey = np.asarray(images.read_grey(path))
        assert (read(film(grey, 8)) == grey).all()
        deep = np.rint(grey * (4095 / 255)).astype(np.uint16)
        assert (read(film(deep, WindowCenter=2048, WindowWidth=4096)) == grey).all()
        assert (
            read(film(4095 - deep, WindowCenter=2048, WindowWidth=4096, PhotometricInterpretation="MONOCHROME1")) == grey
        ).all()


@pytest.mark.parametrize(
    "name", ["SC_rgb_jpeg_dcmtk.dcm", "examples_rgb_color.dcm", "examples_ybr_color.dcm", "SC_rgb_gdcm_KY.dcm"]
)
def test_colours_become_luminance(name):
    red, green, blue = np.moveaxis(pixels.pixel_array(SHIPPED / name, index=0).astype(float), -1, 0)
    assert np.abs(read(SHIPPED / name) - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 1  # ITU-R 601


def test_palettes_become_luminance():
    dataset = pydicom.dcmread(SHIPPED / "examples_palette.dcm")
    red, green, blue = np.moveaxis(pixels.apply_color_lut(dataset.pixel_array, dataset) / 257.0, -1, 0)
    assert np.abs(read(SHIPPED / "examples_palette.dcm") - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 1.5


def test_shipped_greys():
    for name in ("CT_small.dcm", "693_J2KI.dcm", "examples_overlay.dcm"):
        dataset = pydicom.dcmread(SHIPPED / name)
        values = pixels.apply_modality_lut(dataset.pixel_array, dataset).astype(float)
        shown = pixels.apply_windowing(values, dataset)
        low, high = values.min(), values.max()
        if "WindowCenter" in dataset:
            low, high = pixels.apply_windowing(np.array([-1e9, 1e9]), dataset)
        theirs = (shown - low) / (high - low) * 255
        padding = dataset.pixel_array == dataset.get("PixelPaddingValue", -(10**6))
        assert np.abs(read(SHIPPED / name) - theirs)[~padding].max() <= 0.51, name
    assert set(np.unique(read(SHIPPED / "liver_1frame.dcm"))) == {0, 255}  # of 1 bit
    deflated = read(SHIPPED / "image_dfl.dcm")
    assert (deflated == pydicom.dcmread(SHIPPED / "image_dfl.dcm").pixel_array).all()

"""Stored values of DICOM files as grey, against the standard's formulas and pydicom's own."""

import numpy as np
import pydicom
import pytest
from dicom_files import RAMP, SHIPPED, film, read, save, table
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
    deflated = pydicom.dcmread(SHIPPED / "image_dfl.dcm")
    deflated.Modality = "CR"  # a screen capture otherwise
    assert (read(save(deflated)) == deflated.pixel_array).all()
    del deflated.file_meta[0x00020000]
    pydicom.dcmwrite("film.dcm", deflated, enforce_file_format=False)
    assert (read("film.dcm") == deflated.pixel_array).all(), "a deflated file without the length of its meta information"


def test_one_bit(in_tmp):
    dataset = pydicom.dcmread(SHIPPED / "liver_1frame.dcm")
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    for group in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        del dataset[group]  # whose pixels are not square
    assert set(np.unique(read(save(dataset)))) == {0, 255}


# ---------------------------------------------------------------------------------------------------------------------
# Forms that viewers read


NARROW = {"WindowCenter": 1200, "WindowWidth": 700}


def text_element(dataset, name, value):
    """A data set with an element of text as it would be in a file, whatever its form."""
    element = dataset[name] if name in dataset else pydicom.DataElement(pydicom.datadict.tag_for_keyword(name), "DS", "1")
    content = value.encode() + b" " * (len(value) % 2)
    dataset[name] = pydicom.dataelem.RawDataElement(element.tag, element.VR, len(content), content, 0, False, True)
    return dataset


@pytest.mark.parametrize(
    ("centre", "width"),
    [
        ("1200,0", "700,0"),
        (" 1200 ", "700"),
        ("500\\1200", "0\\700"),
        ("\\1200", "\\700"),
        ("x\\1200", "5\\700"),
        ("9\\1200", "-5\\700"),
    ],
)
def test_a_window_is_found_where_its_meaning_is_plain(centre, width, in_tmp):
    dataset = text_element(text_element(film(RAMP, **NARROW), "WindowCenter", centre), "WindowWidth", width)
    assert (read(dataset) == read(film(RAMP, **NARROW))).all()


@pytest.mark.parametrize(
    ("centre", "width"),
    [("1200", "0"), ("0", "0"), ("1200", "-700"), ("ABC", "DEF"), ("inf", "700"), ("1200", "nan"), ("1200", "")],
)
def test_a_window_that_is_none_counts_as_none(centre, width, in_tmp):
    dataset = text_element(text_element(film(RAMP, **NARROW), "WindowCenter", centre), "WindowWidth", width)
    assert (read(dataset) == read(film(RAMP))).all()


def test_rescale_with_a_decimal_comma_and_a_tiny_slope(in_tmp):
    expected = read(film(RAMP, RescaleSlope="2.5", RescaleIntercept="-10", WindowCenter=3000, WindowWidth=1000))
    dataset = film(RAMP, RescaleSlope="2.5", RescaleIntercept="-10", WindowCenter=3000, WindowWidth=1000)
    assert (read(text_element(dataset, "RescaleSlope", "2,5")) == expected).all()
    tiny = film(RAMP, RescaleSlope="0.000000000001", RescaleIntercept="0")
    assert (read(tiny) == read(film(RAMP))).all()


@pytest.mark.parametrize("group", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
def test_functional_groups(group, in_tmp):
    window, rescale, spacing, item = (pydicom.Dataset() for _ in range(4))
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 300, 400, "LINEAR_EXACT"
    rescale.RescaleSlope, rescale.RescaleIntercept, spacing.PixelSpacing = 0.5, -100, [2, 1]
    item.FrameVOILUTSequence, item.PixelValueTransformationSequence, item.PixelMeasuresSequence = [window], [rescale], [spacing]
    flat = {"WindowCenter": 300, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}
    expected = read(film(RAMP, **flat, RescaleSlope=0.5, RescaleIntercept=-100, PixelSpacing=[2, 1]))
    assert expected.shape == (128, 64) and (read(film(RAMP, **{group: [item]})) == expected).all()


@pytest.mark.parametrize("says", [0, 1, 8, 10, 12, 13, 16, 40])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_the_depth_of_a_voi_lut_is_that_of_its_entries(bits, says, in_tmp):
    entries = np.rint(np.sqrt(np.arange(2000) / 1999) * (2**bits - 1))
    expected = np.rint(entries[np.clip(RAMP.astype(int) - 1000, 0, 1999)] * 255 / (2**bits - 1))
    item = table(entries, 1000, bits)
    item.LUTDescriptor = [2000, 1000, says]
    assert (read(film(RAMP, VOILUTSequence=[item])) == expected).all()


@pytest.mark.parametrize("missing", [1, 5, 900])
def test_of_a_short_table_the_last_entry_goes_on(missing, in_tmp):
    entries = np.arange(2000)[: 2000 - missing]
    item = table(entries, 1000, 12)
    item.LUTDescriptor = [2000, 1000, 12]
    item["LUTDescriptor"].VR = "US"
    expected = read(film(RAMP, VOILUTSequence=[table(entries, 1000, 12)]))
    assert (read(film(RAMP, VOILUTSequence=[item])) == expected).all() and expected.std() > 50


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
def test_the_first_value_of_a_voi_lut_has_a_sign_where_values_may_be_negative(syntax, in_tmp):
    entries = np.arange(4096)
    for intercept, first, representation in ((-1024, 64512, 0), (0, 40000, 0), (0, 65036, 1)):
        shown = RAMP.astype(np.int64) + (37000 if first == 40000 else 0)
        stored = shown.astype(np.int16 if representation else np.uint16)
        dataset = film(
            stored, 16, syntax, RescaleSlope=1, RescaleIntercept=intercept, VOILUTSequence=[table(entries, first, 12)]
        )
        begin = first if first == 40000 else first - 65536
        expected = np.rint(np.clip(shown + intercept - begin, 0, 4095) * 255 / 4095)
        assert (read(dataset) == expected).all(), first


def test_items_without_a_table_are_none(in_tmp):
    empty, explained, whole = pydicom.Dataset(), pydicom.Dataset(), table(np.arange(4096), 0, 12)
    explained.LUTExplanation = "NORMAL"
    without = table(np.arange(4096), 0, 12)
    without.LUTData = b""
    for items in ([empty], [explained], [without], []):
        assert (read(film(RAMP, VOILUTSequence=items, **NARROW)) == read(film(RAMP, **NARROW))).all()
    assert (read(film(RAMP, VOILUTSequence=[empty, whole], **NARROW)) == read(film(RAMP, VOILUTSequence=[whole]))).all()
    assert (read(film(RAMP, ModalityLUTSequence=[empty], **NARROW)) == read(film(RAMP, **NARROW))).all()


@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (10, 15), (14, 15)])
def test_high_bit(bits, high, in_tmp):
    values = (RAMP >> (12 - bits)) if bits < 12 else RAMP
    expected = read(film(values, bits, **NARROW))
    above = values << (high + 1 - bits)
    assert (read(film(above.astype(np.uint16), bits, HighBit=high, **NARROW)) == expected).all()
    assert (read(film(values, bits, HighBit=high, **NARROW)) == expected).all(), "below: the file contradicts itself"
    assert (read(film(values, bits, HighBit=0, **NARROW)) == expected).all()
    assert (read(film(values, bits, HighBit=None, **NARROW)) == expected).all()
    signed = (values.astype(np.int16) - 2 ** (bits - 1)) << (high + 1 - bits)
    centred = NARROW | {"WindowCenter": 1200 - 2 ** (bits - 1)}
    assert (read(film(signed.astype(np.int16), bits, HighBit=high, **centred)) == expected).all()


@pytest.mark.filterwarnings("ignore")
def test_terms_in_small_letters(in_tmp):
    for name, value in (
        ("PhotometricInterpretation", "MONOCHROME1"),
        ("VOILUTFunction", "SIGMOID"),
        ("VOILUTFunction", "LINEAR"),
    ):
        upper, lower = (read(film(RAMP, **NARROW, **{name: text})) for text in (value, value.lower()))
        assert (upper == lower).all()


def test_the_modality_lut_of_angiography_is_not_for_display(in_tmp):
    lut = {"ModalityLUTSequence": [table(np.arange(4096)[::-1], 0, 12)]}
    for kind in (uid.XRayAngiographicImageStorage, uid.XRayRadiofluoroscopicImageStorage):
        assert (read(film(RAMP, SOPClassUID=kind, **lut, **NARROW)) == read(film(RAMP, **NARROW))).all()


def test_a_contradiction_of_inversion_is_reported(in_tmp):
    for kind, shape, told in (
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", True),
        ("MONOCHROME2", "IDENTITY", False),
        ("MONOCHROME1", "INVERSE", False),
    ):
        found = images.read(save(film(RAMP, PhotometricInterpretation=kind, PresentationLUTShape=shape)))
        assert bool(found.notes) == told and all(f"{shape} contradicts {kind}" in note for note in found.notes)


@pytest.mark.parametrize("name", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"])
def test_pixels_become_square(name, in_tmp):
    plain = read(film(RAMP))
    for sides, shape in (([2, 1], (128, 64)), ([1, 3], (64, 192)), ([1, 1], (64, 64)), ([0, 1], (64, 64))):
        found = read(film(RAMP, **{name: sides}))
        assert found.shape == shape and abs(found.mean() - plain.mean()) < 2


def test_signed_values_do_not_overflow(in_tmp):
    stored = np.linspace(-32768, 32767, 4096).astype(np.int16).reshape(64, 64)
    expected = np.rint((stored.astype(float) + 32768) * 255 / 65535)
    for more in ({}, {"RescaleSlope": 1, "RescaleIntercept": 0}):
        assert np.abs(read(film(stored, 16, **more)) - expected).max() <= 1
    small = np.arange(-128, 128, dtype=np.int8).reshape(16, 16)
    assert (read(film(small, 8)) == small.astype(int) + 128).all()


def test_padding_beyond_the_type_is_none(in_tmp):
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    dataset = film(stored, 8)
    dataset.add_new("PixelPaddingValue", "US", 65535)
    assert (read(dataset) == stored).all()


def test_an_empty_window_of_a_frame_hides_no_other(in_tmp):
    window, item = pydicom.Dataset(), pydicom.Dataset()
    window.WindowCenter, window.WindowWidth = 0, 0
    item.FrameVOILUTSequence = [window]
    assert (read(film(RAMP, SharedFunctionalGroupsSequence=[item], **NARROW)) == read(film(RAMP, **NARROW))).all()


def test_a_window_of_less_than_one_value_where_values_are_fine(in_tmp):
    exact = {"WindowCenter": 0.15, "WindowWidth": 0.14, "RescaleSlope": "0.0001", "RescaleIntercept": "0"}
    assert (read(film(RAMP, **exact)) == read(film(RAMP, VOILUTFunction="LINEAR_EXACT", **exact))).all()


def test_bits_below_the_values_may_be_an_overlay(in_tmp):
    overlay = np.random.default_rng(0).integers(0, 16, RAMP.shape).astype(np.uint16)
    dataset = film((RAMP << 4 | overlay).astype(np.uint16), 12, HighBit=15, **NARROW)
    assert (read(dataset) == read(film(RAMP, **NARROW))).all()

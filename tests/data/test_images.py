"""Image files of every mode become grey, and are brought to a square."""

import numpy as np
from PIL import Image
from scipy import ndimage

from bones.data.images import read_grey
from bones.data.sizes import STRETCHES, contact_sheet, fit_square, shrink

GRADIENT = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
COLOUR = np.stack([GRADIENT, GRADIENT[:, ::-1], np.full_like(GRADIENT, 40)], axis=-1)
LUMA = (0.299 * COLOUR[..., 0] + 0.587 * COLOUR[..., 1] + 0.114 * COLOUR[..., 2]).round()


def save_modes(folder):
    """{file: (expected grey, tolerance)} of the same picture in every mode."""
    alpha = np.full_like(GRADIENT, 255)
    Image.fromarray(GRADIENT).save(folder / "L.png")
    Image.fromarray(GRADIENT > 127).save(folder / "1.png")
    Image.fromarray(COLOUR).save(folder / "RGB.png")
    Image.fromarray(np.dstack([COLOUR, alpha])).save(folder / "RGBA.png")
    Image.fromarray(np.dstack([GRADIENT, alpha])).save(folder / "LA.png")
    Image.fromarray(COLOUR).quantize(256).save(folder / "P.png")
    Image.fromarray(GRADIENT.astype(np.uint16) * 257).save(folder / "I16.png")
    Image.fromarray(COLOUR).convert("CMYK").save(folder / "CMYK.jpg", quality=100)
    Image.fromarray(COLOUR).save(folder / "RGB.jpg", quality=100, subsampling=0)
    return {
        "L.png": (GRADIENT, 0),
        "1.png": ((GRADIENT > 127) * 255, 0),
        "RGB.png": (LUMA, 1),
        "RGBA.png": (LUMA, 1),
        "LA.png": (GRADIENT, 0),
        "P.png": (LUMA, 8),
        "I16.png": (GRADIENT, 0),
        "CMYK.jpg": (LUMA, 4),
        "RGB.jpg": (LUMA, 4),
    }


def test_every_mode_becomes_luminance(tmp_path):
    for name, (expected, tolerance) in save_modes(tmp_path).items():
        grey = np.asarray(read_grey(tmp_path / name), int)
        assert grey.shape == expected.shape, name
        assert np.abs(grey - expected).max() <= tolerance, name


def test_transparent_pixels_are_black(tmp_path):
    Image.fromarray(np.dstack([COLOUR, np.zeros_like(GRADIENT)])).save(tmp_path / "clear.png")
    assert np.asarray(read_grey(tmp_path / "clear.png")).max() == 0


def test_exif_orientation(tmp_path):
    image = Image.fromarray(GRADIENT)
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    assert np.asarray(read_grey(tmp_path / "turned.jpg")).shape == (256, 8)


def test_fit_square():
    grey = Image.fromarray(np.full((50, 100), 200, np.uint8))
    padded = fit_square(grey, 40, "pad")
    assert padded.shape == (40, 40)
    assert (padded[10:30] == 200).all() and not padded[:10].any() and not padded[30:].any()
    assert (fit_square(grey, 40, "stretch") == 200).all()
    assert fit_square(Image.new("L", (1000, 1)), 32, "pad").shape == (32, 32)


def test_stretches_differ_in_how_they_shrink():
    """Every tenth column is white: averaged, interpolated between two, or taken alone."""
    wide = np.zeros((30, 200), np.uint8)
    wide[:, ::10] = 200
    squares = {name: fit_square(Image.fromarray(wide), 20, name)[10] for name in STRETCHES}
    assert np.ptp(squares["stretch"][2:-2].astype(int)) <= 1 and 15 <= squares["stretch"][10] <= 25, "a tenth of 200"
    assert not squares["stretch_nearest"].any() and not squares["stretch_linear"].any(), "columns 5, 15, ... are black"
    wide[:, 5::10] = 100
    assert (fit_square(Image.fromarray(wide), 20, "stretch_nearest") == 100).all()


def test_linear_interpolates_between_four_pixels():
    """As cv2.resize defines it: pixel centres are aligned, and edges repeated."""
    grey = np.random.default_rng(0).integers(0, 256, (37, 61), np.uint8)
    rows, columns = ((np.arange(24) + 0.5) * side / 24 - 0.5 for side in grey.shape)
    expected = ndimage.map_coordinates(grey.astype(float), np.meshgrid(rows, columns, indexing="ij"), order=1, mode="nearest")
    found = fit_square(Image.fromarray(grey), 24, "stretch_linear")
    assert np.abs(found - expected).max() <= 1


def test_16_bits_are_rounded(tmp_path):
    """To the nearest of 256 levels, not down."""
    values = np.array([[0, 128, 129, 257 * 100 - 129, 257 * 100 - 128, 257 * 100 + 128, 257 * 100 + 129, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "16.png")
    assert np.asarray(read_grey(tmp_path / "16.png")).tolist() == [[0, 0, 1, 99, 100, 100, 101, 255]]
    Image.fromarray(values[:, 3:]).save(tmp_path / "bright.png")
    assert np.asarray(read_grey(tmp_path / "bright.png")).tolist() == [[99, 100, 100, 101, 255]]


def test_contact_sheet_fills_rows_from_the_left():
    films = [Image.new("L", (30, 30), value) for value in (40, 80, 120, 160, 200)]
    sheet = np.asarray(contact_sheet(films, ["a", "b", "c", "d", "e"], columns=2, side=50))
    head = 17 + 6
    assert sheet.shape == (3 * (50 + head), 100)
    places = [(row * (50 + head) + head + 22, column * 50 + 25) for row in range(3) for column in range(2)]
    assert [int(sheet[place]) for place in places] == [40, 80, 120, 160, 200, 255]


def test_shrink_only_shrinks():
    assert shrink(Image.new("L", (300, 100)), 150).size == (150, 50)
    assert shrink(Image.new("L", (100, 300)), 150).size == (50, 150)
    assert shrink(Image.new("L", (30, 10)), 150).size == (30, 10) and shrink(Image.new("L", (900, 1)), 9).size == (9, 1)

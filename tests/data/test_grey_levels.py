"""Images of more than 8 bits: white is what the values need or the file declares, in every mode; and what is transparent."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from bones.data import images, png
from bones.system.errors import UnreadableImageError

FILM = np.random.default_rng(0).integers(0, 256, (30, 20)).astype(np.int64)
FILM[0, :2] = 0, 255


def read(path):
    """(height, width) int of an image."""
    return np.asarray(images.read_grey(path)).astype(int)


def of_bits(bits):
    """The film with values of so many bits, exactly proportional."""
    return np.rint(FILM * ((2**bits - 1) / 255)).astype(np.uint16)


def write_png(path, values, kind, chunks=(), interlace=0):
    """A PNG of 16 bits by hand: Pillow writes no 16-bit colour. Args: values: (h, w, samples); kind: colour type."""
    height, width = values.shape[:2]
    values = values.astype(">u2")
    passes = png.ADAM7 if interlace else ((0, 0, 1, 1),)
    parts = [values[y::down, x::across] for x, y, across, down in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, interlace)
    content = png.chunk(b"IHDR", header) + b"".join(png.chunk(*pair) for pair in chunks)
    path.write_bytes(png.SIGNATURE + content + png.chunk(b"IDAT", zlib.compress(rows)) + png.chunk(b"IEND", b""))
    return path


def grey_and_colour(bits, alpha):
    """{colour type: (h, w, samples)} of the film as grey, RGB, grey with alpha and RGBA."""
    values = of_bits(bits)
    opaque = np.full_like(values, alpha)
    return {
        0: values[..., None],
        2: np.stack([values] * 3, axis=-1),
        4: np.stack([values, opaque], axis=-1),
        6: np.stack([values] * 3 + [opaque], axis=-1),
    }


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
def test_png_of_any_depth_and_colour(bits, interlace, tmp_path):
    for alpha in (65535, 2**bits - 1):
        for kind, values in grey_and_colour(bits, alpha).items():
            path = write_png(tmp_path / "film.png", values, kind, interlace=interlace)
            assert np.abs(read(path) - FILM).max() <= 1, (bits, kind)
            assert images.read(path).bits == bits and images.read(path).depth == 16


def test_sbit_declares_white_where_no_value_needs_more(tmp_path):
    dim = of_bits(12) // 4
    for kind, values in ((0, dim[..., None]), (2, np.stack([dim] * 3, axis=-1))):
        chunk = (b"sBIT", bytes([12] * values.shape[2]))
        declared = read(write_png(tmp_path / "film.png", values, kind, [chunk]))
        assert np.abs(declared - np.rint(dim * (255 / 4095))).max() <= 1
        assert np.abs(read(write_png(tmp_path / "film.png", values, kind)) - np.rint(dim * (255 / 1023))).max() <= 1
    spread = of_bits(16)[..., None]
    assert np.abs(read(write_png(tmp_path / "film.png", spread, 0, [(b"sBIT", b"\x0c")])) - FILM).max() <= 1


def test_lower_bytes_count(tmp_path):
    """A tenth of a grey level in 16-bit colour is kept until it is rounded: Pillow alone would round down."""
    values = np.rint(FILM * 257 + 100).clip(0, 65535).astype(np.uint16)
    values[0, 1] = 65535
    expected = np.rint(values * (255 / 65535))
    for kind in (2, 6):
        stack = np.stack([values] * 3 + [np.full_like(values, 65535)] * (kind == 6), axis=-1)
        assert np.abs(read(write_png(tmp_path / "film.png", stack, kind)) - expected).max() <= 1


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_tiff_of_12_bits(white_is_zero, order, compression, tmp_path):
    values = of_bits(12)
    stored = (4095 - values if white_is_zero else values).astype(np.uint16)
    photometric = "miniswhite" if white_is_zero else "minisblack"
    options = {"byteorder": order, "compression": compression}
    tifffile.imwrite(tmp_path / "film.tif", stored, photometric=photometric, **options)
    assert np.abs(read(tmp_path / "film.tif") - FILM).max() <= 1
    if not white_is_zero:
        colour = np.stack([stored] * 3, axis=-1)
        tifffile.imwrite(tmp_path / "colour.tif", colour, photometric="rgb", **options)
        assert np.abs(read(tmp_path / "colour.tif") - FILM).max() <= 1
        tifffile.imwrite(
            tmp_path / "planes.tif", np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate", **options
        )
        assert np.abs(read(tmp_path / "planes.tif") - FILM).max() <= 1


@pytest.mark.parametrize("kind", ["int16", "int32", "uint32", "float16", "float32", "float64"])
def test_tiff_of_other_types(kind, tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", of_bits(11).astype(kind))
    assert np.abs(read(tmp_path / "film.tif") - FILM).max() <= 1


def test_floats_from_0_to_1(tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", (FILM / 255).astype(np.float32))
    assert np.abs(read(tmp_path / "film.tif") - FILM).max() <= 1
    tifffile.imwrite(tmp_path / "film.tif", (FILM / 510).astype(np.float32))
    assert np.abs(read(tmp_path / "film.tif") - FILM / 2).max() <= 1


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_values_without_a_meaning_are_refused(value, tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", np.array([[0, 5, value]], np.float32))
    with pytest.raises(UnreadableImageError, match="expected finite numbers of 0 or more"):
        read(tmp_path / "film.tif")


def test_grey_with_alpha_in_tiff(tmp_path):
    stack = np.stack([of_bits(12), np.full((30, 20), 65535, np.uint16)], axis=-1)
    tifffile.imwrite(tmp_path / "film.tif", stack, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    assert np.abs(read(tmp_path / "film.tif") - FILM).max() <= 1


def test_a_transparent_value_is_black_in_every_mode(tmp_path):
    expected = np.where(FILM == 255, 0, FILM)
    Image.fromarray(FILM.astype(np.uint8)).save(tmp_path / "L.png", transparency=255)
    assert (read(tmp_path / "L.png") == expected).all()
    Image.fromarray(FILM > 99).save(tmp_path / "1.png", transparency=255)
    assert not read(tmp_path / "1.png").any()
    white = of_bits(16)
    for kind, samples in ((0, 1), (2, 3)):
        values = np.stack([white] * samples, axis=-1)
        path = write_png(tmp_path / "16.png", values, kind, [(b"tRNS", struct.pack(">H", 65535) * samples)])
        assert np.abs(read(path) - expected).max() <= 1


def test_pgm_names_its_white(tmp_path):
    dim = of_bits(12) // 4
    (tmp_path / "film.pgm").write_bytes(b"P5 20 30 4095\n" + dim.astype(">u2").tobytes())
    assert np.abs(read(tmp_path / "film.pgm") - dim * (255 / 4095)).max() <= 1


def test_black_and_dark_images_are_noted(tmp_path):
    for top, note in ((0, "near-blank: contrast 0"), (15, "near-black: brightest level 15"), (63, "near-black"), (64, "")):
        Image.fromarray((FILM * top // 255).astype(np.uint8)).save(tmp_path / "film.png")
        notes = " ".join(images.read(tmp_path / "film.png").notes)
        assert note in notes and bool(note) == bool(notes), (top, notes)


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("kind", ["planar", "white is zero", "alpha"])
def test_orientation_where_pillow_does_not_read(kind, orientation, tmp_path):
    values = of_bits(12)
    options = {
        "planar": ((values,) * 3, {"photometric": "rgb", "planarconfig": "separate"}),
        "white is zero": (4095 - values, {"photometric": "miniswhite", "byteorder": ">"}),
        "alpha": (
            np.stack([values, np.full_like(values, 65535)], axis=-1),
            {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]},
        ),
    }[kind]
    tag = (274, "H", 1, orientation, True)
    tifffile.imwrite(tmp_path / "film.tif", np.asarray(options[0]), extratags=[tag], **options[1])
    expected = FILM[::-1, ::-1] if orientation == 3 else np.rot90(FILM, -1)
    assert np.abs(read(tmp_path / "film.tif") - expected).max() <= 1


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("extra", ["unspecified", "assocalpha"])
def test_what_is_no_opacity_changes_nothing(extra, samples, tmp_path):
    values = of_bits(12)
    other = np.full_like(values, 65535 if extra == "assocalpha" else 1000)
    stack = np.stack([*[values] * samples, other], axis=-1)
    kind = "rgb" if samples == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "film.tif", stack, photometric=kind, planarconfig="contig", extrasamples=[extra])
    assert np.abs(read(tmp_path / "film.tif") - FILM).max() <= 1


@pytest.mark.parametrize("top", [1.0001, 1.5])
def test_floats_a_little_above_1(top, tmp_path):
    tifffile.imwrite(tmp_path / "film.tif", (FILM / 255 * top).astype(np.float32))
    assert np.abs(read(tmp_path / "film.tif") - FILM).max() <= 1


@pytest.mark.parametrize("bits", [2, 4])
def test_a_transparent_value_of_few_bits(bits, tmp_path):
    values = np.arange(2**bits, dtype=np.uint8)
    packed = np.packbits(np.unpackbits(values[:, None], axis=1)[:, 8 - bits :])
    header = struct.pack(">IIBBBBB", 2**bits, 1, bits, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", struct.pack(">H", 1)), (b"IDAT", zlib.compress(b"\0" + packed.tobytes()))]
    (tmp_path / "film.png").write_bytes(png.SIGNATURE + b"".join(png.chunk(*pair) for pair in [*chunks, (b"IEND", b"")]))
    expected = values.astype(int) * 255 // (2**bits - 1)
    expected[1] = 0
    assert read(tmp_path / "film.png").tolist() == [expected.tolist()]


def test_hidden_values_say_nothing_about_white(tmp_path):
    values, hidden = of_bits(12), FILM % 2 == 1
    stack = np.stack([np.where(hidden, 65535, values)] * 3 + [np.where(hidden, 0, 65535)], axis=-1).astype(np.uint16)
    stack[0, :2] = [[0, 0, 0, 65535], [4095, 4095, 4095, 65535]]
    expected = np.where(hidden, 0, FILM)
    expected[0, :2] = 0, 255
    assert np.abs(read(write_png(tmp_path / "film.png", stack, 6)) - expected).max() <= 1


def test_an_sbit_that_cannot_be_is_none(tmp_path):
    for bits in (0, 17, 20):
        chunk = (b"sBIT", bytes([bits]))
        assert np.abs(read(write_png(tmp_path / "film.png", of_bits(12)[..., None], 0, [chunk])) - FILM).max() <= 1

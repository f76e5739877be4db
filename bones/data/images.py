"""Read an image file as grey pixels with what is to be reported of it, or raise one reason why not."""

import contextlib
import dataclasses
import functools
import io
import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image  # decodes PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, GIF and PGM

from bones.data import dicom, jpeg, png, tiff
from bones.data.file_kinds import is_image
from bones.data.grey_levels import to_image
from bones.system.errors import DicomError, NotARadiographError, UnreadableImageError, short_message

FORMATS = ["PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000", "GIF", "PPM"]
MAX_FILE_BYTES = 2**30  # of a file, which is read into memory
CONTRAST = 20  # grey levels from the 1st to the 99th percentile; with fewer an image is near-blank (radiographs: 70 or more)
DARK = 64  # an image without a brighter level is near-black: 14 bits whose upper 8 were taken for all end at 63
ORIENTATION = 0x0112  # EXIF tag
PANEL = "bone heat maps"  # Software in the text of our own panels, which are no radiographs
TURNS = {  # EXIF orientation: how to turn the stored image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Pillow's raw modes of 16-bit colour keep the upper byte. That of the other byte order keeps the lower one.
OTHER_BYTE = {"16L": "16B", "16B": "16L", "16N": "16B" if sys.byteorder == "little" else "16L"}


@dataclasses.dataclass(frozen=True)
class Picture:
    """A decoded image."""

    grey: Image.Image  # of mode L, upright, with pixels of equal sides
    mode: str  # Pillow's mode of the file (L, RGB, I;16, ...), or DICOM
    bits: int = 8  # that its values use
    depth: int = 8  # bits of a value in the file; 16 stands for all that are more than 8
    notes: tuple = ()  # what is to be reported of it
    contrast: int = 0  # grey levels from the 1st to the 99th percentile
    brightest: int = 0  # grey level


def read(path):
    """Read an image file.

    Colour becomes ITU-R 601 luma; transparent pixels show a black background; EXIF orientation is applied. Values of more than
    8 bits: see `grey_levels.white_of`. Of several frames the first is read. DICOM, which is what has DICM at byte 128: see
    `dicom_display.grey`. What a file is, its content says and not its name.

    Args:
        path: an image of FORMATS or a DICOM file.
    Returns: Picture.
    Raises: NotARadiographError for a DICOM object or another file that is none; UnreadableImageError with the reason.
    """
    path = Path(path)
    refuse_bombs()
    try:
        picture = read_any(path)
    except UnreadableImageError:
        raise
    except Image.UnidentifiedImageError:
        dicom_too = ", nor DICOM (expected DICM at byte 128)" if path.suffix.lower() in dicom.SUFFIXES else ""
        kind = UnreadableImageError if is_image(path) else NotARadiographError  # the name does not say that it is one
        raise kind(f"not an image that Pillow can read{dicom_too}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"refused as a decompression bomb: {error}") from None
    except OSError as error:
        truncated = "truncated" in str(error)
        reason = f"ends after {path.stat().st_size:,} bytes" if truncated else error.strerror or str(error)
        raise UnreadableImageError(reason) from None
    except Exception as error:  # decoders raise nearly any on damaged files; other images are still read
        known = isinstance(error, DicomError)
        reason = short_message(error) if known else f"damaged, or of a kind that is not supported ({short_message(error)})"
        raise UnreadableImageError(reason) from None
    contrast, brightest = exposure(picture.grey)
    notes = (*picture.notes, *exposure_notes(contrast, brightest))
    return dataclasses.replace(picture, notes=notes, contrast=contrast, brightest=brightest)


def read_grey(path):
    """The image of `read` alone: PIL.Image of mode L."""
    return read(path).grey


@functools.cache
def refuse_bombs():
    """Make Pillow raise an error where it warns of a bomb, at 89 million pixels. Its other warnings are of tags."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def read_any(path):
    """`read` without the wording of errors."""
    if not path.is_file():  # opening a pipe would block
        raise UnreadableImageError("not a file" if path.exists() else "no such file")
    size = path.stat().st_size
    if size == 0:
        raise UnreadableImageError("0 bytes (expected an image)")
    if size > MAX_FILE_BYTES:
        raise UnreadableImageError(f"it is larger than {MAX_FILE_BYTES:,} bytes (expected a radiograph)")
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == dicom.MAGIC:
        grey, notes = dicom.read(path)
        return Picture(grey.convert("L"), "DICOM", notes=notes)
    if head.startswith(png.SIGNATURE):
        return read_png(path.read_bytes())
    if head.startswith(jpeg.SIGNATURE):
        jpeg.check(content := path.read_bytes())
        return read_pillow(io.BytesIO(content))
    try:
        return read_pillow(path)
    except Image.UnidentifiedImageError:
        if head.startswith(tiff.SIGNATURES):
            return read_tiff(path)
        raise


def read_png(content):
    """A PNG file's Picture."""
    parsed = png.parse(content)
    if f"Software\0{PANEL}".encode() in parsed.texts:
        raise NotARadiographError("a heat map panel of this program")
    if parsed.split:
        return read_split(parsed)
    picture = read_pillow(io.BytesIO(parsed.content), parsed.declared if parsed.bits == 16 else None)
    return dataclasses.replace(picture, notes=frame_note(parsed.frames))


def read_split(parsed):
    """The Picture of a PNG of 16-bit grey with alpha, which `png.parse` made one of 8-bit RGBA with the same bytes."""
    with open_image(io.BytesIO(parsed.content)) as image:
        grey, alpha = np.moveaxis(np.asarray(image).view(">u2"), -1, 0)
        picture, bits = to_image(grey.astype(int), alpha.astype(int), parsed.declared)
        return Picture(upright(picture, image), "LA;16", bits, 16, frame_note(parsed.frames))


def read_tiff(path):
    """The Picture of a TIFF file that Pillow does not identify."""
    values, alpha, about = tiff.read(path)
    is_packed = 8 < about["bits"] < 8 * values.itemsize  # as of 12 bits, which are white's
    grey, bits = to_image(values, alpha, about["bits"] if is_packed else None, about["inverted"])
    grey = grey.transpose(TURNS[about["orientation"]]) if about["orientation"] in TURNS else grey
    return Picture(grey, f"{values.dtype} TIFF", bits, 8 * min(values.itemsize, 2), frame_note(about["pages"]))


def read_pillow(file, declared=None):
    """The Picture of a file that Pillow decodes.

    Args:
        file: path or file object.
        declared: bits of a sample that the file declares, where it has 16.
    """
    with open_image(file) as image:
        notes = frame_note(1 if image.format == "MPO" else getattr(image, "n_frames", 1))  # MPO: a JPEG with its previews
        mode, tile = image.mode, image.tile
        lower = lower_bytes(file, tile)
        image.load()
        if lower is not None:
            values = np.asarray(image).astype(int) * 256 + lower
            grey, bits = deep_colour(image, values, declared)
        elif mode.startswith("I") or mode == "F":  # one channel of more than 8 bits: I;16, I;16B, I or F
            is_inverted = image.format == "TIFF" and image.tag_v2.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO
            declared = 16 if image.format == "PPM" else declared  # which names its white; Pillow makes it 65,535
            if image.format == "TIFF" and 8 < (bits := image.tag_v2.get(tiff.BITS, (1,))[0]) < 16:  # packed
                declared = bits
            grey, bits = to_image(np.asarray(image), opacity(image), declared, is_inverted)
        else:
            return Picture(upright(to_grey(image), image), mode, notes=notes)
        return Picture(upright(grey, image), mode, bits, 16, notes)


def open_image(file):
    """Pillow's image of a file, not yet decoded.

    Raises: Image.UnidentifiedImageError also for a TIFF file that Pillow misreads; UnreadableImageError for missing strips.
    """
    image = Image.open(file, formats=FORMATS)
    if image.format == "TIFF":
        try:
            check_tiff(image, file)
        except (UnreadableImageError, Image.UnidentifiedImageError):
            image.close()
            raise
    return image


def check_tiff(image, file):
    """Raise what `open_image` raises for a TIFF image that Pillow opened."""
    tags = image.tag_v2
    if tiff.is_misread(tags):
        raise Image.UnidentifiedImageError
    tiff.check_strips(tags, file)
    # Pillow 12.3 exchanges the sides of a turned image before it is decoded.
    image._size = tags[tiff.WIDTH], tags[tiff.HEIGHT]


def lower_bytes(file, tile):
    """The lower bytes of 16-bit RGB or RGBA, as an array; None of another image, of which Pillow loses nothing."""
    raw = tile[0].args if tile else ""
    raw, *others = [raw] if isinstance(raw, str) else raw or [""]
    kind, _, order = str(raw).partition(";")
    if kind not in ("RGB", "RGBA", "RGBX") or order not in OTHER_BYTE:
        return None
    with open_image(file) as image:
        other = f"{kind};{OTHER_BYTE[order]}"
        image.tile = [part._replace(args=(other, *others) if others else other) for part in image.tile]
        return np.asarray(image).astype(int)


def deep_colour(image, values, declared):
    """`grey_levels.to_image` of 16-bit RGB or RGBA, with the transparency of its alpha or of one transparent colour."""
    alpha = values[..., 3] if values.shape[2] == 4 else None
    if alpha is None and "transparency" in image.info:
        alpha = (values != np.array(image.info["transparency"])).any(axis=2).astype(int) * 255
    return to_image(values[..., :3], alpha, declared)


def opacity(image):
    """Opacity of each pixel of 16-bit grey with a transparent value, 0 or 255; None without one."""
    clear = image.info.get("transparency")
    return None if clear is None else np.where(np.asarray(image) == clear, 0, 255)


def to_grey(image):
    """8-bit luminance of a PIL image of up to 8 bits a channel."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("L") if image.mode in ("L", "1") else image.convert("RGB").convert("L")


def upright(grey, image):
    """A grey image turned by the EXIF orientation of its file; Pillow turns TIFF files itself."""
    orientation = 1
    with contextlib.suppress(Exception):  # other EXIF tags may be damaged, which does not matter here
        orientation = 1 if image.format == "TIFF" else image.getexif().get(ORIENTATION, 1)
    return grey.transpose(TURNS[orientation]) if orientation in TURNS else grey


def frame_note(frames):
    """The note on a file of several frames."""
    return (f"frame 1 of {frames}",) if frames > 1 else ()


def exposure_notes(contrast, brightest):
    """Notes on an image whose decision would be about nothing."""
    blank = (f"near-blank: contrast {contrast} of 255",) if contrast < CONTRAST else ()
    return (*blank, f"near-black: brightest level {brightest} of 255") if is_black(brightest) else blank


def is_black(brightest):
    """Whether an image with this brightest level is near-black, as a wrong conversion leaves it; all black is blank."""
    return 0 < brightest < DARK


def exposure(grey):
    """Grey levels from the 1st to the 99th percentile of an image of mode L, and its brightest level."""
    counts = np.cumsum(grey.histogram())
    low, high = np.searchsorted(counts, [0.01 * counts[-1], 0.99 * counts[-1]])
    return int(high - low), grey.getextrema()[1]

"""TIFF files: kinds that Pillow does not identify or misreads, and strips that are missing.

Source: TIFF revision 6.0, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf.
"""

import logging

import tifffile  # kinds of TIFF that Pillow does not know
from PIL import Image  # the limit of an image's size

from bones.data import jpeg
from bones.system.errors import UnreadableImageError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, ORIENTATION = 256, 257, 258, 259, 262, 273, 274  # tags
ROWS, STRIP_BYTES, PLANES, EXTRA_SAMPLES, TABLES = 278, 279, 284, 338, 347
WHITE_IS_ZERO, SEPARATE, ASSOCIATED, UNASSOCIATED, JPEG = 0, 2, 1, 2, 7  # values of them
UNSUPPORTED = "a TIFF file that is damaged, or of a kind that is not supported; save it as PNG"


def read(path):
    """The first page of a TIFF file.

    Returns: (values, alpha, about): (height, width) or (height, width, 3); (height, width) of opacity, or None; and a dict with
        bits, orientation, inverted (whether the smallest value is white) and pages.
    Raises: UnreadableImageError when it is neither grey nor RGB, or cannot be decoded; Image.DecompressionBombError.
    """
    logging.getLogger("tifffile").disabled = True  # its messages are about the structure of files
    try:
        with tifffile.TiffFile(path) as file:
            return read_page(file.pages[0], len(file.pages))
    except (UnreadableImageError, Image.DecompressionBombError):
        raise
    except Exception:  # tifffile's are about its own parts
        raise UnreadableImageError(UNSUPPORTED) from None


def read_page(page, pages):
    """`read` of a page of tifffile."""
    if page.imagewidth * page.imagelength > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"Image size ({page.imagewidth * page.imagelength} pixels)")
    kind = page.photometric.name if page.photometric is not None else "none"
    if kind not in ("MINISWHITE", "MINISBLACK", "RGB") or page.axes not in ("YX", "YXS", "SYX"):
        raise UnreadableImageError(UNSUPPORTED)
    values = page.asarray()
    values = values.transpose(1, 2, 0) if page.axes == "SYX" else values
    channels = 3 if kind == "RGB" else 1
    # Values with associated alpha are multiplied by it already, as on a black background.
    has_alpha = values.ndim == 3 and tuple(page.extrasamples or ())[:1] == (UNASSOCIATED,)
    alpha = values[..., channels] if has_alpha else None
    values = values if values.ndim == 2 else values[..., 0] if channels == 1 else values[..., :3]
    about = {
        "bits": page.bitspersample,
        "orientation": page.tags.valueof(ORIENTATION, 1),
        "inverted": kind == "MINISWHITE",
        "pages": pages,
    }
    return values, alpha, about


def is_misread(tags):
    """Whether Pillow misreads a file with these tags: 16-bit colour in planes, or with associated alpha."""
    is_deep = max(tags.get(BITS, (1,))) > 8
    return is_deep and (tags.get(PLANES) == SEPARATE or ASSOCIATED in tags.get(EXTRA_SAMPLES, ()))


def check_strips(tags, path):
    """Raise UnreadableImageError when strips are missing, or data of a JPEG strip are; Pillow shows them as black or grey.

    Args:
        tags: Pillow's tag_v2.
        path: of the file.
    """
    offsets, sizes = tags.get(STRIPS), tags.get(STRIP_BYTES)
    if not offsets:  # in tiles
        return
    rows = min(tags.get(ROWS, tags[HEIGHT]), tags[HEIGHT])
    if len(offsets) < -(-tags[HEIGHT] // rows) or 0 in offsets:
        raise UnreadableImageError("its pixels are damaged: strips are missing")
    if tags.get(COMPRESSION) == JPEG and sizes:
        tables = bytes(tags.get(TABLES, b"\xff\xd8\xff\xd9"))[:-2]
        with open(path, "rb") as file:
            for offset, size in zip(offsets, sizes, strict=False):
                file.seek(offset)
                jpeg.check(tables + file.read(size)[2:])

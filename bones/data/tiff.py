"""Values of TIFF files that Pillow does not identify, such as big-endian files whose smallest value is white."""

import tifffile  # kinds of TIFF that Pillow does not know
from PIL import Image  # the limit of an image's size

from bones.system.errors import UnreadableImageError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read(path):
    """The first page of a TIFF file.

    Returns: (values, alpha, inverted, pages): (height, width) or (height, width, 3), the same of opacity or None, whether the
        smallest value is white, and the number of pages.
    Raises: UnreadableImageError when it is neither grey nor RGB; Image.DecompressionBombError.
    """
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        if page.imagewidth * page.imagelength > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError(f"Image size ({page.imagewidth * page.imagelength} pixels)")
        kind = page.photometric.name if page.photometric is not None else "none"
        if kind not in ("MINISWHITE", "MINISBLACK", "RGB") or page.axes not in ("YX", "YXS", "SYX"):
            raise UnreadableImageError(f"a TIFF file of a kind that is not supported ({kind}); save it as PNG")
        values = page.asarray()
        if page.axes == "SYX":
            values = values.transpose(1, 2, 0)
        channels = 3 if kind == "RGB" else 1
        alpha = values[..., channels] if values.ndim == 3 and values.shape[2] > channels else None
        values = values if values.ndim == 2 else values[..., 0] if channels == 1 else values[..., :3]
        return values, alpha, kind == "MINISWHITE", len(file.pages)

"""Values of more than 8 bits as 8-bit grey: which value is white, and what is transparent."""

import numpy as np
from PIL import Image  # conversion of colour to luminance

from bones.system.errors import UnreadableImageError


def to_image(values, alpha=None, declared=None, inverted=False):
    """The grey image of values of any depth.

    Args:
        values: (height, width), or (height, width, 3) for colour; integers or floats, not negative.
        alpha: (height, width), the opacity of each pixel, or None.
        declared: bits of a value that the file declares, such as PNG's sBIT, or None.
        inverted: whether the smallest value is white.
    Returns: (PIL.Image of mode L, bits that the values use). Transparent pixels show a black background.
    Raises: UnreadableImageError when a value is negative or not a number.
    """
    visible = values if alpha is None or not alpha.any() else values[alpha > 0]  # a hidden value says nothing about white
    white = white_of(visible, declared)
    levels = np.rint(np.minimum(values, white) * (255 / white)).astype(np.uint8)
    image = Image.fromarray(255 - levels if inverted else levels).convert("L")
    if alpha is not None:
        opacity = Image.fromarray(np.rint(alpha * (255 / white_of(alpha))).astype(np.uint8))
        image = Image.composite(image, Image.new("L", image.size), opacity)
    return image, int(np.ceil(white)).bit_length()


def white_of(values, declared=None):
    """The value of white: the greatest of the declared bits, or else of the least number of bits that all values fit into.

    Images of 10, 12 or 14 bits are often saved in files of 16 that do not declare it, as by `Image.fromarray(...).save`.
    At least 8 bits are assumed. Of floats of 0 to 2 that are no whole numbers, 1 is white, or the greatest one above.
    """
    low, top = values.min(), values.max()
    if not (low >= 0 and np.isfinite(top)):  # also where one is nan
        raise UnreadableImageError(f"its values are from {low} to {top} (expected finite numbers of 0 or more)")
    if values.dtype.kind == "f" and 0 < top <= 2 and (top <= 1 or (values % 1).any()):
        return max(1, top)
    used = int(np.ceil(top)).bit_length()
    return 2 ** (declared if declared and declared >= max(used, 8) else max(used, 8)) - 1

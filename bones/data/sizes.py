"""Bring grey images to a size: the network's square, square pixels, the side of a picture, the cells of a contact sheet."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps  # resizing, contact sheets

from bones.system.errors import UnreadableImageError

MOST_UNEQUAL = 20  # sides of a pixel, one to the other; more is an error in the file


def fit_square(grey, size, resize):
    """Bring a grey image to a square.

    Args:
        grey: PIL.Image of mode L.
        size: side of the square, pixels.
        resize: "pad" fits the long side and centres the image on black; the others resize each side to `size`: "stretch"
            averages the pixels that become one, "stretch_linear" interpolates between four pixels and "stretch_nearest" takes
            one, as OpenCV's and Keras's loaders do by default.
    Returns: (size, size) uint8.
    """
    if resize != "pad":
        return np.asarray(STRETCHES[resize](grey, (size, size)))
    scale = size / max(grey.size)
    width, height = (max(1, round(side * scale)) for side in grey.size)
    square = np.zeros((size, size), np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = grey.resize((width, height), Image.Resampling.BILINEAR)
    return square


def stretch_linear(grey, size):
    """Bilinear interpolation without smoothing, as `cv2.resize`: fine detail of a large image is lost or distorted."""
    (width, height), (across, down) = grey.size, size
    inverse = (width / across, 0, 0, 0, height / down, 0)
    return grey.transform(size, Image.Transform.AFFINE, inverse, Image.Resampling.BILINEAR)


STRETCHES = {
    "stretch": lambda grey, size: grey.resize(size, Image.Resampling.BILINEAR),
    "stretch_linear": stretch_linear,
    "stretch_nearest": lambda grey, size: grey.resize(size, Image.Resampling.NEAREST),
}


def square_pixels(grey, ratio):
    """An image brought to pixels of equal sides.

    Args:
        grey: PIL.Image of mode L.
        ratio: height of a pixel by its width.
    Returns: PIL.Image, enlarged along the longer side of its pixels; unchanged where the sides differ by 1 % at most.
    Raises: UnreadableImageError when the sides differ too much; Image.DecompressionBombError.
    """
    if 0.99 <= ratio <= 1.01:
        return grey
    if not 1 / MOST_UNEQUAL <= ratio <= MOST_UNEQUAL:
        raise UnreadableImageError(f"its pixels are {max(ratio, 1 / ratio):.3g} times as long as wide; correct their spacing")
    width, height = round(grey.width * max(1, 1 / ratio)), round(grey.height * max(1, ratio))
    if width * height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError(f"Image size ({width * height} pixels with pixels of equal sides)")
    return grey.resize((width, height), Image.Resampling.BILINEAR)


def shrink(film, side):
    """A PIL image, downscaled to a long side of `side` pixels where it is larger."""
    scale = min(1, side / max(film.size))
    return film.resize([max(1, round(scale * length)) for length in film.size], Image.Resampling.BILINEAR)


def contact_sheet(films, captions, columns=6, side=200):
    """Images in a grid, each under its caption.

    Args:
        films: PIL images of mode L.
        captions: one text an image; it may have several lines.
        side: pixels of the square that an image is fitted into.
    Returns: PIL.Image of mode L.
    """
    columns = min(columns, len(films))
    font, margin, line = ImageFont.load_default(13), 6, 17
    head = line * max(caption.count("\n") + 1 for caption in captions) + margin
    sheet = Image.new("L", (columns * side, -(-len(films) // columns) * (side + head)), 255)
    draw = ImageDraw.Draw(sheet)
    for place, (film, caption) in enumerate(zip(films, captions, strict=True)):
        left, top = place % columns * side, place // columns * (side + head)
        small = ImageOps.contain(film, (side - margin, side - margin))
        sheet.paste(small, (left + (side - small.width) // 2, top + head))
        draw.text((left + side // 2, top + head // 2), caption, fill=0, font=font, anchor="mm", align="center")
    return sheet

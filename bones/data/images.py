"""Read an image file as a square of grey pixels, or raise one reason why not; and draw contact sheets of images."""

import concurrent.futures
import functools
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps  # decodes PNG and JPEG
from tqdm import tqdm  # progress bar

from bones.data import dicom
from bones.system.errors import UnreadableImageError

AHEAD = 1024  # images that are queued for threads at once: a million would take a gigabyte


@functools.cache
def refuse_bombs():
    """Make Pillow raise an error where it warns of a decompression bomb, at 89 million pixels."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def in_threads(work, images, words):
    """Results of a function for each image, in order, computed in threads: Pillow releases the global interpreter lock.

    Args:
        words: description in the progress bar.
    """
    images = list(images)
    with (
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=len(images), desc=words, unit="view", leave=False, delay=1, disable=None) as bar,
    ):
        for start in range(0, len(images), AHEAD):
            for found in pool.map(work, images[start : start + AHEAD]):
                bar.update()
                yield found


def read_grey(path):
    """Luminance of an image file.

    Colour becomes ITU-R 601 luma; transparent pixels show a black background; 16-bit grey is scaled, 65,535 to 255; EXIF
    orientation is applied; of an animation the first frame is used. DICOM: see
    `dicom_display.grey`.

    Args:
        path: .png, .jpg or .dcm file.
    Returns: PIL.Image of mode L.
    Raises: UnreadableImageError with the reason.
    """
    path = Path(path)
    refuse_bombs()
    try:
        if not path.is_file():  # opening a pipe would block
            raise UnreadableImageError("not a file" if path.exists() else "no such file")
        if path.stat().st_size == 0:
            raise UnreadableImageError("0 bytes (expected an image)")
        if is_dicom(path):
            return to_grey(dicom.read(path))
        with Image.open(path) as image:
            image.load()
            return to_grey(ImageOps.exif_transpose(image))
    except Image.UnidentifiedImageError:
        raise UnreadableImageError("not an image that Pillow can read") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UnreadableImageError(f"refused as a decompression bomb: {error}") from None
    except OSError as error:
        truncated = "truncated" in str(error)
        reason = f"ends after {path.stat().st_size:,} bytes" if truncated else error.strerror or str(error)
        raise UnreadableImageError(reason) from None
    # Pillow's plugins raise these on damaged files; a DicomError is a ValueError.
    except (SyntaxError, ValueError, EOFError, MemoryError) as error:
        raise UnreadableImageError(str(error) or type(error).__name__) from None


def is_dicom(path):
    """Whether a file has the suffix of DICOM."""
    return Path(path).suffix.lower() == ".dcm"


def mode(path):
    """Pixel format of a readable image file: Pillow's mode (L, RGB, I;16, ...), or DICOM."""
    if is_dicom(path):
        return "DICOM"
    with Image.open(path) as image:
        return image.mode


def to_grey(image):
    """8-bit luminance of a decoded PIL image of any mode."""
    if image.mode in ("L", "1"):
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's modes of 16-bit files: I;16, I;16B or I
        values = np.asarray(image)
        if image.mode == "F" or values.min() < 0 or values.max() > 65535:
            raise UnreadableImageError(f"{image.mode} pixels from {values.min()} to {values.max()} (expected 8 or 16 bits)")
        return Image.fromarray((values / 257 + 0.5).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    return image.convert("RGB").convert("L")


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

"""Image files that do not decode, each with the reason expected, and odd ones that do."""

import io
import zlib

import numpy as np
from PIL import Image


def png(image):
    """Bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def twelve_bit_jpeg():
    """A JPEG whose header says 12 bits a sample."""
    file = io.BytesIO()
    Image.new("L", (16, 16), 100).save(file, "JPEG")
    content = bytearray(file.getvalue())
    content[content.index(b"\xff\xc0") + 4] = 12
    return bytes(content)


def bomb():
    """A PNG whose header says 20,000 x 20,000 pixels."""
    whole = bytearray(png(Image.new("1", (8, 8))))
    whole[16:24] = (20_000).to_bytes(4, "big") * 2
    whole[29:33] = zip_crc(whole[12:29])
    return bytes(whole)


def zip_crc(content):
    """CRC-32 as PNG has it."""
    return zlib.crc32(content).to_bytes(4, "big")


BAD = {
    "0 bytes": (b"", "0 bytes (expected an image)"),
    "text": (b"no image at all\n" * 20, "not an image that Pillow can read"),
    "cut in half": (png(Image.effect_noise((64, 64), 90))[:900], "ends after 900 bytes"),
    "bomb": (bomb(), "decompression bomb"),
    "12-bit JPEG": (twelve_bit_jpeg(), ""),
    "zip": (b"PK\x03\x04" + b"\0" * 99, "not an image that Pillow can read"),
}


def noise(shape, high=256, kind=np.uint8):
    return np.random.default_rng(0).integers(0, high, shape, kind)


def animated():
    file = io.BytesIO()
    frames = [Image.fromarray(noise((20, 20))) for _ in range(3)]
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    return file.getvalue()


def jpeg(mode):
    file = io.BytesIO()
    Image.fromarray(noise((20, 24, 3))).convert(mode).save(file, "JPEG")
    return file.getvalue()


def palette_with_transparency():
    image = Image.fromarray(noise((20, 24, 3))).quantize(16)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=0)
    return file.getvalue()


ODD = {
    "1 x 1": png(Image.new("L", (1, 1), 9)),
    "30000 x 10": png(Image.new("L", (30_000, 10), 100)),
    "10 x 30000": png(Image.new("L", (10, 30_000), 100)),
    "black": png(Image.new("L", (20, 20), 0)),
    "white": png(Image.new("L", (20, 20), 255)),
    "animated": animated(),
    "CMYK": jpeg("CMYK"),
    "16 bits": png(Image.fromarray(noise((20, 20), 65_536, np.uint16))),
    "palette with transparency": palette_with_transparency(),
    "a JPEG called .png": jpeg("L"),
}

"""Whether the pixels of a JPEG file are all there: decoders fill in what is missing, and Pillow does not say so.

Source: ITU-T T.81 (1992), https://www.w3.org/Graphics/JPEG/itu-t81.pdf.
"""

import re

import simplejpeg  # libjpeg-turbo with its warnings, which Pillow suppresses
from PIL import Image  # the limit of an image's size

from bones.system.errors import UnreadableImageError

SIGNATURE, END = b"\xff\xd8\xff", b"\xff\xd9"
DAMAGE = re.compile(r"premature end|Corrupt JPEG data(?!: \d+ extraneous bytes)", re.IGNORECASE)
SOS, PROGRESSIVE = 0xDA, 0xC2  # markers: start of scan, start of a frame of progressive scans
LONE = {0x01, *range(0xD0, 0xDA)}  # markers without a segment
NEXT_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def check(content):
    """Check that a JPEG file holds all of its pixels.

    Args:
        content: bytes of the file.
    Raises: UnreadableImageError when data are missing or damaged, also where the end marker is there.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        if height * width > Image.MAX_IMAGE_PIXELS:  # Pillow refuses it
            return
        simplejpeg.decode_jpeg(content, colorspace="GRAY", strict=True)
    except ValueError as error:  # libjpeg's errors and warnings; of what it does not support, Pillow says more
        if DAMAGE.search(str(error)):
            has_end = content.rstrip(b"\0").endswith(END)
            reason = "its pixels are damaged: data are missing" if has_end else f"ends after {len(content):,} bytes"
            raise UnreadableImageError(reason) from None
    if lacks_scans(content):
        raise UnreadableImageError("its pixels are damaged: scans of a progressive JPEG are missing")


def lacks_scans(content):
    """Whether a progressive JPEG lacks a scan: each coefficient begins at some bit, and each later scan adds the next one.

    T.81, G.1.2: a scan's Ah is the bit at which the one before it ended, and the last one ends at 0.
    """
    place, ends = 2, {}  # (component, coefficient): the bit at which its last scan ended; None before the first
    while found := NEXT_MARKER.search(content, place):
        marker, place = content[found.start() + 1], found.end()
        if marker in LONE:
            continue
        segment = content[place + 2 : place + int.from_bytes(content[place : place + 2], "big")]
        if marker == PROGRESSIVE:
            ends = {(number, k): None for number in segment[6::3] for k in range(64)}
        elif marker == SOS and ends and len(segment) >= 6:
            first, last, bits = segment[-3:]
            scanned = [(number, k) for number in segment[1:-3:2] for k in range(first, last + 1)]
            if any(ends.get(one) != (bits >> 4 or None) for one in scanned):
                return True
            ends |= dict.fromkeys(scanned, bits & 15)
        place += 2 + len(segment)
    return any(end != 0 for end in ends.values())

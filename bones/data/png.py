"""The chunks of a PNG file: those that its pixels need, what they declare, and whether all pixels are there.

Source: Portable Network Graphics, third edition, https://www.w3.org/TR/png-3/.
"""

import dataclasses
import struct
import zlib

from PIL import Image  # the limit of an image's size

from bones.system.errors import UnreadableImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NEEDED = {b"tRNS", b"eXIf"}  # ancillary chunks that change what is shown: transparent values, orientation
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type: samples a pixel
GREY_ALPHA, RGBA = 4, 6  # colour types
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # x, y, steps


@dataclasses.dataclass(frozen=True)
class Png:
    """A PNG file without the chunks that its pixels do not need."""

    content: bytes  # a PNG file; of 16-bit grey with alpha, one of 8-bit RGBA with the same bytes
    bits: int  # of a sample
    declared: int | None  # bits of a sample by its sBIT chunk
    frames: int
    texts: tuple  # contents of its tEXt chunks
    split: bool  # whether R, G, B, A are the upper and lower bytes of grey and alpha


def parse(content):
    """Read the chunks of a PNG file.

    Text, profiles and other ancillary chunks are dropped: they do not matter to the pixels (section 5.4), and Pillow refuses
    an image with a large or a damaged one.

    Args:
        content: bytes of the file.
    Returns: Png.
    Raises: UnreadableImageError when the header or pixels are damaged or incomplete.
    """
    chunks, is_cut = split(content)
    damaged = {kind for kind, _, intact in chunks if not intact}
    if damaged & {b"IHDR", b"PLTE", b"IDAT"}:
        raise UnreadableImageError("its pixels are damaged: a checksum is wrong")
    chunks = [one for one in chunks if one[2]]  # ancillary ones with a wrong checksum are ignored (section 13.1)
    found = {}
    for kind, data, _ in chunks:
        found.setdefault(kind, []).append(data)
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != 13:
        raise UnreadableImageError("not an image that Pillow can read")
    check_complete(found, "its pixels are damaged: rows are missing" if not is_cut else f"ends after {len(content):,} bytes")
    header, bits, kind = found[b"IHDR"][0], *found[b"IHDR"][0][8:10]
    clear = transparent(found, bits, kind)
    is_split = bits == 16 and kind == GREY_ALPHA
    if is_split:
        header = header[:8] + bytes([8, RGBA]) + header[10:]
    changed = {b"IHDR": header, b"tRNS": clear}
    kept = [(name, changed.get(name, data)) for name, data, _ in chunks if name[:1].isupper() or name in NEEDED]
    kept = [pair for pair in kept if pair[1] is not None]
    declared = max(found[b"sBIT"][0][: 1 if kind in (0, 4) else 3], default=0) if b"sBIT" in found else 0
    return Png(
        content=SIGNATURE + b"".join(chunk(*pair) for pair in kept if pair[0] != b"IEND") + chunk(b"IEND", b""),
        bits=bits,
        declared=declared if 0 < declared <= bits else None,
        frames=int.from_bytes(found[b"acTL"][0][:4], "big") if b"acTL" in found else 1,
        texts=tuple(found.get(b"tEXt", ())),
        split=is_split,
    )


def transparent(found, bits, kind):
    """The tRNS chunk as Pillow takes it: scaled like grey of 2 or 4 bits; None where its length is wrong."""
    data = found.get(b"tRNS", [None])[0]
    lengths = {0: (2,), 2: (6,), 3: range(1, 257)}.get(kind, ())
    if data is None or len(data) not in lengths:
        return None
    if kind == 0 and bits in (2, 4):
        return struct.pack(">H", (struct.unpack(">H", data)[0] & (2**bits - 1)) * 255 // (2**bits - 1))
    return data


def split(content):
    """[(kind, data, whether its checksum is right)] of the chunks up to IEND, and whether the file ends before that."""
    chunks, place = [], len(SIGNATURE)
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        if place + 12 + length > len(content):
            return [*chunks, (kind, data, True)], True
        checksum = int.from_bytes(content[place + 8 + length : place + 12 + length], "big")
        chunks.append((kind, data, zlib.crc32(kind + data) == checksum))
        place += 12 + length
        if kind == b"IEND":
            return chunks, False
    return chunks, True


def chunk(kind, data):
    """The bytes of a chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def check_complete(found, reason):
    """Raise UnreadableImageError with the reason unless the compressed data of the IDAT chunks hold every row."""
    header = found[b"IHDR"][0]
    width, height = struct.unpack(">II", header[:8])
    if width * height > Image.MAX_IMAGE_PIXELS:  # Pillow refuses it
        return
    expected = data_size(width, height, header[8] * SAMPLES.get(header[9], 1), is_interlaced=header[12])
    try:
        there = len(zlib.decompressobj().decompress(b"".join(found.get(b"IDAT", ())), expected))
    except zlib.error:
        raise UnreadableImageError("its pixels are damaged: they cannot be decompressed") from None
    if there < expected:
        raise UnreadableImageError(reason)


def data_size(width, height, bits, is_interlaced):
    """Bytes of an image's rows, each with a byte for its filter. Args: bits: of a pixel."""
    passes = ADAM7 if is_interlaced else ((0, 0, 1, 1),)
    sides = [(-(-(width - x) // step_x), -(-(height - y) // step_y)) for x, y, step_x, step_y in passes]
    return sum(rows * (1 + -(-columns * bits // 8)) for columns, rows in sides if columns > 0)

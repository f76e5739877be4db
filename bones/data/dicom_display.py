"""Convert the stored values of a DICOM file to 8 bits: modality LUT or rescale -> VOI LUT or window -> black to white.

Source: DICOM PS3.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html.
"""

import math

import numpy as np

from bones.data.dicom_elements import items, numbers, term
from bones.system.errors import DicomError

PALETTE = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# X-ray angiography and fluoroscopy: their modality LUT is for measuring, not for display (C.8.7.1.1.2).
NO_MODALITY_LUT = {"1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2"}


def grey(stored, dataset):
    """8-bit grey of stored values, as the file's display attributes specify.

    Stored values become modality values (C.11.1), and these a brightness by the VOI LUT or window (C.11.2), whose range becomes
    0 to 255; the first where there are several, the LUT where there are both. Without either, 8-bit values are unchanged, and
    deeper ones are scaled from minimum to maximum: 12-bit images often use a part of their range, and would be dark.
    MONOCHROME1, whose smallest value is white, is inverted (C.7.6.3.1.2). Padding (C.7.5.1.1.2) is excluded from minimum and
    maximum, and is black.

    Args:
        stored: (rows, columns) of 8- or 16-bit integers.
    Returns: (rows, columns) uint8.
    """
    possible, places = every_value(stored)
    padding = is_padding(possible, dataset)
    present = np.zeros(len(possible), bool)
    present[places] = True
    with np.errstate(all="ignore"):  # a damaged slope or window
        brightness = brightness_of(possible, present & ~padding, dataset)
    if not np.isfinite(brightness).all():
        raise DicomError("its rescale or its window is out of range")
    table = np.rint(255 * np.clip(brightness, 0, 1)).astype(np.uint8)
    if term(dataset, "PhotometricInterpretation") == "MONOCHROME1":
        table = 255 - table
    table[padding] = 0
    return table[places]


def brightness_of(possible, present, dataset):
    """Brightness of each possible stored value, to be clipped to 0 to 1; `present` masks those that occur in the image."""
    values, depth, low, high = modality_values(possible, dataset)
    brightness = voi_brightness(values, dataset, is_signed=low < 0)
    if brightness is not None:
        return brightness
    if depth > 8 and present.any():
        low, high = values[present].min(), values[present].max()
    return (values - low) / ((high - low) or 1)


def every_value(stored):
    """All values of an array's type, and the index of each element among them: a function is then computed for 65,536 values.

    Returns: (values, places): (256 or 65536,) of the type, and unsigned integers of the array's shape.
    """
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    unsigned = np.dtype(f"u{stored.dtype.itemsize}")
    return np.arange(256**stored.dtype.itemsize, dtype=unsigned).view(stored.dtype), stored.view(unsigned)


def is_padding(values, dataset):
    """Which stored values are PixelPaddingValue, or lie between it and PixelPaddingRangeLimit."""
    ends = [dataset.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if ends[0] is None:
        return np.zeros(len(values), bool)
    low, high = sorted(in_type(int(end), values.dtype) for end in (ends[0], ends[0] if ends[1] is None else ends[1]))
    return (values.astype(int) >= low) & (values.astype(int) <= high)


def in_type(value, kind):
    """A value as one of an integer type where only its sign was lost: some files have 65,535 for -1."""
    count = 256**kind.itemsize
    wraps = count // 2 <= value < count if kind.kind == "i" else -count // 2 <= value < 0
    return value - count * (kind.kind == "i") + count * (kind.kind == "u") if wraps else value


def modality_values(stored, dataset):
    """Modality values of stored values: by ModalityLUTSequence, else by RescaleSlope and RescaleIntercept (PS3.3, C.11.1).

    Returns: (values, depth, low, high): float64, their bits, and the minimum and maximum that these allow.
    """
    stored, depth = stored.astype(float), dataset.BitsStored  # integers of 8 or 16 bits would overflow
    least = -(2 ** (depth - 1)) if dataset.PixelRepresentation else 0
    if term(dataset, "SOPClassUID") in NO_MODALITY_LUT:
        return stored, depth, least, least + 2**depth - 1
    tables = usable_tables(dataset, "ModalityLUTSequence", is_signed=least < 0)
    if tables:
        first, entries, _ = tables[0]
        depth = max(8, int(entries.max()).bit_length())
        return look_up(stored, first, entries), depth, 0, 2**depth - 1
    slope, intercept = (one_number(dataset, name, default) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    if slope == 0:
        raise DicomError("its rescale slope is 0")
    ends = sorted(end * slope + intercept for end in (least, least + 2**depth - 1))
    return stored * slope + intercept, depth, *ends


def voi_brightness(values, dataset, is_signed):
    """Brightness by VOILUTSequence, else by WindowCenter, WindowWidth and VOILUTFunction (PS3.3, C.11.2).

    Args:
        values: (n,) modality values.
        is_signed: whether they may be negative.
    Returns: float64 from 0 (black) to 1 (white), to be clipped; None where the file has neither that can be used.
    """
    tables = usable_tables(dataset, "VOILUTSequence", is_signed)
    if tables:
        first, entries, _ = tables[0]
        # The descriptor's bits are often not the entries': as DCMTK with +Mv and the viewers, take those that these use.
        return look_up(np.rint(values), first, entries) / (2 ** max(1, int(entries.max()).bit_length()) - 1)
    function = term(dataset, "VOILUTFunction", "LINEAR")
    window = usable_window(dataset, function)
    if window is None:
        return None
    if function not in FUNCTIONS:
        raise DicomError("its window has a function other than LINEAR, LINEAR_EXACT and SIGMOID")
    centre, width = window
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))  # beyond 709 exp overflows
    # LINEAR is ((x - (c - 0.5)) / (w - 1) + 0.5): it begins at c - w / 2 like LINEAR_EXACT, but is one value narrower.
    span = width - 1 if function == "LINEAR" and width >= 1 else width
    low = centre - width / 2
    return (values - low) / span if span else np.where(values > low, 1.0, 0.0)


def usable_window(dataset, function):
    """(centre, width) of the first window that can be one; None where there is none.

    A width of 0, which some write for none, or below it, or of less than one value where it is LINEAR, is no window
    (C.11.2.1.2).
    """
    least = 1 if function == "LINEAR" and not is_fine(dataset) else math.ulp(0)
    pairs = zip(numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth"), strict=False)
    return next((pair for pair in pairs if math.isfinite(pair[0]) and pair[1] >= least), None)


def is_fine(dataset):
    """Whether modality values differ by less than 1, so that a window of less than 1 has a meaning."""
    return any(abs(slope) < 1 for slope in numbers(dataset, "RescaleSlope")[:1])


def usable_tables(dataset, name, is_signed):
    """The look-up tables of a sequence that have a descriptor and data, see `table_of`."""
    found = [table_of(item, dataset.original_encoding[1], is_signed) for item in items(dataset, name)]
    return [table for table in found if table]


def table_of(item, is_little_endian, is_signed, descriptor="LUTDescriptor", data="LUTData"):
    """A look-up table.

    Args:
        item: the data set with its descriptor and data.
        is_little_endian: byte order of its data.
        is_signed: whether what is mapped may be negative; then the value of the first entry has a sign (C.11.2.1.1).
        descriptor, data: names of the elements.
    Returns: (value that the first entry is for, (n,) float64 entries, bits by the descriptor); None without a usable one.
    """
    description = item.get(descriptor)
    if description is None or len(np.atleast_1d(description)) < 3 or data not in item:
        return None
    count, first, bits = (int(part) for part in description[:3])
    count, first = count % 65536 or 65536, first % 65536  # a signed type makes 40,000 negative
    first -= 65536 * (is_signed and first >= 32768)
    entries = entries_of(item[data].value, count, is_little_endian)
    return (first, entries, bits) if len(entries) else None


def entries_of(data, count, is_little_endian):
    """Entries of a look-up table, (n,) float64; of fewer than declared, those that are there.

    Args:
        data: list of numbers, or bytes: of one byte an entry where there are as many, or one more that makes them even.
    """
    if isinstance(data, bytes) and len(data) in (count, count + 1):
        data = np.frombuffer(data, "u1")
    elif isinstance(data, bytes):
        data = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if is_little_endian else ">u2")
    return np.atleast_1d(np.asarray([] if data is None else data, float))[:count]


def look_up(values, first, entries):
    """Values mapped by a look-up table: below its first value the first entry, above its last the last one."""
    return entries[np.clip(values.astype(float) - first, 0, len(entries) - 1).astype(int)]


def one_number(dataset, name, default):
    """A number of a data set, the first where there are several; the default where it is missing or empty."""
    found = numbers(dataset, name)
    if found and not math.isfinite(found[0]):
        raise DicomError(f"its {name} is not a finite number")
    return found[0] if found else default


def colour(stored, dataset):
    """8-bit RGB of stored values: pydicom converts every colour space to RGB, except palettes.

    Args:
        stored: (rows, columns) indices into a palette, or (rows, columns, 3).
    Returns: (rows, columns, 3) uint8.
    """
    if stored.dtype.kind != "u":
        raise DicomError("its colours are signed numbers (expected unsigned)")
    possible, places = every_value(stored)
    if term(dataset, "PhotometricInterpretation") != "PALETTE COLOR":
        return np.rint(np.minimum(possible / (2**dataset.BitsStored - 1), 1) * 255).astype(np.uint8)[places]
    channels = [palette(dataset, name, possible) for name in PALETTE]
    return np.stack(channels, axis=-1)[places]


def palette(dataset, name, possible):
    """8-bit levels of one colour of a palette, for each possible index. Args: name: of PALETTE."""
    table = table_of(dataset, dataset.original_encoding[1], False, f"{name}Descriptor", f"{name}Data")
    if table is None or not 1 <= table[2] <= 16:
        raise DicomError("its palette has no table of 1 to 16 bits for a colour")
    first, entries, bits = table
    return np.clip(np.rint(look_up(possible, first, entries) * 255 / (2**bits - 1)), 0, 255).astype(np.uint8)

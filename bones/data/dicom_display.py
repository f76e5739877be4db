"""Convert the stored values of a DICOM file to 8 bits: modality LUT or rescale -> VOI LUT or window -> black to white.

Source: DICOM PS3.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html.
"""

import numpy as np

from bones.system.errors import DicomError

PALETTE = [f"{colour}PaletteColorLookupTable" for colour in ("Red", "Green", "Blue")]
POINT = 1e-9  # smallest width of a range, against division by 0


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
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        table = 255 - table
    table[padding] = 0
    return table[places]


def brightness_of(possible, present, dataset):
    """Brightness of each possible stored value, to be clipped to 0 to 1; `present` masks those that occur in the image."""
    values, depth, low, high = modality_values(possible, dataset)
    brightness = voi_brightness(values, dataset)
    if brightness is not None:
        return brightness
    if depth > 8 and present.any():
        low, high = values[present].min(), values[present].max()
    return (values - low) / max(high - low, POINT)


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
    # Some files have 65,535 for -1.
    low, high = sorted(np.array(int(end)).astype(values.dtype) for end in (ends[0], ends[0] if ends[1] is None else ends[1]))
    return (values >= low) & (values <= high)


def modality_values(stored, dataset):
    """Modality values of stored values: by ModalityLUTSequence, else by RescaleSlope and RescaleIntercept (PS3.3, C.11.1).

    Returns: (values, depth, low, high): float64, their bits, and the minimum and maximum that these allow.
    """
    if dataset.get("ModalityLUTSequence"):
        item = dataset.ModalityLUTSequence[0]
        values, depth = look_up(stored, item.LUTDescriptor, item.LUTData, dataset)
        return values, depth, 0, 2**depth - 1
    slope, intercept = number(dataset, "RescaleSlope", 1), number(dataset, "RescaleIntercept", 0)
    if slope == 0:
        raise DicomError("its rescale slope is 0")
    depth = dataset.BitsStored
    least = -(2 ** (depth - 1)) if dataset.PixelRepresentation else 0
    ends = sorted(end * slope + intercept for end in (least, least + 2**depth - 1))
    return stored * slope + intercept, depth, *ends


def voi_brightness(values, dataset):
    """Brightness by VOILUTSequence, else by WindowCenter, WindowWidth and VOILUTFunction (PS3.3, C.11.2).

    Returns: float64 from 0 (black) to 1 (white), to be clipped; None where the file has neither.
    """
    if dataset.get("VOILUTSequence"):
        item = dataset.VOILUTSequence[0]
        shown, bits = look_up(np.rint(values), item.LUTDescriptor, item.LUTData, dataset)
        return shown / (2**bits - 1)
    centre, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if centre is None or width is None:
        return None
    function = dataset.get("VOILUTFunction") or "LINEAR"
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise DicomError("its window has a function other than LINEAR, LINEAR_EXACT and SIGMOID")
    if width <= 0 or (width < 1 and function == "LINEAR"):
        raise DicomError("its window is less than one value wide")
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))  # beyond 709 exp overflows
    # LINEAR is ((x - (c - 0.5)) / (w - 1) + 0.5): it begins at c - w / 2 like LINEAR_EXACT, but is one value narrower.
    span = width - 1 if function == "LINEAR" else width
    return (values - (centre - width / 2)) / max(span, POINT)


def look_up(values, descriptor, data, dataset):
    """Values mapped by a look-up table: below its first value the first entry, above its last the last one.

    pydicom's own function counts the entries in the type of the output: with 8 bits, it takes entry 0 for 256.

    Args:
        descriptor: number of entries (0: 65,536), the value that the first one is for, bits of an entry.
        data: list of numbers, or bytes with one or two bytes an entry.
        dataset: its byte order is that of the bytes.
    Returns: (entries, bits): float64 like `values`, and the bits of an entry.
    """
    count, first, bits = (int(part) for part in descriptor)
    count = count % 65536 or 65536  # a signed type makes 40,000 negative
    if isinstance(data, bytes):
        two_bytes = "<u2" if dataset.original_encoding[1] else ">u2"
        data = np.frombuffer(data, "u1" if len(data) < 2 * count else two_bytes)
    entries = np.atleast_1d(data)[:count].astype(float)
    if len(entries) < count or not 1 <= bits <= 16:
        raise DicomError("its look-up table is shorter than declared, or not of 1 to 16 bits")
    places = np.clip(values.astype(float) - first, 0, count - 1)
    return entries[places.astype(int)], bits


def number(dataset, name, default=None):
    """A number of a data set, the first where there are several; the default where it is missing or empty."""
    if dataset.get(name) in (None, ""):
        return default
    value = float(np.atleast_1d(np.asarray(dataset[name].value, float))[0])
    if not np.isfinite(value):
        raise DicomError(f"its {name} is not a finite number")
    return value


def colour(stored, dataset):
    """8-bit RGB of stored values: pydicom converts every colour space to RGB, except palettes.

    Args:
        stored: (rows, columns) indices into a palette, or (rows, columns, 3).
    Returns: (rows, columns, 3) uint8.
    """
    if stored.dtype.kind != "u":
        raise DicomError("its colours are signed numbers (expected unsigned)")
    possible, places = every_value(stored)
    if dataset.PhotometricInterpretation != "PALETTE COLOR":
        return np.rint(np.minimum(possible / (2**dataset.BitsStored - 1), 1) * 255).astype(np.uint8)[places]
    channels = [
        look_up(possible, dataset[f"{name}Descriptor"].value, dataset[f"{name}Data"].value, dataset) for name in PALETTE
    ]
    table = np.stack([np.rint(entries * 255 / (2**bits - 1)) for entries, bits in channels], axis=-1)
    return np.clip(table, 0, 255).astype(np.uint8)[places]

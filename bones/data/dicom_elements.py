"""Elements of a DICOM data set, read as the viewers do where a value's form is wrong and its meaning plain.

Source: DICOM PS3.5, section 6.2 (value representations), https://dicom.nema.org/medical/dicom/current/output/html/part05.html.
"""

import contextlib
import math

FRAME_GROUPS = {  # functional groups of enhanced objects (PS3.3, C.7.6.16): their elements that matter here
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}


def term(dataset, name, default=""):
    """A defined term in capitals, without padding; "" or the default where it is missing or empty. CS has capitals only."""
    value = dataset.get(name)
    return str(value).strip(" \0").upper() or default if value is not None else default


def numbers(dataset, name):
    """Numbers of an element of text (DS or IS), with nan for what is none or not finite; [] where it is missing or empty.

    A comma is read as a decimal point: nothing else can be meant by it. pydicom would refuse all values for one that is none.
    """
    element = dataset.get_item(name) if name in dataset else None
    if element is None or element.value in (None, "", b""):
        return []
    value = element.value
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").split("\\")
    elif isinstance(value, str) or not hasattr(value, "__len__"):
        value = [value]
    return [number(part) for part in value]


def number(part):
    """A number, or text of one, as a float; nan where it is none or not finite."""
    with contextlib.suppress(ValueError, TypeError):
        found = float(part.strip(" \0").replace(",", ".") if isinstance(part, str) else part)
        return found if math.isfinite(found) else math.nan
    return math.nan


def items(dataset, name):
    """The items of a sequence; [] where it is missing, empty or no sequence."""
    value = dataset.get(name)
    return list(value) if value is not None and not isinstance(value, (bytes, str)) else []


def take_first_frame(dataset):
    """Copy the elements of the first frame's functional groups, or of the shared ones, into the data set itself."""
    for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        for group in items(dataset, groups)[:1]:
            for sequence, names in FRAME_GROUPS.items():
                for item in items(group, sequence)[:1]:
                    if "WindowWidth" in names and not any(width > 0 for width in numbers(item, "WindowWidth")):
                        continue  # a window of the whole object may be one
                    for name in names:
                        if name in item:
                            dataset[name] = item[name] if name == "VOILUTFunction" else raw(item, name)


def raw(item, name):
    """An element as it is in the file, so that a value of a wrong form is read by `numbers`."""
    return item.get_item(name)

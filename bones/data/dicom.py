"""Read the stored values of a DICOM file, and with dicom_display.py an image of 8 bits.

Nothing about the patient is kept: pydicom reads only the elements that describe the pixels. No text of a file is quoted:
pydicom's messages and warnings quote values, which in a damaged file may be anything. So they are silenced, and this module
words every reason why a file is not read.

Source: DICOM PS3.3, https://dicom.nema.org/medical/dicom/current/output/html/part03.html.
"""

import contextlib
import functools
import io
import logging
import os
import re
import signal
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image  # the image, and the limit of its size

from bones.data import dicom_kinds, jpeg
from bones.data.dicom_display import PALETTE, colour, grey
from bones.data.dicom_elements import numbers, take_first_frame, term
from bones.data.sizes import square_pixels
from bones.system import backend
from bones.system.errors import DicomError, MissingPackageError, UnreadableImageError

MAGIC = b"DICM"  # at byte 128
SUFFIXES = {".dcm", ".dicom", ".ima"}  # the usual ones; many files have none
PIXELS = ["PixelData", "FloatPixelData", "DoubleFloatPixelData"]
NEEDED = ["Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation"]
NEEDED += ["SamplesPerPixel", "PhotometricInterpretation"]
TAGS = [
    *NEEDED,
    *("HighBit", "PlanarConfiguration", "NumberOfFrames", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence", "PresentationLUTShape"),
    *("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("SOPClassUID", "Modality", "PresentationIntentType", "ConversionType", "ImageType", "SeriesDescription"),
    *(name + part for name in PALETTE for part in ("Descriptor", "Data")),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *PIXELS,
]
COLOURS = {"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"}  # pydicom makes RGB of each
GREYS = {"MONOCHROME1", "MONOCHROME2"}
DEFLATED = "1.2.840.10008.1.2.1.99"
# The first bytes of a file in the transfer syntax Explicit VR Little Endian (PS3.10, section 7.1).
PLAIN_HEAD = b"\0" * 128 + b"DICM" + b"\2\0\x10\0UI\x14\0" + b"1.2.840.10008.1.2.1\0"
EXTENDED_JPEG = "1.2.840.10008.1.2.4.51"
CONVERT = "convert it to Explicit VR Little Endian with another program, such as DCMTK's"
MEMORY_LIMIT = 2**31  # bytes of address space for decoding one image in a subprocess: 89 million pixels of 16 bits fit
UNDECODED, OUT_OF_MEMORY = 3, 12  # exit status of the subprocess
CRASHES = {signal.SIGABRT, signal.SIGSEGV, signal.SIGFPE, signal.SIGILL, getattr(signal, "SIGBUS", signal.SIGABRT)}
WINDOWS_CRASH = 0xC0000000  # such as an access violation
TIMEOUT_SECONDS = 120  # seconds for the same; an image of 8 million pixels takes 1.5, one of 89 million 6
DAMAGED_HEADER = "its header is damaged"
DAMAGED_PIXELS = "its pixels cannot be decoded: damaged, or truncated"


def read(path):
    """The image in a DICOM file; of several frames the first.

    Args:
        path: pathlib.Path of a file.
    Returns: (PIL.Image of mode L with pixels of equal sides, notes on it).
    Raises: NotARadiographError; DicomError with the reason; Image.DecompressionBombError; OSError when the file cannot be
        opened.
    """
    with path.open("rb") as file, hide_library_errors(DAMAGED_HEADER):
        dataset = read_header(file)
        dicom_kinds.check(dataset)
        check_header(dataset)
        take_first_frame(dataset)
    with hide_library_errors(DAMAGED_PIXELS):
        stored = stored_pixels(dataset, path)
        if stored.shape[:2] != (dataset.Rows, dataset.Columns) or stored.dtype.itemsize > 2:
            raise DicomError(DAMAGED_PIXELS)
    with hide_library_errors(DAMAGED_HEADER):
        is_grey = dataset.PhotometricInterpretation in GREYS
        shown = grey(lowest_bits(stored, dataset), dataset) if is_grey else colour(stored, dataset)
        return square_pixels(Image.fromarray(shown).convert("L"), pixel_ratio(dataset)), notes_on(dataset)


def pixel_ratio(dataset):
    """Height of a pixel by its width: by the first spacing that is one, else by PixelAspectRatio (PS3.3, C.7.6.3.1.7)."""
    for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        sides = numbers(dataset, name)
        if len(sides) == 2 and min(sides) > 0:  # not where one is nan
            return sides[0] / sides[1]
    return 1


def notes_on(dataset):
    """What is to be reported of an image."""
    frames = numbers(dataset, "NumberOfFrames")
    notes = (f"frame 1 of {frames[0]:.0f}",) if frames and frames[0] > 1 else ()
    kind, shape = dataset.PhotometricInterpretation, term(dataset, "PresentationLUTShape")
    if (kind, shape) in (("MONOCHROME2", "INVERSE"), ("MONOCHROME1", "IDENTITY")):  # C.8.11.3
        notes += (f"PresentationLUTShape {shape} contradicts {kind}, which is followed",)
    return notes


@contextlib.contextmanager
def hide_library_errors(reason):
    """Context that replaces other errors by this reason: on damaged files pydicom raises various errors, which quote values."""
    try:
        yield
    except (DicomError, UnreadableImageError, Image.DecompressionBombError):
        raise
    except Exception as error:
        raise DicomError(f"{reason} ({type(error).__name__})") from None


@functools.cache
def library():
    """pydicom, imported and silenced at the first DICOM file. Raises: DicomError when it is missing."""
    # Once, and for all threads: `warnings.catch_warnings` would change the filters of the others.
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").disabled = True
    try:
        backend.require("pydicom.pixels", "reading DICOM")
        return backend.require("pydicom", "reading DICOM")
    except MissingPackageError:
        raise DicomError("DICOM needs pydicom: pip install -r requirements/extra.txt") from None


# ---------------------------------------------------------------------------------------------------------------------
# File -> data set


def read_header(file, tags=TAGS, pixels=True):
    """Data set of an open DICOM file with its preamble: the elements in tags, with the pixels still encoded, or without."""
    pydicom, options = library(), {"specific_tags": tags, "stop_before_pixels": not pixels}
    meta = pydicom.filereader.read_file_meta_info(file.name)
    if "TransferSyntaxUID" not in meta:
        raise DicomError("its header names no transfer syntax")
    file.seek(0)
    if meta.TransferSyntaxUID == DEFLATED:
        content = file.read()
        return pydicom.dcmread(inflated(content[meta_end(content) :]), **options)
    return pydicom.dcmread(file, **options)


def meta_end(content):
    """Where the file meta information of a file ends; its group length (0002,0000) may be missing. PS3.10, section 7.1."""
    place = 132
    while content[place : place + 2] == b"\2\0":
        is_long = content[place + 4 : place + 6] in (b"OB", b"UN")
        place += 12 + struct.unpack_from("<I", content, place + 8)[0] if is_long else 8
        place += 0 if is_long else struct.unpack_from("<H", content, place - 2)[0]
    return place


def inflated(content):
    """A file of a deflated data set, inflated up to a limit. pydicom has none; a few bytes could fill the memory."""
    inflater, limit = zlib.decompressobj(-zlib.MAX_WBITS), 2 * Image.MAX_IMAGE_PIXELS
    plain = inflater.decompress(content, limit)
    if inflater.unconsumed_tail:
        raise Image.DecompressionBombError(f"deflated data exceed limit of {limit} bytes")
    if not inflater.eof:
        raise DicomError(DAMAGED_PIXELS)
    return io.BytesIO(PLAIN_HEAD + plain)


def photometric(dataset):
    """PhotometricInterpretation as the standard writes it, also of a file with small letters or a space before its number."""
    return term(dataset, "PhotometricInterpretation").replace("MONOCHROME ", "MONOCHROME")


def check_header(dataset):
    """Raise DicomError unless a data set describes pixels that are supported here."""
    if not any(name in dataset for name in PIXELS):
        raise DicomError("it contains no pixels: a report or a directory, or truncated")
    missing = [name for name in NEEDED if dataset.get(name) in (None, "")]
    if missing:
        raise DicomError(f"its header lacks {', '.join(missing)}")
    kind = dataset.PhotometricInterpretation = photometric(dataset)
    samples, size = dataset.SamplesPerPixel, dataset.Rows * dataset.Columns
    for wrong, reason in (
        ("PixelData" not in dataset, "its pixels are floating-point numbers (expected integers of 1 to 16 bits)"),
        (dataset.BitsAllocated > 16, "its pixels have more than 16 bits (expected 1 to 16)"),
        (size == 0, "it has no rows or no columns"),
        (kind not in {*GREYS, *COLOURS, "PALETTE COLOR"}, "its photometric interpretation is not supported"),
        (samples != (3 if kind in COLOURS else 1), "its number of samples contradicts its photometric interpretation"),
    ):
        if wrong:
            raise DicomError(reason)
    shift(dataset)
    if size > Image.MAX_IMAGE_PIXELS:  # Pillow's message
        limit = f"Image size ({size} pixels) exceeds limit of {Image.MAX_IMAGE_PIXELS} pixels"
        raise Image.DecompressionBombError(f"{limit}, could be decompression bomb DOS attack.")


# ---------------------------------------------------------------------------------------------------------------------
# Data set -> stored values


def shift(dataset):
    """How many bits a pixel's values lie above the lowest ones (PS3.5, 8.1.1). A HighBit of 0 is taken for a missing one.

    Raises: DicomError when HighBit and BitsStored contradict each other.
    """
    bits = dataset.BitsStored
    found = (dataset.get("HighBit") or bits - 1) + 1 - bits
    if not 0 <= found <= dataset.BitsAllocated - bits:
        raise DicomError("its HighBit and BitsStored contradict each other")
    return found


def lowest_bits(stored, dataset):
    """Stored values, moved to the lowest bits if the header says that they lie above them, unless all of them lie there."""
    above, bits = shift(dataset), dataset.BitsStored
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if stored.dtype.kind == "i" else (0, 2**bits)
    are_lowest = (stored & (2**above - 1)).any() and stored.min() >= low and stored.max() < high
    return stored if are_lowest else stored >> above  # what is below them may be an overlay


def stored_pixels(dataset, path):
    """Stored values of the first frame: (rows, columns), or (rows, columns, 3) where it has colours.

    Pillow decodes JPEG and JPEG 2000 where it can: it is always installed, and checks the size before it decodes.

    Raises: DicomError with the reason; UnreadableImageError for a JPEG with missing data.
    """
    pydicom, syntax = library(), dataset.file_meta.TransferSyntaxUID
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        raise DicomError(f"its transfer syntax is not supported: {CONVERT}") from None
    name = re.split(r" \(|,", syntax.name)[0]  # "JPEG Lossless" of "JPEG Lossless, Non-Hierarchical, First-Order ..."
    plugin = "pylibjpeg pylibjpeg-openjpeg" if "High-Throughput" in name else "python-gdcm"
    is_deep_jpeg = syntax == EXTENDED_JPEG and dataset.BitsStored != 8  # only libjpeg's plugin decodes 12 bits
    if is_deep_jpeg:
        name, plugin = f"{name} of 12 bits", "pylibjpeg pylibjpeg-libjpeg"
    if not decoder.is_available or (is_deep_jpeg and "pylibjpeg" not in decoder.available_plugins):
        raise DicomError(f"its pixels are compressed as {name}, for which a plugin is missing: pip install {plugin}")
    if not decoder.is_native:
        check_frame(dataset)
    if is_deep_jpeg or not (decoder.is_native or "pillow" in decoder.available_plugins):
        return decode_in_subprocess(path)
    with all_bits(dataset):
        return pydicom.pixels.pixel_array(dataset, index=0, decoding_plugin="" if decoder.is_native else "pillow")


def check_frame(dataset):
    """Raise UnreadableImageError when data of the first frame are missing, if it is a JPEG."""
    from pydicom import encaps

    frames = int(next(iter(numbers(dataset, "NumberOfFrames")), 1) or 1)
    frame = encaps.get_frame(dataset.PixelData, 0, number_of_frames=frames)
    if frame.startswith(jpeg.SIGNATURE):
        jpeg.check(frame)


@contextlib.contextmanager
def all_bits(dataset):
    """Context in which BitsStored is BitsAllocated where values lie above the lowest bits: pydicom would clear the others."""
    bits = dataset.BitsStored
    if shift(dataset):
        dataset.BitsStored = dataset.BitsAllocated
    try:
        yield
    finally:
        dataset.BitsStored = bits


def decode_in_subprocess(path):
    """What `stored_pixels` returns, decoded in a subprocess.

    One changed byte can crash gdcm's decoders of lossless JPEG and JPEG-LS, and Python with them; they print to standard error,
    and allocate the size that the compressed frame declares, whatever the header says. RLE, which pydicom decodes in Python,
    may expand 64 times. A subprocess costs half a second.
    """
    command = [sys.executable, "-m", "bones.data.dicom", os.fspath(path)]
    checkout, single = {"PYTHONPATH": str(Path(__file__).parents[2])}, {"OPENBLAS_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            env=os.environ | checkout | single,  # each thread of OpenBLAS would take address space
            # Ctrl-C must not stop the decoder, which would make the image look damaged. The flag is Windows's.
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except subprocess.TimeoutExpired:
        raise DicomError(f"its pixels were not decoded within {TIMEOUT_SECONDS} seconds") from None
    if done.returncode:
        raise DicomError(reason_of(done.returncode))
    return np.load(io.BytesIO(done.stdout))


def reason_of(status):
    """Why the subprocess of `decode_in_subprocess` ended with an exit status other than 0."""
    if status == OUT_OF_MEMORY:
        return "its pixels were not decoded: the decoder had too little memory"
    if status == UNDECODED or -status in CRASHES or status >= WINDOWS_CRASH:
        return DAMAGED_PIXELS
    ended = f"was ended by signal {-status}" if status < 0 else f"did not start, exit status {status}"
    return f"its pixels were not decoded: the decoder {ended}"


def limit_memory():
    """Limit this process's memory where the system has such a limit, and allows it: macOS and a low hard limit do not."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # ImportError: Windows
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def write_decoded(path):
    """Write the stored values of a file's first frame to standard output, for `decode_in_subprocess`."""
    limit_memory()
    pydicom, file = library(), io.BytesIO()
    dataset = pydicom.dcmread(path, specific_tags=TAGS)
    dataset.PhotometricInterpretation = photometric(dataset)
    np.save(file, pydicom.pixels.pixel_array(dataset, index=0))
    sys.stdout.buffer.write(file.getbuffer())


if __name__ == "__main__":
    try:
        write_decoded(sys.argv[1])
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)
    except Exception:
        sys.exit(UNDECODED)

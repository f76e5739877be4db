"""Pixels of a table of views: decoded in parallel into a memory-mapped cache, and read from it row by row."""

import concurrent.futures
import hashlib
import logging
import mmap
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image  # pixels between arrays and files
from tqdm import tqdm  # progress bar

from bones.data.images import read
from bones.data.sizes import fit_square
from bones.system import files
from bones.system.errors import DataError, NotARadiographError, UnreadableImageError
from bones.system.files import printable

log = logging.getLogger(__name__)

CACHE = Path("data/cache")
DECODERS = ("pydicom", "gdcm", "pylibjpeg", "libjpeg", "openjpeg")  # optional packages that read DICOM
AHEAD = 1024  # images that are queued for threads at once: a million would take a gigabyte
RELEASE_EVERY = 256  # views decoded before their pixels are released from memory
UNREADABLE, LEFT_OUT, NOTE = "unreadable", "left out", "note"  # kinds of remarks on images
SKIP_ADVICE = "\nUnpack them again, or pass --skip-unreadable; the run then records how many were left out."


def load_pixels(views, size, resize, skip_unreadable=False, cache=CACHE, transform=None):
    """Pixels of every view, decoded in parallel on first use and mapped from a cache file from then on.

    The cache file is named by a hash of every path, byte size, modification time, change time and inode, and of size and
    resize mode: a changed file or setting makes a new one, and the old one can be removed at any time.

    Args:
        views: table of `bones.data.views.find_views`.
        size, resize: see `fit_square`.
        skip_unreadable: leave out views that cannot be decoded, with their labels, instead of raising an error. Files that
            are no radiographs, such as reports, are always left out.
        cache: folder of the cache files, or None to decode into memory.
        transform: f((height, width) uint8) -> the same, applied before resizing; only without a cache.
    Returns: (views, pixels): the table of the views that were decoded, and (n, size, size, 1) uint8 in its order, read-only.
    Raises: DataError that lists every unreadable view with the reason.
    """
    if cache is None:
        pixels = np.zeros((len(views), size, size, 1), np.uint8)
        remarks = decode_all(views["path"], size, resize, pixels, transform)
    else:
        file = Path(cache) / f"{cache_key(views, size, resize)}.npy"
        pixels, remarks = read_cache(file) or build_cache(views["path"], size, resize, file)
        if (remarks["kind"] == UNREADABLE).any() and not skip_unreadable:
            del pixels  # Windows removes no file that is mapped
            file.unlink()  # the next run decodes again: the cause (permissions) may not change a time or size
    report(views, remarks, None if skip_unreadable else "" if cache is None else SKIP_ADVICE)
    keep = np.setdiff1d(np.arange(len(views)), remarks.loc[remarks["kind"] != NOTE, "place"])
    if not len(keep):
        raise DataError("None of the files is a radiograph; see above for what they are.")
    return views.iloc[keep].reset_index(drop=True), Rows(pixels, keep)


def report(views, remarks, advice):
    """Report remarks on views: raise a DataError for unreadable ones, and print a warning for others.

    Args:
        views: table of views.
        remarks: of `decode_all`.
        advice: end of the error's message; None to leave out unreadable views.
    """
    kinds = {kind: remarks[remarks["kind"] == kind] for kind in (UNREADABLE, LEFT_OUT, NOTE)}
    if len(bad := kinds[UNREADABLE]):
        message = describe(views, bad, "cannot be decoded")
        if advice is not None:
            raise DataError(message + advice)
        log.warning("%s\nThey are left out, with their labels.", message)
    if len(left := kinds[LEFT_OUT]):
        log.warning("%s\nThey are left out, with their labels.", describe(views, left, "are no radiographs"))
    if number := kinds[NOTE]["place"].nunique():
        log.warning("%d of %d images have remarks, such as near-blank; data_loader.py --check lists them.", number, len(views))


class Rows:
    """Selected rows of an array, in a given order, without a copy of the array.

    Fancy indexing of a memory map would read all rows; this reads rows on access.
    """

    def __init__(self, array, rows):
        rows = np.asarray(rows)
        self.array, self.rows = (array.array, array.rows[rows]) if isinstance(array, Rows) else (array, rows)
        self.shape = (len(self.rows), *array.shape[1:])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, places):
        values = self.array[self.rows[places]]
        release_memory(self.array)
        return values

    def of(self, views, part):
        """The Rows of some views: self has those of the table `views`, and `part` is a table of some of them."""
        return Rows(self.array, self.rows[pd.Index(views["path"]).get_indexer(part["path"])])


def release_memory(array):
    """Release the memory of a memory-mapped array: what was read or written stays in the system's page cache alone."""
    mapped = getattr(array, "base", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class Mirrored(Rows):
    """Rows whose images, (height, width, 1), are flipped left to right as they are read."""

    def __getitem__(self, places):
        return super().__getitem__(places)[:, :, ::-1]


def cache_key(views, size, resize):
    """Name of the cache file of a table of views at a size and resize mode."""
    # Raise the number when images.read or fit_square changes. With another package, other files are readable.
    key = hashlib.sha256(f"grey 3 {size} {resize} {[find_spec(name) is not None for name in DECODERS]}".encode())
    for path in views["path"]:
        try:
            state = os.stat(path)
        except OSError:  # such as a broken link: decoding will report it
            state = os.stat_result([0] * 10)
        key.update(f"\n{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}".encode(errors="surrogateescape"))
        key.update(f"\0{state.st_ctime_ns}\0{state.st_ino}".encode())  # tell a file that replaced another of its size and time
    return key.hexdigest()[:32]


def read_cache(file):
    """(pixels, remarks of `decode_all`) of a cache file, or None when it is absent or damaged."""
    try:
        return np.load(file, mmap_mode="r"), pd.read_csv(file.with_suffix(".csv"))
    except (OSError, ValueError, EOFError):  # pandas' and numpy's errors on damaged files are ValueErrors
        return None


def build_cache(paths, size, resize, file):
    """Decode every path into an .npy file, and write the remarks beside it. Returns: what `read_cache` does.

    Raises: DataError when it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with files.locked(file.with_suffix(".lock")):  # only one process decodes
            return read_cache(file) or fill_cache(paths, size, resize, file)
    except OSError as error:
        raise DataError(
            f"{file} cannot be written ({files.reason(error)}): the decoded views, {len(paths) * size**2 / 1e9:.2g} GB.\n"
            f"Make room, or remove older files in {file.parent}."
        ) from None


def fill_cache(paths, size, resize, file):
    """Decode into the cache file, while `build_cache` holds the lock."""
    with files.whole_file(file) as partial, files.whole_file(file.with_suffix(".csv")) as partial_csv:  # renamed first
        pixels = create_array(partial, (len(paths), size, size, 1))
        remarks = decode_all(paths, size, resize, pixels)
        pixels.flush()
        del pixels  # Windows renames no file that is mapped
        remarks.to_csv(partial_csv, index=False)
    return np.load(file, mmap_mode="r"), remarks


def create_array(path, shape):
    """A new .npy file of uint8, mapped into memory. Raises: OSError when the disk is full."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    files.reserve(path, os.path.getsize(path))
    return array


def decode_all(paths, size, resize, pixels, transform=None):
    """Decode every path into `pixels`, (n, size, size, 1), in threads.

    Returns: pandas.DataFrame of remarks: the place in `paths`, the kind (UNREADABLE, LEFT_OUT or NOTE) and the text.
    """
    remarks = []

    def decode(place):
        try:
            picture = read(paths.iloc[place])
            grey = picture.grey if transform is None else Image.fromarray(transform(np.asarray(picture.grey)))
            pixels[place, ..., 0] = fit_square(grey, size, resize)
            remarks.extend((place, NOTE, note) for note in picture.notes)
        except NotARadiographError as error:
            remarks.append((place, LEFT_OUT, str(error)))
        except UnreadableImageError as error:
            remarks.append((place, UNREADABLE, str(error)))

    for done, _ in enumerate(in_threads(decode, range(len(paths)), "Decoding views")):
        if done % RELEASE_EVERY == 0:
            release_memory(pixels)
    return pd.DataFrame(sorted(remarks), columns=["place", "kind", "text"])


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


def describe(views, remarks, what):
    """The message that lists remarks on views. Args: what: what they have in common, such as "cannot be decoded"."""
    paths, where = views["path"].iloc[remarks["place"]], ""
    try:
        common = os.path.commonpath([os.path.dirname(path) for path in views["path"]]) or "."
        paths, where = [os.path.relpath(path, common) for path in paths], f" under {printable(common)}"
    except ValueError:  # one data root is absolute and another relative, or they are on two drives of Windows
        pass
    lines = [f"  {printable(path)}   {reason}" for path, reason in zip(paths, remarks["text"], strict=True)]
    return f"{len(remarks)} of {len(views)} images{where} {what}:\n" + "\n".join(lines)

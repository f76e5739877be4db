"""Pixels of a table of views: decoded in parallel into a memory-mapped cache, and read from it row by row."""

import hashlib
import logging
import mmap
import os
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
from PIL import Image  # pixels between arrays and files

from bones.data.images import fit_square, in_threads, read_grey
from bones.system import files
from bones.system.errors import DataError, UnreadableImageError
from bones.system.files import printable

log = logging.getLogger(__name__)

CACHE = Path("data/cache")
RELEASE_EVERY = 256  # views decoded before their pixels are released from memory
SKIP_ADVICE = "\nUnpack them again, or pass --skip-unreadable; the run then records how many were left out."


def load_pixels(views, size, resize, skip_unreadable=False, cache=CACHE, transform=None):
    """Pixels of every view, decoded in parallel on first use and mapped from a cache file from then on.

    The cache file is named by a hash of every path, byte size, modification and change time, and of size and resize mode: a
    changed file or setting makes a new one, and the old one can be removed at any time.

    Args:
        views: table of `bones.data.views.find_views`.
        size, resize: see `fit_square`.
        skip_unreadable: leave out views that cannot be decoded, with their labels, instead of raising an error.
        cache: folder of the cache files, or None to decode into memory.
        transform: f((height, width) uint8) -> the same, applied before resizing; only without a cache.
    Returns: (views, pixels): the table of the views that were decoded, and (n, size, size, 1) uint8 in its order, read-only.
    Raises: DataError that lists every unreadable view with the reason.
    """
    if cache is None:
        pixels = np.zeros((len(views), size, size, 1), np.uint8)
        bad = decode_all(views["path"], size, resize, pixels, transform)
    else:
        file = Path(cache) / f"{cache_key(views, size, resize)}.npy"
        pixels, bad = read_cache(file) or build_cache(views["path"], size, resize, file)
        if len(bad) and not skip_unreadable:
            file.unlink()  # the next run decodes again: the cause (permissions) may not change a time or size
    if len(bad):
        message = describe_unreadable(views, bad)
        if not skip_unreadable:
            raise DataError(message + ("" if cache is None else SKIP_ADVICE))
        log.warning("%s\nThey are left out, with their labels.", message)
    keep = np.setdiff1d(np.arange(len(views)), bad["place"])
    return views.iloc[keep].reset_index(drop=True), Rows(pixels, keep)


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
    key = hashlib.sha256(f"grey 1 {size} {resize}".encode())  # raise the number when read_grey or fit_square changes
    for path in views["path"]:
        try:
            state = os.stat(path)
        except OSError:  # such as a broken link: decoding will report it
            state = os.stat_result([0] * 10)
        key.update(f"\n{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}".encode(errors="surrogateescape"))
        key.update(f"\0{state.st_ctime_ns}".encode())  # tells a file that replaced another and kept its size and time
    return key.hexdigest()[:32]


def read_cache(file):
    """(pixels, table of unreadable images) of a cache file, or None when it is absent or damaged."""
    try:
        return np.load(file, mmap_mode="r"), pd.read_csv(file.with_suffix(".csv"))
    except (OSError, ValueError, EOFError):  # pandas' and numpy's errors on damaged files are ValueErrors
        return None


def build_cache(paths, size, resize, file):
    """Decode every path into an .npy file, and list the unreadable ones beside it. Returns: what `read_cache` does.

    Raises: DataError when it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_suffix(".lock")):  # only one process decodes
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
        bad = decode_all(paths, size, resize, pixels)
        pixels.flush()
        bad.to_csv(partial_csv, index=False)
    return np.load(file, mmap_mode="r"), bad


def create_array(path, shape):
    """A new .npy file of uint8, mapped into memory. Raises: OSError when the disk is full."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    files.reserve(path, os.path.getsize(path))
    return array


def decode_all(paths, size, resize, pixels, transform=None):
    """Decode every path into `pixels`, (n, size, size, 1), in threads.

    Returns: pandas.DataFrame with the place in `paths` of each unreadable image, and the reason.
    """
    bad = []

    def decode(place):
        try:
            grey = read_grey(paths.iloc[place])
            grey = grey if transform is None else Image.fromarray(transform(np.asarray(grey)))
            pixels[place, ..., 0] = fit_square(grey, size, resize)
        except UnreadableImageError as error:
            bad.append((place, str(error)))

    for done, _ in enumerate(in_threads(decode, range(len(paths)), "Decoding views")):
        if done % RELEASE_EVERY == 0:
            release_memory(pixels)
    return pd.DataFrame(sorted(bad), columns=["place", "reason"])


def describe_unreadable(views, bad):
    """The message that lists unreadable views."""
    paths = views["path"].iloc[bad["place"]]
    common = os.path.commonpath([os.path.dirname(path) for path in views["path"]]) or "."
    names = [printable(os.path.relpath(path, common)) for path in paths]
    lines = [f"  {name}   {reason}" for name, reason in zip(names, bad["reason"], strict=True)]
    return f"{len(bad)} of {len(views)} images under {printable(common)} cannot be decoded:\n" + "\n".join(lines)

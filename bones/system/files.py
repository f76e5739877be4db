"""Files that are written whole or not at all, and read with one message where they are not what they should be."""

import contextlib
import os
import re
import shutil
from pathlib import Path

from bones.system.errors import FileError

PARTIAL = ".partial-"  # what the name of a file or folder begins with while it is written


@contextlib.contextmanager
def whole_file(target):
    """A temporary path beside a file; it takes the file's place when the block ends without an error, and is removed else.

    Raises: OSError when it cannot be written; the file is as it was.
    """
    target = Path(target)
    partial = target.with_name(PARTIAL + target.name)
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        with contextlib.suppress(OSError):  # a fault of the block is the one to tell
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def scratch_folder(target):
    """A new folder beside a file or folder that is to be made; it is removed when the block ends."""
    target = Path(target)
    scratch = target.with_name(PARTIAL + target.name)
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    try:
        scratch.mkdir(parents=True)
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def whole_folder(target):
    """A new folder beside `target`; it gets that name when the block ends without an error, and is removed else."""
    with scratch_folder(target) as partial:
        yield partial
        partial.rename(target)


def reserve(path, size):
    """Take a file's room on the disk, so that a disk too full is told at once.

    Without it, a file that is mapped into memory ends the process with a bus error, and HDF5 leaves an open file behind.

    Args:
        path: of the file, made if absent.
        size: bytes.
    Raises: OSError when there is no room, or the system allows no file so large.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def reason(error):
    """What the system said when something could not be written, in a few words.

    h5py says it in a text of many lines, and the last of its errors is seldom the one that tells.
    """
    numbers, link = [], error
    while link is not None:
        said = re.search(r"errno = (\d+)", str(link))
        numbers.append(int(said[1]) if said else getattr(link, "errno", None))
        link = link.__context__
    found = [number for number in numbers if number]
    return os.strerror(found[-1]) if found else str(error)


def read_table(path, columns, hint):
    """A CSV file with at least some columns, as a pandas.DataFrame.

    Args:
        hint: sentence at the end of every message: where the file comes from, or what to do.
    Raises: FileError when it cannot be read, is no table, or lacks a column.
    """
    import pandas as pd  # here, since what only writes files does without its half second

    try:
        table = pd.read_csv(path, encoding_errors="surrogateescape")
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}. {hint}") from None
    except ValueError as error:  # pandas' parser errors are such
        raise FileError(f"{path} is no table ({str(error).strip()}). {hint}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise FileError(f"{path} lacks the columns {', '.join(missing)}; expected {','.join(columns)}. {hint}")
    return table


def printable(name):
    """A file's name in a line of text: what would break the line, or is no Unicode, is escaped as in Python: \\n, \\xff."""
    escaped = {sign: repr(sign)[1:-1].replace("\\udc", "\\x") for sign in set(str(name)) if not sign.isprintable()}
    return str(name).translate(str.maketrans(escaped))

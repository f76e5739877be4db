"""A full disk is told before anything is written, in the system's own words."""

import os
import re


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


def printable(name):
    """A file's name in a line of text: what would break the line, or is no Unicode, is escaped as in Python: \\n, \\xff."""
    escaped = {sign: repr(sign)[1:-1].replace("\\udc", "\\x") for sign in set(str(name)) if not sign.isprintable()}
    return str(name).translate(str.maketrans(escaped))

"""Files that are written completely or not at all, and read with one error message where they are invalid."""

import codecs
import contextlib
import errno
import functools
import logging
import os
import re
import shutil
import warnings
from pathlib import Path

import filelock  # one process at a time

from bones.system.errors import FileError, short_message

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, getattr(errno, "ENOTSUP", errno.EOPNOTSUPP))  # NFS, Lustre, FUSE
PARTIAL = ".partial-"  # what the name of a file or folder begins with while it is written


@contextlib.contextmanager
def whole_file(target):
    """A temporary path beside a file; it replaces the file when the block ends without an error, and is removed otherwise.

    Raises: OSError when it cannot be written; the file is unchanged.
    """
    target = Path(target)
    partial = target.with_name(PARTIAL + target.name)
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    finally:
        with contextlib.suppress(OSError):  # an exception of the block is the one to raise
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path, timeout=-1):
    """Hold a lock file. On a file system without locks, print a warning once and continue without.

    Args:
        timeout: seconds to wait for another process; -1 for ever.
    Raises: filelock.Timeout; OSError when the file cannot be written.
    """
    lock = filelock.FileLock(path, timeout=timeout, fallback_to_soft=False)  # a soft one outlives a killed process
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        warn_without_locks(Path(path).parent)
    try:
        yield
    finally:
        lock.release()  # does nothing where it was not acquired


@functools.cache
def warn_without_locks(folder):
    """Warn, once, that a folder's file system has no locks."""
    log.warning("The file system of %s has no locks: let no two processes work in it at once.", folder)


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
    """A new folder beside `target`; it gets that name when the block ends without an error, and is removed otherwise."""
    with scratch_folder(target) as partial:
        yield partial
        partial.rename(target)


def reserve(path, size):
    """Allocate a file's space on the disk, so that a full disk raises an error at once.

    Otherwise a memory-mapped file ends the process with a bus error, and HDF5 leaves an open file behind.

    Args:
        path: of the file, made if absent.
        size: bytes.
    Raises: OSError when the disk is full, or the file system allows no file so large.
    """
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with open(path, "ab") as file:
            os.posix_fallocate(file.fileno(), 0, size)


def reason(error):
    """The system's message of an error in writing, such as "No space left on device".

    h5py quotes it in a text of many lines, and the last exception of the chain is seldom the cause.
    """
    numbers, link = [], error
    while link is not None:
        said = re.search(r"errno = (\d+)", str(link))
        numbers.append(int(said[1]) if said else getattr(link, "errno", None))
        link = link.__context__
    found = [number for number in numbers if number]
    return os.strerror(found[-1]) if found else str(error)


def read_table(path, columns, hint, **options):
    """A CSV file with at least some columns, as a pandas.DataFrame.

    Args:
        hint: sentence at the end of every message: where the file comes from, or what to do.
        options: of pandas.read_csv.
    Raises: FileError when it cannot be read, is not a CSV table, or lacks a column.
    """
    import pandas as pd  # here: importing it takes half a second, which writing files does not need

    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):  # a row of more values than names
            options |= {"encoding": encoding(path), "encoding_errors": "surrogateescape"}
            table = pd.read_csv(path, index_col=False, **options)
    except pd.errors.ParserWarning:
        raise FileError(f"{path} has a row with more values than its first line has names. {hint}") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}. {hint}") from None
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise FileError(f"{path} is not a CSV table ({short_message(error)}). {hint}") from None
    missing = [column for column in columns if column not in table]
    if missing:
        raise FileError(f"{path} lacks the columns {', '.join(missing)}; expected {','.join(columns)}. {hint}")
    return table


def encoding(path):
    """Encoding of a text file by its first bytes: UTF-16 or 32, as spreadsheets save it, also without a mark, or UTF-8."""
    with open(path, "rb") as file:
        head = file.read(4)
    marks = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"}  # that of UTF-32 begins with that of UTF-16
    marks |= {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
    found = next((name for mark, name in marks.items() if head.startswith(mark)), None)
    zeros = {(False, True): "utf-16-le", (True, False): "utf-16-be"}  # of a letter's two bytes, the first or second is 0
    return found or zeros.get(tuple(byte == 0 for byte in head[:2]), "utf-8")


def separator(path):
    """What separates the columns of a table of text: a comma, or the semicolon or tab that its first line has more often.

    Raises: FileError when it cannot be read.
    """
    try:
        with open(path, encoding=encoding(path), errors="surrogateescape") as file:
            first = file.readline()
    except (OSError, UnicodeError) as error:
        raise FileError(f"{path} cannot be read: {getattr(error, 'strerror', None) or short_message(error)}.") from None
    return max(",;\t", key=first.count)


def from_here(path):
    """A path from the working directory on, or the whole one where Windows has it on another drive."""
    try:
        return os.path.relpath(path)
    except ValueError:
        return os.path.abspath(path)


def printable(name):
    """A file's name for one line of text: line breaks and invalid Unicode are escaped as in Python: \\n, \\xff."""
    escaped = {sign: repr(sign)[1:-1].replace("\\udc", "\\x") for sign in set(str(name)) if not sign.isprintable()}
    return str(name).translate(str.maketrans(escaped))

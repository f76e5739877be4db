"""What differs on Windows and macOS, emulated: nothing here was run on either."""

import io
import os
import subprocess
import sys
from pathlib import Path

import gdcm
import numpy as np
import pytest
from dicom_files import RAMP, compress, film, read, save
from support import ROOT

from bones.data import dicom
from bones.data.pixels import load_pixels
from bones.data.views import find_views
from bones.system.errors import DataError


@pytest.fixture
def no_change_of_mapped_files(monkeypatch):
    """Renaming, replacing or removing a file that is mapped into memory fails, as on Windows."""

    def refuse(function):
        def checked(*paths, **options):
            maps = Path("/proc/self/maps").read_text()
            for path in paths:
                if isinstance(path, (str, Path)) and f" {Path(path).resolve()}\n" in maps:
                    raise PermissionError(13, "The process cannot access the file", str(path))
            return function(*paths, **options)

        return checked

    for owner, name in ((os, "replace"), (os, "rename"), (os, "remove"), (os, "unlink"), (Path, "unlink"), (Path, "rename")):
        monkeypatch.setattr(owner, name, refuse(getattr(owner, name)))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="mapped files are found as on Linux")
def test_the_cache_is_closed_before_it_is_renamed_or_removed(no_change_of_mapped_files, small_root, tmp_path):
    views, cache = find_views(small_root, "train"), tmp_path / "cache"
    first = load_pixels(views, 16, "pad", cache=cache)[1]
    assert (load_pixels(views, 16, "pad", cache=cache)[1][:4] == first[:4]).all()
    with pytest.raises(PermissionError):
        os.remove(next(cache.glob("*.npy")))  # the emulation finds the mapped file
    Path(views["path"][3]).write_bytes(b"")
    with pytest.raises(DataError, match="0 bytes"):
        load_pixels(views, 16, "pad", cache=cache)
    load_pixels(views, 16, "pad", skip_unreadable=True, cache=cache)
    with pytest.raises(DataError, match="0 bytes"):
        load_pixels(views, 16, "pad", cache=cache)


def lossless(path):
    """A film in lossless JPEG, which is decoded in a process of its own."""
    return compress(save(film(RAMP, WindowCenter=1000, WindowWidth=700)), gdcm.TransferSyntax.JPEGLosslessProcess14_1, path)


MACOS = """
import resource, runpy, sys
def refuse(*arguments):
    raise ValueError("current limit exceeds maximum limit")
resource.setrlimit = refuse
sys.argv = ["dicom", sys.argv[1]]
runpy.run_module("bones.data.dicom", run_name="__main__")
"""


def test_a_decoder_without_a_limit_of_memory_decodes(in_tmp):
    command = [sys.executable, "-c", MACOS, lossless("film.dcm")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert np.load(io.BytesIO(done.stdout)).shape == RAMP.shape


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_low_hard_limit_is_kept(in_tmp):
    lossless("film.dcm")
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}]\nfrom bones.data import images\nprint(images.read('film.dcm').grey.size)"
    )
    limited = f'ulimit -v 8000000; exec {sys.executable} -c "$CODE"'
    done = subprocess.run(["sh", "-c", limited], env=os.environ | {"CODE": code}, capture_output=True, text=True)
    assert done.stdout == "(64, 64)\n", done.stderr


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (3, dicom.DAMAGED_PIXELS),
        (-6, dicom.DAMAGED_PIXELS),
        (-11, dicom.DAMAGED_PIXELS),
        (0xC0000005, dicom.DAMAGED_PIXELS),
        (12, "its pixels were not decoded: the decoder had too little memory"),
        (-9, "its pixels were not decoded: the decoder was ended by signal 9"),
        (1, "its pixels were not decoded: the decoder did not start, exit status 1"),
    ],
)
def test_what_ends_the_decoder_is_said(status, reason, in_tmp, monkeypatch):
    path = lossless("film.dcm")
    assert read(path).shape == RAMP.shape
    ended = subprocess.CompletedProcess([], status, b"")
    monkeypatch.setattr(subprocess, "run", lambda *arguments, **options: ended)
    with pytest.raises(DataError, match=reason):
        read(path)

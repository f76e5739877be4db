"""What differs on Windows and macOS, emulated: nothing here was run on either."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import gdcm
import numpy as np
import pytest
from dicom_files import RAMP, compress, film, read, save
from support import ROOT

import model_test
from bones.data import dicom, roots
from bones.data.pixels import load_pixels
from bones.data.views import find_views
from bones.evaluation import panels
from bones.runs import record as records
from bones.system.errors import DataError


@pytest.fixture
def no_change_of_mapped_files(monkeypatch):
    """Renaming, replacing or removing a file that is mapped into memory fails, as on Windows."""

    def refuse(function):
        def checked(*paths, **options):
            maps = Path("/proc/self/maps").read_text(encoding="utf-8")
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


@pytest.fixture
def two_drives(monkeypatch):
    """No relative path leads into a folder named drive, or out of it."""
    relpath = os.path.relpath

    def on_one_drive(path, start="."):
        if ("drive" in Path(path).parts) != ("drive" in Path(start).absolute().parts):
            raise ValueError("path is on mount 'C:', start on mount 'D:'")
        return relpath(path, start)

    monkeypatch.setattr(os.path, "relpath", on_one_drive)


def test_the_run_of_this_repository_is_found_from_another_drive(two_drives, phantoms, in_tmp, monkeypatch, capsys):
    (in_tmp / "drive").mkdir()
    monkeypatch.chdir("drive")
    assert model_test.main([str(next((phantoms / "valid").rglob("*.png")))]) == 0
    assert f"no run is named, so {records.SHIPPED} is used" in capsys.readouterr().err


def test_unreadable_images_of_an_absolute_and_a_relative_root_are_listed(small_root, in_tmp):
    """Neither these nor two drives have a common folder."""
    other = in_tmp / "other"
    shutil.copytree(small_root, other)
    views = find_views([small_root, Path("other")], "train")
    for place in (0, -1):
        Path(views["path"].iloc[place]).write_bytes(b"")
    with pytest.raises(DataError) as error:
        load_pixels(views, 16, "pad", cache=None)
    assert f"  {views['path'].iloc[0]}   " in str(error.value) and f"  {views['path'].iloc[-1]}   " in str(error.value)


def test_a_root_in_other_letters_is_the_same_where_case_is_ignored(in_tmp, small_root, monkeypatch):
    shutil.copytree(small_root, in_tmp / "mura-V1.1")
    assert [*roots.data_roots([small_root, "mura-V1.1"])] == ["MURA-v1.1", "mura-V1.1"]
    monkeypatch.setattr(Path, "samefile", lambda self, other: str(self).lower() == str(other).lower())
    with pytest.raises(DataError, match="named twice"):
        roots.data_roots([small_root, "mura-V1.1"])


def test_names_of_roots_on_two_drives():
    places = [PureWindowsPath(r"D:\MURA"), PureWindowsPath(r"E:\MURA")]
    assert roots.names(places) == ["D:/MURA", "E:/MURA"]


def test_panels_of_studies_that_differ_in_case_have_names_of_their_own():
    taken = set()
    assert [panels.free_name(name, taken) for name in ("a/Study1", "A/study1")] == ["a_Study1.png", "A_study1-2.png"]


def test_tables_on_standard_output_end_lines_once(run, phantoms, monkeypatch, capsys):
    monkeypatch.setattr(os, "linesep", "\r\n")  # what pandas writes, and standard output then makes \r\r\n of it
    assert model_test.main([str(run), str(next((phantoms / "valid").rglob("*.png"))), "--csv", "-"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 2 and "\r" not in printed
    assert model_test.main([str(run)]) == 0
    assert b"\r" not in (run / "predictions.csv").read_bytes()

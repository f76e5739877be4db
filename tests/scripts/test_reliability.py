"""Nothing is lost: kills, signals, full disks, two processes at once. docs/reliability.md lists the faults."""

import contextlib
import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import numpy as np
import pandas as pd
import pytest
import soak
from support import ROOT, one_message, train
from tiny import TINY

import mura
from bones.data import pixels
from bones.data.phantoms import sets as phantom
from bones.data.pixels import load_pixels
from bones.data.views import find_views
from bones.runs import checkpoints
from bones.runs.folder import HISTORY, RunFolder
from bones.system.errors import DataError

STEPS = 8  # of an epoch of soak.py's training


needs_whole = pytest.mark.xdist_group("whole")  # one process for all of them: what they share takes a minute


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """soak.py's training as nobody stopped it: its folder, and the data."""
    folder = tmp_path_factory.mktemp("whole")
    root = folder / "phantoms"
    phantom.draw_set(root, train_studies=40, held_out_studies=12, size=64, seed=1)
    assert soak.advance(folder, root)
    return folder / "run", root


# ---------------------------------------------------------------------------------------------------------------------
# Kills and signals


@needs_whole
def test_killed_anywhere_and_resumed_equals_uninterrupted(whole, tmp_path):
    plans = [
        ("decoding into the cache", 1, 0.001),
        ("training step", 10, 0.0),  # in the second epoch
        ("writing a network", 2, 0.004),
        ("scoring of tuning views", 1, 0.01),
        ("scoring held-out views", 1, 0.0),
    ]
    for number, plan in enumerate(plans):
        assert not soak.advance(tmp_path, whole[1], (*plan, int(signal.SIGKILL))), f"{plan} did not hit"
        if number:
            soak.check_whole(tmp_path / "run")
    assert soak.advance(tmp_path, whole[1])
    soak.compare(whole[0], tmp_path / "run")


@needs_whole
def test_stopped_within_a_step_and_resumed_equals_uninterrupted(whole, tmp_path):
    before = 0
    for number, step in ((signal.SIGTERM, 3), (signal.SIGINT, STEPS + 4), (signal.SIGTERM, 2 * STEPS)):  # the last of its epoch
        done = soak.train(tmp_path, whole[1], ("training step", step - before, 0, int(number)))
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr and "--resume" in done.stdout
        epochs, steps = re.search(r"Stopped; (\d) of 4 epochs(?: and (\d) steps? of the next)? are saved", done.stdout).groups()
        before = int(epochs) * STEPS + int(steps or 0)
        assert before in (step, step + 1)
    assert soak.advance(tmp_path, whole[1])
    soak.compare(whole[0], tmp_path / "run")


@needs_whole
def test_a_second_signal_stops_at_once_and_loses_nothing_saved(whole, tmp_path):
    done = soak.train(tmp_path, whole[1], ("training step", STEPS + 2, 0.3, f"{int(signal.SIGINT)},{int(signal.SIGINT)}"))
    assert done.returncode == 130, done.stderr
    assert "stopped immediately" in done.stderr and "Traceback" not in done.stderr
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 1
    soak.check_whole(tmp_path / "run")


@needs_whole
def test_sigterm_before_training_begins_ends_in_order(whole, tmp_path):
    done = soak.train(tmp_path, whole[1], ("decoding into the cache", 1, 0, int(signal.SIGTERM)))
    assert done.returncode == 130 and "Traceback" not in done.stderr
    assert not list((tmp_path / "data" / "cache").glob(".*")), "half a cache file is left"


def heeds_sigterm(pid):
    """Whether a process has a handler for SIGTERM, as the system sees it."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))[1]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="takes Linux's /proc")
@pytest.mark.parametrize("delay", [0, 0.1, 1])
@pytest.mark.parametrize(
    "script", [["mura.py", "--data", "absent"], ["plot_results.py", "absent"]], ids=lambda script: script[0]
)
def test_ctrl_c_during_the_imports_ends_in_order(script, delay, in_tmp):
    command = [sys.executable, ROOT / script[0], *script[1:]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and not heeds_sigterm(process.pid):
        time.sleep(0.001)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert b"Traceback" not in error
    assert error.endswith(b"stopped\n") if process.returncode == 130 else b"absent" in error, "stopped in order, or done before"


# ---------------------------------------------------------------------------------------------------------------------
# Full disks and folders that cannot be written to


@contextlib.contextmanager
def largest_file(size):
    """Let this process write no file of more bytes: what a full disk does, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_for_the_cache_is_told(phantoms, in_tmp, capsys):
    with largest_file(20_000):
        assert train(phantoms, "run") == 1
    message = capsys.readouterr().err
    assert "data/cache/" in message and "File too large" in message and "Make room" in message
    assert not list(Path("data/cache").glob("*.npy")) and not list(Path("data/cache").glob(".*"))
    assert train(phantoms, "run", "--epochs", 1) == 0


# best.h5 of an epoch takes 62 kB, its reserve 170 kB, and the state 62 kB.
@pytest.mark.parametrize(("size", "name"), [(60_000, "best.h5"), (1_500, "run.json")])
def test_no_room_in_the_run_folder_is_told_and_the_run_goes_on_later(size, name, phantoms, in_tmp, capsys):
    load_pixels(find_views(phantoms, "train"), 32, "pad")
    load_pixels(find_views(phantoms, "held-out"), 32, "pad")
    with largest_file(size):
        assert train(phantoms, "run", "--epochs", 1) == 1
    assert f"run/{name} cannot be written (File too large)" in capsys.readouterr().err
    assert not list(Path("run").rglob(".partial*"))
    again = (
        ["--out", "run", "--resume"] if name == "best.h5" else ["--data", str(phantoms), *TINY, "--out", "run", "--epochs", "1"]
    )
    assert mura.main(again) == 0


def test_no_room_later_leaves_the_earlier_checkpoint(phantoms, in_tmp, capsys, monkeypatch):
    assert train(phantoms, "whole", "--epochs", 3) == 0
    save_state, calls = checkpoints.save_state, []

    def save_on_a_full_disk(*arguments):
        calls.append(1)
        with largest_file(30_000) if len(calls) == 2 else contextlib.nullcontext():
            save_state(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_state", save_on_a_full_disk)
        assert train(phantoms, "run", "--epochs", 3) == 1
    assert "state.npz cannot be written (File too large); what was saved before is unchanged" in capsys.readouterr().err
    soak.check_whole(Path("run"))
    assert len(pd.read_csv("run/history.csv")) == 1
    assert mura.main(["--out", "run", "--resume"]) == 0
    for first, second in zip(
        *(checkpoints.load_network(RunFolder(name), "last.h5").get_weights() for name in ("whole", "run")), strict=True
    ):
        np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.slow
def test_an_error_at_any_write_is_told_and_the_run_goes_on(phantoms, in_tmp, capsys, monkeypatch):
    """The disk fails once, at the n-th file that is to get its name, for every n of a training of two epochs."""
    assert train(phantoms, "whole", "--epochs", 2) == 0
    real, names = os.replace, []

    def replace(source, target):
        names.append(Path(target).name)
        if len(names) == number:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    number = 0
    while True:
        number, names = number + 1, []
        shutil.rmtree("data", ignore_errors=True)
        status = train(phantoms, f"run{number}", "--epochs", 2)
        if len(names) < number:
            break
        assert status == 1 and "Input/output error" in one_message(capsys, "mura"), names[-1]
        names = [None] * number  # no further error
        recorded = Path(f"run{number}/run.json").exists()
        again = ["--out", f"run{number}", "--resume"] if recorded else None
        assert (mura.main(again) if again else train(phantoms, f"run{number}", "--epochs", 2)) == 0
        columns = [name for name in HISTORY if name not in ("seconds", "views_per_second")]
        tables = [pd.read_csv(f"{run}/history.csv")[columns] for run in ("whole", f"run{number}")]
        pd.testing.assert_frame_equal(*tables)
        capsys.readouterr()
    assert number > 8 and status == 0


@pytest.fixture
def tmpfs(tmp_path):
    """mount(size) makes a file system of its own in memory, or skips the test where that is not allowed."""
    folder = tmp_path / "mounted"
    folder.mkdir()

    def mount(*options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"mounting takes root: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True)


def test_a_disk_that_is_full_and_then_is_not(tmpfs, phantoms, in_tmp, capsys):
    folder = tmpfs("size=100k")
    assert train(phantoms, folder / "run", "--epochs", 1) == 1
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    subprocess.run(["mount", "-o", "remount,size=2m", folder], check=True)
    assert mura.main(["--out", str(folder / "run"), "--resume"]) == 0


def test_a_cache_on_a_full_disk_is_no_bus_error(tmpfs, phantoms):
    views = find_views(phantoms, "train")
    with pytest.raises(DataError, match="No space left on device"):
        load_pixels(views, 64, "pad", cache=tmpfs("size=50k"))


def test_a_read_only_folder_is_told_before_anything_is_decoded(tmpfs, phantoms, in_tmp, capsys):
    folder = tmpfs("size=1m")
    (folder / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    assert train(phantoms, folder / "run") == 1
    assert "is not writable (Read-only file system)" in capsys.readouterr().err
    assert train(phantoms, folder / "new") == 1
    assert "cannot be created: Read-only file system" in capsys.readouterr().err
    assert not Path("data/cache").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Two processes at once


def contents(folder):
    """{file: bytes} of a run folder."""
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"}


def test_the_second_run_into_a_folder_is_refused(trained, phantoms, in_tmp, capsys):
    shutil.copytree(trained, "run")
    before = contents("run")
    with filelock.FileLock("run/.lock"):
        assert mura.main(["--out", "run", "--resume"]) == 1
        assert "run: another process trains into it" in capsys.readouterr().err
    assert contents("run") == before
    Path("new").mkdir()
    with filelock.FileLock("new/.lock"):
        assert train(phantoms, "new") == 1
    assert "another process trains into it" in capsys.readouterr().err
    assert train(phantoms, "new", "--epochs", 1) == 0, "a lock that nobody holds is in nobody's way"


def decode(root, folder, answers):
    """What a process says that needs a cache: its pixels' sum, and whether it decoded them."""
    decoded = []
    whole = pixels.decode_all
    pixels.decode_all = lambda *arguments: decoded.append(1) or whole(*arguments)
    views = find_views(root, "train")
    _, found = load_pixels(views, 48, "pad", cache=folder)
    answers.put((int(found[np.arange(len(found))].sum(dtype=np.int64)), bool(decoded)))


@needs_whole  # its processes come of the same server
def test_two_processes_build_one_cache(phantoms, tmp_path):
    with soak.forkserver() as context:
        answers = context.Queue()
        processes = [context.Process(target=decode, args=(phantoms, tmp_path / "cache", answers)) for _ in range(3)]
        for process in processes:
            process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    views = find_views(phantoms, "train")
    _, pixels = load_pixels(views, 48, "pad", cache=None)
    assert {total for total, _ in found} == {int(pixels[np.arange(len(pixels))].sum(dtype=np.int64))}
    assert sum(decoded for _, decoded in found) == 1, "one decodes, the others wait"


# ---------------------------------------------------------------------------------------------------------------------
# The table


def test_every_row_of_the_table_has_its_test():
    faults = (ROOT / "docs/reliability.md").read_text().split("## Mutations")[0]
    rows = [line for line in faults.splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith(("| ---", "| Fault"))]
    assert len(rows) > 30
    for row in rows:
        names = re.findall(r"`([\w/]+\.py)::(test_\w+)`", row.split("|")[3])
        assert names, f"no test: {row}"
        for file, test in names:
            assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text(), f"{file} has no {test}"

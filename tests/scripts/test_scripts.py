"""What all scripts share: command lines that are read at once and without effects, and errors that become one line."""

import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support import ROOT

import data_loader
from bones.system import scripts
from bones.system.errors import DataError, UsageError
from bones.training import command_line

SCRIPTS = ("mura.py", "model_test.py", "plot_results.py", "data_loader.py", "export.py", "app.py")
HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "pandas", "matplotlib", "scipy", "sklearn", "PIL", "gradio")
READ = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    print(end.code, *({heavy!r} & sys.modules.keys()), file=sys.stderr)
"""


def run_python(*arguments):
    """A finished process of Python at the repository's root."""
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize(("option", "status"), [("--help", 0), ("--nonsense", 2)])
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_command_line_is_read_before_anything_heavy_is_imported(script, option, status):
    done = run_python("-c", READ.format(heavy=set(HEAVY)), script, option)
    assert done.stderr.splitlines()[-1] == str(status), "exit status, and no library"
    assert option != "--help" or (done.stdout.startswith("usage: ") and "Exit status: 0" in done.stdout)


def test_reading_a_command_line_has_no_effects(monkeypatch):
    for module, name in ((socket, "socket"), (socket, "create_server"), (socket, "create_connection"), (time, "strftime")):
        monkeypatch.setattr(module, name, lambda *arguments, **more: pytest.fail("an effect"))
    request = command_line.parse(["--hosts", "2@node1:7777", "--host-number", "1", "--devices", "2"])
    assert (request.plan.count, request.plan.number, request.plan.coordinator) == (2, 1, "node1:7777")
    assert request.devices == 2 and request.out is None and not request.resume
    assert command_line.parse([]).options.precision == command_line.parse([]).devices == "auto"


def test_data_loader_gives_its_functions_without_keras():
    code = "import data_loader, sys; from data_loader import *; print(*sorted(data_loader.__all__)); "
    code += "print(callable(find_views) and 'keras' not in sys.modules)"
    done = run_python("-c", code)
    assert done.stdout == "DataError class_weights find_views load_pixels read_labels split_by_patient\nTrue\n", done.stderr
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        data_loader.absent  # noqa: B018


def test_the_manual_of_data_loader_is_true(phantoms, in_tmp):
    """Its example runs as it stands, and gives what it says."""
    lines = re.findall(r"^    (\w[\w, ]* = .*?\))  ", data_loader.__doc__, flags=re.MULTILINE)
    names = {name: getattr(data_loader, name) for name in data_loader.__all__}
    exec("\n".join(lines).replace("MURA-v1.1", str(phantoms)).replace("320", "32"), names)
    train, tuning, pixels, weights = (names[name] for name in ("train", "tuning", "pixels", "weights"))
    assert len(lines) == 4 and not set(train["patient"]) & set(tuning["patient"])
    assert pixels.shape == (len(train), 32, 32, 1) and weights.shape == (len(train),)
    assert pixels[np.arange(2)].dtype == np.uint8 and isinstance(train, pd.DataFrame)


@pytest.mark.parametrize(
    ("error", "status"),
    [(DataError("no data"), 1), (UsageError("not together"), 2), (OSError(28, "No space left on device"), 1), (None, 0)],
)
def test_an_error_becomes_one_line_and_the_exit_status(error, status, capsys):
    heard = []

    @scripts.command
    def main(argv=None):
        scripts.on_exit(lambda status: heard.append((status, capsys.readouterr().err)))
        if error:
            raise error

    assert main() == status
    assert heard == [(status, f"test_scripts.py: {error}\n" if error else "")], "after its message"
    assert main() == status and len(heard) == 2, "once a run"


def test_another_error_is_a_traceback_and_status_1():
    heard = []

    @scripts.command
    def main(argv=None):
        scripts.on_exit(heard.append)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        main()
    assert heard == [1]


PRINTS = """
import sys
from bones.system import scripts
@scripts.command
def main(argv=None):
    for number in range(int(sys.argv[1])):
        print(number)
sys.exit(scripts.run(main))
"""


@pytest.mark.parametrize("count", [1, 100_000])
def test_a_reader_that_ends_is_no_error_of_ours(count):
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS, str(count)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait() == 1


def test_a_closed_standard_output_is_no_error():
    command = f"exec {sys.executable} -c '{PRINTS}' 3 >&-"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


STARTS = """
import sys
from bones.system import scripts
@scripts.command
def main(argv=None):
    with scripts.importing():
        import keras
    print(keras.backend.backend())
    print("an error", file=sys.stderr)
sys.exit(scripts.run(main))
"""


def test_closed_standard_streams_are_no_error():
    for closed, found in (("2>&- <&-", b"tensorflow\n"), (">&- 2>&- <&-", b"")):
        command = f"exec env KERAS_BACKEND=tensorflow {sys.executable} -c '{STARTS}' {closed}"
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, stdout=subprocess.PIPE)
        assert (done.returncode, done.stdout) == (0, found)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, which is a full disk")
def test_a_full_standard_output_is_told():
    command = f"env -u PYTHONUNBUFFERED {sys.executable} -c '{PRINTS}' 3 >/dev/full"
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.endswith("standard output cannot be written: No space left on device.\n")


@pytest.mark.parametrize("error", [RuntimeError("plugin.cpp:54: std::bad_alloc"), MemoryError()])
def test_memory_that_runs_out_is_one_line(error, capsys):
    @scripts.command
    def main(argv=None):
        raise error

    assert main() == 1
    assert (
        capsys.readouterr().err == "test_scripts.py: memory ran out. End other programs, or take a machine with more memory.\n"
    )

"""No script looks up a host, connects to one or writes into the home folder, with any backend that is installed."""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from support import ROOT

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="a library is preloaded as on Linux"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler builds the library that watches"),
]
HARMLESS = {".keras", ".cache/matplotlib", ".config/matplotlib", ".cache/fontconfig"}  # settings of Keras, fonts


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """The library that is preloaded."""
    file = tmp_path_factory.mktemp("library") / "watched.so"
    source = Path(__file__).with_name("watched.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", file, source, "-ldl"], check=True)
    return file


@pytest.fixture
def watched(library, tmp_path):
    """f(command, backend=None, alive=None) -> what was looked up, connected to, and written into the home folder."""
    (tmp_path / "home").mkdir()

    def run(*command, backend=None, alive=None):
        # Each of these says to OpenVINO's telemetry, or to others, that nobody is to be reported.
        named = ("KERAS_BACKEND", "CI", "TF_BUILD", "JENKINS_URL", "DO_NOT_TRACK")
        environment = {name: value for name, value in os.environ.items() if name not in named}
        environment |= {"LD_PRELOAD": str(library), "WATCHED": str(tmp_path / "watched"), "HOME": str(tmp_path / "home")}
        environment |= {"KERAS_BACKEND": backend} if backend else {}
        process = subprocess.Popen([sys.executable, *map(str, command)], env=environment, stderr=subprocess.PIPE, text=True)
        if alive:
            alive()
            process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=200)
        assert process.returncode == 0, printed
        asked = (tmp_path / "watched").read_text() if (tmp_path / "watched").exists() else ""
        home = {path.relative_to(tmp_path / "home").as_posix() for path in (tmp_path / "home").rglob("*") if path.is_file()}
        return asked + "".join(sorted(path for path in home if not any(path.startswith(place) for place in HARMLESS)))

    return run


def test_a_planted_look_up_is_found(watched):
    code = "import contextlib, socket\nwith contextlib.suppress(OSError): socket.create_connection(('example.org', 80), 1)"
    assert watched("-c", code) == "look-up example.org\n"
    assert "connection 192.0.2.1\n" in watched("-c", code.replace("example.org", "192.0.2.1"))
    assert watched("-c", "import pathlib; (pathlib.Path.home() / 'id').write_text('x')").endswith("id")


def installed(*names):
    """Those of some backends that are installed, by the name of their package."""
    return [name for name in names if importlib.util.find_spec(name)]


def slow_but_openvino(backend):
    """The backend that reported to others, and as slow tests the rest."""
    return pytest.param(backend, marks=[] if backend == "openvino" else pytest.mark.slow)


@pytest.mark.parametrize("backend", map(slow_but_openvino, installed("tensorflow", "openvino", "jax")))
def test_scoring(backend, watched, trained, phantoms, run):
    study = next((phantoms / "valid" / "XR_HUMERUS").glob("*/*"))
    assert watched(ROOT / "model_test.py", run, study, backend=backend) == ""


@pytest.mark.slow
def test_training_checking_and_drawing(watched, phantoms, run, in_tmp):
    network = ["--network", "efficientnet_lite0", "--weights", "none", "--size", "32"]
    arguments = ["--data", phantoms, *network, "--epochs", "1", "--out", "new"]
    assert watched(ROOT / "mura.py", *arguments) == ""
    assert watched(ROOT / "data_loader.py", "--check", phantoms) == ""
    assert watched(ROOT / "model_test.py", "new", backend="tensorflow") == ""
    assert watched(ROOT / "plot_results.py", "new") == ""


@pytest.mark.parametrize("form", [pytest.param("onnx", id="onnx"), pytest.param("openvino", marks=pytest.mark.slow)])
def test_exporting(form, watched, run):
    runtime = {"onnx": "onnxruntime"}.get(form, form)
    if not installed(runtime):
        pytest.skip(f"{runtime} is optional: requirements/extra.txt")
    assert watched(ROOT / "export.py", run, "--format", form) == ""


@pytest.mark.slow
@pytest.mark.skipif(not installed("gradio"), reason="Gradio is optional: requirements/extra.txt")
def test_the_page(watched, run):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free_port = probe.getsockname()[1]

    def is_served():
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{free_port}", timeout=5) as answer:
                    assert b"Is this study abnormal?" in answer.read()
                    return
            except OSError:
                time.sleep(0.3)
        raise AssertionError("the page was not served")

    assert watched(ROOT / "app.py", run, "--port", free_port, alive=is_served) == ""

"""What a script inherits from a kernel, a cluster, a container or a file of settings neither ends it nor changes numbers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from support import ROOT

from bones.system import environment

NETWORK = ["--network", "efficientnet_lite0", "--weights", "none", "--size", "32", "--epochs", "2", "--precision", "float32"]


def script(name, *arguments, **variables):
    """(standard output, standard error) of a script with further variables; None removes one."""
    inherited = {**os.environ, **variables}
    inherited = {key: str(value) for key, value in inherited.items() if value is not None}
    command = [sys.executable, str(ROOT / name), *map(str, arguments)]
    done = subprocess.run(command, env=inherited, capture_output=True, text=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout, done.stderr


@pytest.fixture
def hostile(in_tmp):
    """Variables as a notebook's kernel, a user's configuration files, a cluster and python -W error leave them."""
    (in_tmp / "matplotlibrc").write_text("text.usetex: True\nbackend: TkAgg\nno such line\n")
    (in_tmp / "keras").mkdir()
    asked = {"floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first"}
    (in_tmp / "keras" / "keras.json").write_text(json.dumps(asked))
    return {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline_absent",
        "MATPLOTLIBRC": in_tmp / "matplotlibrc",
        "KERAS_HOME": in_tmp / "keras",
        "KERAS_BACKEND": None,
        "KERAS_MAX_EPOCHS": 1,
        "KERAS_MAX_STEPS_PER_EPOCH": 1,
        "NUMBA_DISABLE_JIT": 1,
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": 0,
        "OMP_NUM_THREADS": 1,
    }


def test_a_study_is_classified_and_drawn(hostile, run, phantoms, in_tmp):
    study = next((phantoms / "valid" / "XR_HUMERUS").glob("*/*"))
    odd = in_tmp / "Röntgen 骨"
    odd.symlink_to(study)
    printed, _ = script("model_test.py", run, odd, "--heatmap", "maps", **hostile)
    assert "R\\xf6ntgen \\u9aa8" in printed and len(list(Path("maps").glob("*.png"))) == 1


@pytest.mark.slow
def test_a_training_and_its_scores_are_those_without(hostile, phantoms, in_tmp):
    for name, variables in (("plain", {"KERAS_BACKEND": None}), ("odd", hostile)):
        script("mura.py", "--data", phantoms, *NETWORK, "--out", name, **variables)
        script("model_test.py", name, **variables)
    script("plot_results.py", "odd", "--out", "odd/figures", **variables)
    histories = [pd.read_csv(f"{name}/history.csv")[["epoch", "loss", "val_loss"]] for name in ("plain", "odd")]
    assert len(histories[0]) == 2
    pd.testing.assert_frame_equal(*histories, rtol=1e-3)
    scores = [pd.read_csv(f"{name}/predictions.csv") for name in ("plain", "odd")]
    pd.testing.assert_series_equal(scores[0]["probability"], scores[1]["probability"], atol=2e-3)
    assert Path("odd/figures/plot_MURA_curves.png").exists()


@pytest.mark.parametrize("name", ["mura.py", "model_test.py", "plot_results.py", "data_loader.py", "export.py", "app.py"])
def test_help_needs_nothing_of_it(name, hostile):
    assert "usage: " + name in script(name, "--help", **hostile)[0]


def test_nothing_is_printed_before_our_first_word(run, phantoms):
    study = next((phantoms / "valid" / "XR_HUMERUS").glob("*/*"))
    for backend in ("tensorflow", None):
        _, error = script("model_test.py", run, study, KERAS_BACKEND=backend, TF_CPP_MIN_LOG_LEVEL=None)
        assert error.startswith("Positive is a probability of") and error.count("\n") == 1


def test_other_lines_of_a_library_pass(in_tmp):
    code = """
import os, sys
from bones.system import environment
with environment.without_notices():
    for line in ("I0000 00:00:1796074057.739495 5021 cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU",
                 "E0000 00:00:1796074057.739495 5021 cuda_dnn.cc:1] Unable to register cuDNN factory",
                 "F0000 00:00:1796074057.739495 5021 cpu_feature_guard.cc:37] The TensorFlow library was compiled to use AVX"):
        os.write(2, line.encode() + b"\\n")
    os.kill(os.getpid(), 6) if sys.argv[1:] else None
os.write(2, b"I0000 later\\n")
"""
    for crash in ([], ["crash"]):
        command = [sys.executable, "-c", code, *crash]
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
        assert "cuDNN factory" in done.stderr and "compiled to use AVX" in done.stderr and "cuda drivers" not in done.stderr
        assert ("I0000 later" in done.stderr) == (not crash) and (done.returncode != 0) == bool(crash)


HEAD = "0000 00:00:1796077492.367693   11409 "


@pytest.mark.parametrize(
    ("line", "is_notice"),
    [
        ("WARNING: All log messages before absl::InitializeLog() is called are written to STDERR", True),
        (f"I{HEAD}port.cc:153] oneDNN custom operations are on. You may see", True),
        (f"E{HEAD}cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: ...: UNKNOWN ERROR (303)", True),
        (f"E{HEAD}cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", False),
        (f"W{HEAD}gpu_device.cc:2342] Cannot dlopen some GPU libraries", False),
    ],
)
def test_notices_are_what_tensorflow_prints(line, is_notice):
    assert any(re.match(notice, line) for notice in environment.NOTICES) == is_notice


def test_without_a_home_folder(in_tmp, monkeypatch):
    """A container's user without an entry in passwd: ~ stays as it is."""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(environment, "SET", {})
    environment.prepare()
    assert os.path.isdir(os.environ["HOME"])


def test_the_page_needs_no_proxy_and_shares_nothing(monkeypatch):
    for name in ("HTTP_PROXY", "https_proxy", "ALL_PROXY", "GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_ROOT_PATH"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    environment.prepare_page("uploads")
    kept = {name for name in os.environ if "PROXY" in name.upper() or name.startswith("GRADIO_")} - {"NO_PROXY", "no_proxy"}
    assert kept == {"GRADIO_ROOT_PATH", "GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR"}
    assert os.environ["GRADIO_ROOT_PATH"] == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("content", "is_good"),
    [
        ("{}", True),
        ("no JSON", True),
        ('{"floatx": "float16", "epsilon": 0.1, "image_data_format": "channels_first"}', True),
        ("[]", False),
        ('{"floatx": "float8"}', False),
        ('{"epsilon": "x"}', False),
        ('{"image_data_format": 1}', False),
        (None, False),
    ],
)
def test_a_keras_json_that_keras_does_not_survive(content, is_good, in_tmp, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(in_tmp))
    assert environment.is_good_keras_json(), "it is missing"
    (in_tmp / "keras.json").mkdir() if content is None else (in_tmp / "keras.json").write_text(content, encoding="utf-8")
    assert environment.is_good_keras_json() == is_good


def test_keras_starts_with_any_keras_json(in_tmp):
    (in_tmp / "keras.json").write_text("[]", encoding="utf-8")
    code = "from bones.system import environment; environment.prepare(); import keras; print(keras.config.floatx())"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | {"KERAS_HOME": str(in_tmp)}, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "float32\n", done.stderr

"""Backends: what is asked for is there or said not to be, and JAX compiles the whole training step."""

import importlib.util
import os
import subprocess
import sys

import pytest
from support import ROOT

from bones.system import backend


def run_python(*arguments, backend, path=ROOT):
    """A finished process of Python with a backend of Keras."""
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT / "tests")])}
    return subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["mura.py", "model_test.py", "export.py", "app.py", "benchmark.py"])
def test_an_unknown_backend_is_told(name):
    script = ["-m", "tools.benchmark"] if name == "benchmark.py" else [ROOT / name, *(["run"] if name != "mura.py" else [])]
    done = run_python(*script, backend="nonsense")
    assert done.returncode == 1 and done.stderr.startswith(
        f"{name}: KERAS_BACKEND is nonsense; expected one of tensorflow, jax"
    )
    assert "Traceback" not in done.stderr


def test_a_backend_that_is_not_installed_is_told():
    absent = "import importlib.util, mura; importlib.util.find_spec = lambda name: None; print(mura.main([]))"
    done = run_python("-c", absent, backend="jax")
    assert done.stdout == "1\n"
    assert done.stderr == "mura.py: KERAS_BACKEND is jax, which is not installed: pip install jax. Or unset KERAS_BACKEND.\n"


def test_a_missing_tensorflow_is_told_by_system(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert backend.not_installed("tensorflow") == "TensorFlow is not installed: pip install -r requirements.txt"
    monkeypatch.setattr(backend.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(backend.platform, "machine", lambda: "x86_64")
    assert "does not exist for Macs with Intel processors" in backend.not_installed("tensorflow")


@pytest.mark.parametrize("name", ["mura.py", "model_test.py", "data_loader.py", "plot_results.py", "export.py", "app.py"])
def test_python_without_the_packages_is_told_what_to_do(name):
    done = subprocess.run([sys.executable, "-S", ROOT / name, "--help"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "pip install -r requirements.txt" in done.stderr


STEP = """
import keras, numpy as np
from bones.runs import recipes
from bones.training import trainer as training
from tiny import tiny
keras.utils.set_random_seed(0)
options = recipes.options("default", schedule="constant", learning_rate=0.01)
trainer = training.build_trainer(tiny(32), options, steps_an_epoch=1)
rng = np.random.default_rng(0)
views, label = rng.integers(0, 256, (64, 32, 32, 1)).astype(np.uint8), rng.integers(0, 2, (64, 1)).astype(np.float32)
history = trainer.fit(views, label, batch_size=8, epochs=5, verbose=0).history
augmented = trainer.get_layer("rotation")(views.astype(np.float32), training=True)
print(trainer.jit_compile, history["loss"][0] > history["loss"][-1], bool((np.asarray(augmented) != views).any()))
"""


@pytest.mark.slow
def test_jax_compiles_the_whole_step():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: requirements/test.txt")
    done = run_python("-W", "error::UserWarning", "-c", STEP, backend="jax")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "True"]


def test_keras_comes_without_what_no_script_uses():
    code = (
        "import os, sys; from bones.system import scripts\n"
        "with scripts.importing(): import keras\n"
        "unused = {'sklearn', 'matplotlib.pyplot', 'jax'} & {*sys.modules}\n"
        "import scipy.signal, sklearn, matplotlib.pyplot\n"
        "print(unused, callable(scipy.signal.get_window), callable(matplotlib.pyplot.plot))"
    )
    for name in ("tensorflow", "openvino"):
        assert run_python("-c", code, backend=name).stdout == "set() True True\n"

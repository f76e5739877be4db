"""OpenVINO scores the same best.h5 with the same probabilities, and model_test.py picks it where nobody asks for another.

Networks of float32 are computed in float32 on any processor.
"""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from support import ROOT, as_if_trained
from tiny import tiny

from bones.networks import catalogue
from bones.networks.acceleration import can_turn
from bones.networks.applications import densenet169
from bones.networks.batches import predict
from bones.networks.densenet_k12 import densenet169_k12
from bones.training import batch_statistics

pytest.importorskip("openvino", reason="OpenVINO is optional: requirements/extra.txt")
SCORE = """
import sys, keras, numpy as np
from bones.networks.batches import predict
from bones.networks.acceleration import accelerate
network = accelerate(keras.models.load_model(sys.argv[1], compile=False))
np.save(sys.argv[3], predict(network, np.load(sys.argv[2]), batch_size=4))
"""


def run_python(*arguments, backend=None, status=0):
    """Standard output of Python with a backend asked for, or none; of a run that fails, the error output."""
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({"KERAS_BACKEND": backend} if backend else {})
    done = subprocess.run([sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stderr if status else done.stdout


@pytest.mark.parametrize(
    ("build", "standardise", "precision", "spread"),
    [
        pytest.param(densenet169, False, "mixed_bfloat16", 0.05, marks=pytest.mark.slow),
        pytest.param(densenet169_k12, False, "float32", 0.05, marks=pytest.mark.slow),
        (tiny, True, "float32", 0.05),
    ],
)
def test_probabilities_are_those_of_float32(build, standardise, precision, spread, tmp_path):
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(precision)
    network = as_if_trained(build(64, standardise=standardise), rng)
    blocks = rng.uniform(0, np.linspace(20, 255, 10)[:, None, None, None], (10, 4, 4, 1))
    pixels = np.kron(blocks, np.ones((1, 16, 16, 1))).astype(np.uint8)  # differ in more than noise and exposure
    # With moving statistics that are not its own, so deep a random network says the same of all views.
    batch_statistics.Averager(network).estimate(pixels)
    network.save(tmp_path / "best.h5")
    np.save(tmp_path / "pixels.npy", pixels)
    run_python("-c", SCORE, tmp_path / "best.h5", tmp_path / "pixels.npy", tmp_path / "found.npy", backend="openvino")
    keras.config.set_dtype_policy("float32")
    stock = build(64, standardise=standardise)
    stock.set_weights(network.get_weights())
    expected = predict(stock, pixels)
    assert np.ptp(expected) > spread, "the network says the same of all views"
    atol = 2e-5 if precision == "float32" else 1e-2  # bfloat16 of OpenVINO's default would differ by more than 1e-4
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=atol)


@pytest.mark.parametrize("name", ["MobileNetV3Small", pytest.param("ConvNeXtTiny", marks=pytest.mark.slow)])
def test_networks_of_keras_applications(name, tmp_path):
    """Channels first where all layers exist in that order, else as Keras has them."""
    rng = np.random.default_rng(0)
    network = as_if_trained(catalogue.build(name, 64), rng)
    assert can_turn(network) == (name == "MobileNetV3Small")
    pixels = rng.integers(0, 256, (6, 64, 64, 1), np.uint8)
    batch_statistics.Averager(network).estimate(pixels)
    network.save(tmp_path / "best.keras")
    np.save(tmp_path / "pixels.npy", pixels)
    run_python("-c", SCORE, tmp_path / "best.keras", tmp_path / "pixels.npy", tmp_path / "found.npy", backend="openvino")
    expected = predict(network, pixels)
    assert np.ptp(expected) > 0.01, "the network says the same of all views"
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-4)


def test_it_is_picked_where_no_backend_is_asked_for_and_no_map(trained, phantoms, in_tmp):
    study = next((phantoms / "valid" / "XR_HUMERUS").glob("*/*"))
    score = [sys.executable, str(ROOT / "model_test.py"), str(trained), str(study)]
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    for more, backend in (([], "openvino"), (["--heatmap=maps"], "tensorflow"), (["--heatmap", "again"], "tensorflow")):
        done = subprocess.run([*score, *more], env=environment, capture_output=True, text=True)
        assert done.returncode == 0 and f"Computed on {backend}." in done.stderr, done.stderr
    sizes = [Image.open(next(Path(folder).iterdir())).size for folder in ("maps", "again")]
    assert sizes[0] == sizes[1] and len(list(Path("maps").iterdir())) == 1, "with LayerCAM beside the other map"
    asked = subprocess.run(score, env=environment | {"KERAS_BACKEND": "tensorflow"}, capture_output=True, text=True)
    assert "Computed on tensorflow." in asked.stderr


def test_it_does_not_train(phantoms, tmp_path):
    told = run_python(ROOT / "mura.py", "--data", phantoms, "--out", tmp_path / "run", backend="openvino", status=1)
    assert "KERAS_BACKEND is openvino, which only scores" in told and "Traceback" not in told
    assert not (tmp_path / "run").exists()

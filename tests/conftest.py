"""Data and a trained run that many tests share."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parent))

import keras
import numpy as np
import pytest
from PIL import Image
from tiny import TINY

import mura
import phantom

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


def real_data(name):
    """Path of a folder of real radiographs, or a skip with the reason."""
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"no {path}: real radiographs are not part of the repository")
    return path


@pytest.fixture(scope="session")
def fracatlas():
    return real_data("fracatlas")


@pytest.fixture(scope="session")
def fracatlas_truncated():
    return real_data("fracatlas_truncated")


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """A small phantom data root: 40 and 24 studies."""
    root = tmp_path_factory.mktemp("data") / "phantoms"
    phantom.draw_set(root, train_studies=40, held_out_studies=24, size=64, seed=1)
    return root


def write_study(root, split, name, images=1, value=None, mode="L", size=(20, 16), patient=None, study_type="XR_HUMERUS"):
    """One study of random or constant images in MURA's layout; `name` is like study1_positive. Returns: its folder."""
    folder = Path(root) / split / study_type / (patient or f"patient{abs(hash((split, name, value))) % 99999:05d}") / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for view in range(1, images + 1):
        pixels = rng.integers(0, 256, size[::-1], np.uint8) if value is None else np.full(size[::-1], value, np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"image{view}.png")
    return folder


def train(root, out, *more):
    """Exit status of mura.py with the tiny network."""
    return mura.main(["--data", str(root), *TINY, "--tuning-fraction", "0.3", "--out", str(out), *map(str, more)])


def as_if_trained(network, rng):
    """Give batch normalisation random weights: a new network's says almost the same of all views."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return network


@pytest.fixture
def small_root(tmp_path):
    """A data root of eight train and four valid studies, one patient each."""
    root = tmp_path / "MURA-v1.1"
    for split, first, count in (("train", 1, 8), ("valid", 9, 4)):
        for patient in range(first, first + count):
            label = "positive" if patient % 2 else "negative"
            write_study(root, split, f"study1_{label}", images=2, patient=f"patient{patient:05d}")
    return root


@pytest.fixture(autouse=True)
def float32():
    """Networks in float32 unless a test says otherwise: mura.py sets the precision of the whole process."""
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    """A working directory of the test's own, where data/ and runs/ go."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def trained(phantoms, tmp_path_factory):
    """A run folder of two epochs with the tiny network."""
    folder = tmp_path_factory.mktemp("trained")
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert train(phantoms, "runs/tiny", "--epochs", 2) == 0
    finally:
        os.chdir(before)
    return folder / "runs" / "tiny"

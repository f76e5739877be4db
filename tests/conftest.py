"""Data and a trained run that many tests share."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
from support import real_data, train, write_study

from bones.data.phantoms import sets as phantom


@pytest.fixture(scope="session")
def fracatlas():
    return real_data("fracatlas")


@pytest.fixture(scope="session")
def fracatlas_lower():
    return real_data("fracatlas_lower")


@pytest.fixture(scope="session")
def fracatlas_truncated():
    return real_data("fracatlas_truncated")


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """A small phantom data root: 40 and 24 studies."""
    root = tmp_path_factory.mktemp("data") / "phantoms"
    phantom.draw_set(root, train_studies=40, held_out_studies=24, size=64, seed=1)
    return root


@pytest.fixture
def small_root(tmp_path):
    """A data root of eight train and four valid studies, one patient each."""
    root = tmp_path / "MURA-v1.1"
    for split, first, count in (("train", 1, 8), ("valid", 9, 4)):
        for patient in range(first, first + count):
            label = "positive" if patient % 2 else "negative"
            write_study(root, split, f"study1_{label}", images=2, patient=f"patient{patient:05d}")
    return root


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup():
    """Networks in float32 unless a test says otherwise: mura.py sets the precision of the whole process.

    Before every fixture, not in one: those of a module are set up before those of a test.
    """
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


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run folder that a test may change."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"

"""What many tests share: where the repository lies, small studies, and a training in seconds."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from tiny import TINY

import mura

TESTS = Path(__file__).parent
ROOT = TESTS.parent
# Of a training on several hosts: with everything that they have to agree on.
HOSTS_OPTIONS = [*TINY, "--tuning-fraction", "0.3", "--epochs", "3", "--set", "ema=0.9", "mixup=0.2", "rotation=20"]
SHARED = ROOT.parent / "shared" / "data"
FILM_SIZES = [(200, 200), (301, 157), (157, 301), (64, 48), (97, 640), (33, 20), (1200, 801)]  # (width, height)


def real_data(name):
    """Path of a folder of real radiographs, or a skip with the reason."""
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"no {path}: real radiographs are not part of the repository")
    return path


def write_study(root, split, name, images=1, value=None, mode="L", size=(20, 16), patient=None, study_type="XR_HUMERUS"):
    """One study of random or constant images in MURA's layout; `name` is like study1_positive. Returns: its folder."""
    folder = Path(root) / split / study_type / (patient or f"patient{abs(hash((split, name, value))) % 99999:05d}") / name
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for view in range(1, images + 1):
        pixels = rng.integers(0, 256, size[::-1], np.uint8) if value is None else np.full(size[::-1], value, np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"image{view}.png")
    return folder


def rename_study(root, before, after):
    """Give a study of the first patient of `small_root` another name."""
    patient = root / "train" / "XR_HUMERUS" / "patient00001"
    (patient / before).rename(patient / after)


def train(root, out, *more):
    """Exit status of mura.py with the tiny network."""
    return mura.main(["--data", str(root), *TINY, "--tuning-fraction", "0.3", "--out", str(out), *map(str, more)])


def one_message(capsys, script=""):
    """What a script printed as an error: one message, no traceback."""
    error = capsys.readouterr().err
    assert "Traceback" not in error and error.count(f"{script}.py: ") == 1, error
    return error


def as_if_trained(network, rng):
    """Give batch normalisation random weights: a new network's says almost the same of all views."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
    return network

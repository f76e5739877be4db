"""Several devices train as one with the same views a step: two parts of this processor, on TensorFlow and on JAX."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import soak
from support import ROOT, TESTS, train
from tiny import TINY

import mura
from bones.runs.folder import RunFolder
from bones.system import devices
from bones.system.errors import DevicesError
from bones.training import command_line, session

# Losses and weights of a few steps, by number of devices and settings; a process of its own has not computed yet.
STEPS = """
import sys
import keras
import numpy as np
import tiny
from bones.data.pixels import Rows
from bones.networks.batches import Batches, predict
from bones.system import devices
from bones.runs import recipes
from bones.runs.options import from_text
from bones.training import callbacks
from bones.training import trainer as training

out, *cases = sys.argv[1:]
rng = np.random.default_rng(0)
views, label = rng.integers(0, 255, (64, 32, 32, 1)).astype("uint8"), rng.integers(0, 2, 64)
found = {}
assert devices.resolve(2) == 2
for case in cases:
    count, *settings = case.split()
    plain = {"flip": False, "rotation": 0.0, "schedule": "constant", "learning_rate": 0.001, "epochs": 1}
    texts = dict(text.split("=") for text in settings)
    options = recipes.options("default", **plain, **{name: from_text(name, text) for name, text in texts.items()})
    keras.utils.set_random_seed(0)
    with devices.distribution_scope(int(count)) as scope:
        with scope():
            network = tiny.tiny(32, dropout=0.0)
            trainer = training.build_trainer(network, options, steps_an_epoch=8)
        batches = Batches(Rows(views, np.arange(64)), 8, label, readers=devices.readers(int(count)))
        touches = callbacks.weight_callbacks(network, views, options, (0, 0))
        loss = trainer.fit(batches, verbose=0, shuffle=False, callbacks=touches)
        probability = predict(network, Rows(views, np.arange(61)))
    found[case] = np.array([*loss.history["loss"], *probability])
np.savez(out, **found)
"""


def steps(backend, tmp_path, *cases):
    """{case: loss of an epoch of eight steps and 61 probabilities after it} of STEPS."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(TESTS), str(ROOT)])}
    command = [sys.executable, "-c", STEPS, str(tmp_path / "found.npz"), *cases]
    done = subprocess.run(command, env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(np.load(tmp_path / "found.npz"))


@pytest.mark.parametrize("backend", ("tensorflow", pytest.param("jax", marks=pytest.mark.slow)))
def test_two_devices_train_as_one(backend, tmp_path):
    if backend == "jax":
        pytest.importorskip("jax", reason="no jax: pip install -r requirements/test.txt")
    settings = ["", " ema=0.5 statistics_views=32" if backend == "tensorflow" else " accumulation=2"]
    cases = [f"{count}{more} synchronised=true" for more in settings for count in (1, 2)]
    found = steps(backend, tmp_path, *cases, "2")
    for one, two in zip(cases[::2], cases[1::2], strict=True):
        np.testing.assert_allclose(found[one], found[two], atol=2e-3, err_msg=two)
    assert np.abs(found[cases[0]] - found[cases[2]]).max() > 0.01, "settings do something"
    apart = np.abs(found["2"] - found[cases[1]]).max()
    # Of TensorFlow's devices each has statistics of its own four views, unless they are synchronised.
    assert apart > 0.01 if backend == "tensorflow" else apart < 1e-5


@pytest.mark.xdist_group("whole")
def test_a_run_on_two_devices_goes_on_on_one(tmp_path, phantoms):
    options = [*TINY, "--tuning-fraction", "0.3", "--epochs", "3", "--set", "flip=false", "rotation=0"]
    options += ["dropout=0", "synchronised=true"]
    one = soak.run(tmp_path, soak.NEVER, "mura.py", "--data", phantoms, *options, "--batch-size", 8, "--out", "one")
    assert one.returncode == 0, one.stderr
    plan = ("training step", 5, 0, 15)  # SIGTERM
    options = ["--data", phantoms, *options, "--batch-size", 4, "--devices", 2, "--out", "two"]
    two = soak.run(tmp_path, plan, "mura.py", *options)
    assert two.returncode == 0 and "batch 4 x 2 devices = 8" in two.stdout and "Stopped" in two.stdout, two.stderr
    on = soak.run(tmp_path, soak.NEVER, "mura.py", "--resume", "--devices", 1, "--out", "two")
    assert on.returncode == 0 and "batch 8," in on.stdout, on.stderr
    histories = [RunFolder(tmp_path / name).read_history() for name in ("one", "two")]
    np.testing.assert_allclose(*(history["loss"] for history in histories), rtol=0.02)
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert (record["options"]["devices"], record["options"]["batch_size"]) == (1, 8)


def resolved(*arguments):
    """Options of a command line with their values on this machine."""
    return session.resolve(command_line.parse(arguments))


def test_devices_that_are_not_there_are_told(phantoms, trained, in_tmp, monkeypatch, capsys):
    assert resolved().devices == 1, "there is no GPU"
    monkeypatch.setattr(devices, "gpus", lambda: 4)
    assert resolved().devices == 4 and resolved("--devices", "2").devices == 2
    assert train(phantoms, "run", "--devices", 8) == 1
    assert "--devices 8: there are 4 GPUs" in capsys.readouterr().err
    assert mura.main(["--out", str(trained), "--resume", "--devices", "3"]) == 2
    assert "8 views per step, which is not divisible by 3" in capsys.readouterr().err
    for text in ("0", "-1", "x", "1.5"):
        with pytest.raises(SystemExit) as error:
            train(phantoms, "run", f"--devices={text}")
        assert error.value.code == 2 and f"above 0 and at most 10000, and is '{text}'" in capsys.readouterr().err
    assert train(phantoms, "run", "--devices", 2, "--accumulation", 2) == 2
    assert "KERAS_BACKEND=jax" in capsys.readouterr().err
    monkeypatch.setattr(devices.keras.backend, "backend", lambda: "torch")
    with pytest.raises(DevicesError, match="with torch one device trains"):
        devices.resolve(2)
    assert devices.resolve("auto") == 1

"""One list of checks for each network of the catalogue: build, save, open, explain, export, and stop and resume a training."""

import keras
import numpy as np
import pandas as pd
import pytest
from support import ROOT, one_message

import model_test
import mura
from bones.networks.catalogue import NETWORKS
from bones.runs import checkpoints
from bones.runs.folder import RunFolder
from bones.training import saving
from tools import networks

RECORD = pd.read_csv(ROOT / "docs" / "records" / "networks.csv").set_index("network", drop=False)
QUICK = ("MobileNetV3Small", "MobileNetV2", "VGG16")  # three families; .h5 does not hold the first
HUGE = 100_000_000  # parameters, from which on a network is not trained here, for its time and memory
NAMES = [name for name in NETWORKS if name in RECORD.index]  # docs/networks.md says that the others are not measured
ALL = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in NAMES]


def test_the_record_is_of_networks_of_the_catalogue():
    assert {*RECORD.index} == {*NAMES} >= {*QUICK} and RECORD.index.is_unique


@pytest.mark.parametrize("name", ALL)
def test_is_built_saved_opened_explained_and_exported(name):
    row = networks.measure(name)
    assert row == RECORD.loc[name].to_dict()
    assert "LayerCAM" in row["maps"]


TRAINED = [
    pytest.param(name, marks=() if name == QUICK[0] else pytest.mark.slow)
    for name in NAMES
    if RECORD["parameters"][name] < HUGE
]


@pytest.mark.parametrize("name", TRAINED)
def test_trains_stops_resumes_and_scores(name, small_root, in_tmp, capsys, monkeypatch):
    size = ["--network", name, "--weights", "none", "--size", str(NETWORKS[name].least_size), "--precision", "float32"]
    size += ["--set", "frozen_normalisation=true", "pooling=avg_max", "dropout=0.1"]
    data = ["--data", str(small_root), "--tuning-fraction", "0.3", "--epochs", "2", "--batch-size", "4"]
    with monkeypatch.context() as patch:
        patch.setattr(saving.StopSignal, "__init__", lambda signal: setattr(signal, "requested", True))
        assert mura.main([*data, *size, "--learning-rate", "1e-6", "--out", "run"]) == 0
    assert "0 of 2 epochs and 1 step of the next are saved" in capsys.readouterr().out
    assert mura.main(["--out", "run", "--resume"]) == 0
    run = RunFolder("run")
    best = run.network_file().name
    assert best == f"best{RECORD.loc[name, 'saved_as']}"
    printed = capsys.readouterr().out
    assert f"{best} is of epoch 2" in printed and f'load_model("{best}"' in (run / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert mura.main(["--out", "run", "--resume"]) == 0  # a finished run, whose network is opened
    study = str(small_root / "valid" / "XR_HUMERUS" / "patient00009" / "study1_positive")
    assert model_test.main(["run", study, "--heatmap", "maps"]) == 0
    assert len(list((in_tmp / "maps").iterdir())) == 1
    again = keras.models.load_model(run.network_file(), compile=False)
    for first, second in zip(again.get_weights(), checkpoints.load_network(run).get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    assert mura.main([*data, *size, "--weights", "run", "--epochs", "1", "--learning-rate", "1e-30", "--out", "second"]) == 0
    for before, after in zip(again.get_weights(), checkpoints.load_network(RunFolder("second")).get_weights(), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-6)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("frozen=2", "the blocks of MobileNetV3Small are not listed"),
        ("stochastic_depth=0.1", "MobileNetV3Small has no dense blocks"),
    ],
)
def test_settings_that_a_network_does_not_have_are_reported(setting, message, small_root, in_tmp, capsys):
    options = ["--network", "MobileNetV3Small", "--weights", "none", "--size", "32", "--set", setting]
    assert mura.main(["--data", str(small_root), "--tuning-fraction", "0.3", *options, "--out", "run"]) != 0
    assert message in one_message(capsys, "mura")

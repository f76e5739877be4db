"""The fitted output layer, runs of no epochs, and runs that fit it first."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from support import ROOT, one_message, train
from tiny import tiny

import model_test
import plot_results
from bones.networks.batches import predict
from bones.networks.frozen import pooled_features
from bones.runs.data import Part
from bones.system.errors import DataError
from bones.training import head


@pytest.fixture
def part():
    """A Part of 40 views of 20 patients; abnormal ones are brighter on the left."""
    rng = np.random.default_rng(0)
    label = np.arange(40) // 2 % 2
    pixels = rng.integers(0, 120, (40, 32, 32, 1), np.uint8)
    pixels[label == 1, :, :16] += 60
    views = pd.DataFrame({"patient": [f"p{place // 2}" for place in range(40)]})
    return Part(views, pixels, label, None)


@pytest.mark.parametrize("weighted", [False, True])
def test_probabilities_are_those_of_scikit_learn(part, weighted):
    keras.utils.set_random_seed(0)
    network = tiny(32)
    part.weight = np.where(part.label, 2.0, 1.0) if weighted else None
    before = [layer.get_weights() for layer in network.layers[:-1]]
    penalty = head.fit(network, part)
    features = pooled_features(network, part.pixels)
    scaler = StandardScaler().fit(features)
    expected = LogisticRegression(C=penalty, max_iter=1000).fit(scaler.transform(features), part.label, part.weight)
    probability = expected.predict_proba(scaler.transform(features))[:, 1]
    np.testing.assert_allclose(predict(network, part.pixels), probability, atol=2e-3)
    assert penalty in head.PENALTIES and probability[part.label == 1].mean() > 0.3 + probability[part.label == 0].mean()
    for layer, weights in zip(network.layers[:-1], before, strict=True):
        assert all(np.array_equal(*pair) for pair in zip(layer.get_weights(), weights, strict=True)), "only the last changes"


@pytest.mark.parametrize("positive", [8, 2])
def test_folds_are_of_patients_and_have_both_classes(positive):
    patients = np.repeat(np.arange(20), 2)
    label = (patients < positive).astype(int)
    folds = head.folds(label, patients)
    assert len(folds) == min(positive, head.FOLDS)
    for fitted, tested in folds:
        assert not {*patients[fitted]} & {*patients[tested]} and len(fitted) + len(tested) == 40
        assert {*label[fitted]} == {*label[tested]} == {0, 1}


def test_one_patient_of_a_class_is_too_few():
    with pytest.raises(DataError, match=r"1 of 20 training patients have views of one of the classes. Add studies"):
        head.folds(np.arange(20) == 3, np.arange(20))


def test_a_run_of_no_epochs(phantoms, in_tmp, capsys):
    """It is a run like any other: scored, classified, resumed, and started from; its curves do not exist."""
    assert train(phantoms, "probe", "--epochs", 0) == 0
    out = capsys.readouterr().out
    assert "the output layer alone, by logistic regression" in out and "best.h5 has the starting weights" in out
    assert pd.read_csv("probe/history.csv").empty
    record = json.loads((in_tmp / "probe" / "run.json").read_text())
    assert record["finished"] and record["best_epoch"] is None and record["threshold"] != 0.5
    weights = [keras.models.load_model(in_tmp / "probe" / name, compile=False).get_weights() for name in ("best.h5", "last.h5")]
    assert all(np.array_equal(*pair) for pair in zip(*weights, strict=True))
    assert plot_results.main(["probe", "--out", "figures"]) == 1
    assert "A run of no epochs has no curves" in one_message(capsys, "plot_results")
    assert model_test.main(["probe"]) == 0
    assert "by fitting the output layer alone" in (in_tmp / "probe" / "MODEL_CARD.md").read_text()
    assert plot_results.main(["probe", "--out", "figures"]) == 0
    drawn = {file.name for file in (in_tmp / "figures").iterdir()}
    assert "plot_MURA_roc.png" in drawn and "plot_MURA_curves.png" not in drawn
    before = (in_tmp / "probe" / "best.h5").read_bytes()
    assert train(phantoms, "second", "--epochs", 1, "--weights", "probe") == 0
    assert plot_results.main(["probe", "second", "--out", "both"]) == 0, "curves of the one that has them"
    assert (in_tmp / "both" / "plot_MURA_curves.png").is_file()
    assert before == (in_tmp / "probe" / "best.h5").read_bytes()


def test_a_finished_run_of_no_epochs_is_resumed_without_harm(phantoms, in_tmp):
    import mura

    assert train(phantoms, "probe", "--epochs", 0) == 0
    before = json.loads((in_tmp / "probe" / "run.json").read_text())
    assert mura.main(["--out", "probe", "--resume"]) == 0
    after = json.loads((in_tmp / "probe" / "run.json").read_text())
    for name in ("threshold", "temperature", "finished", "training_seconds", "best_epoch"):
        assert after[name] == before[name], name


@pytest.mark.parametrize("frozen", ["frozen=2", "frozen_normalisation=true"])
def test_the_output_layer_first(frozen, phantoms, in_tmp):
    """The first epoch starts from a fitted output layer: its loss is lower, and a resumed run is the same."""
    import mura

    assert train(phantoms, "plain", "--epochs", 1, "--set", frozen) == 0
    assert train(phantoms, "first", "--epochs", 2, "--set", frozen, "head_first=true") == 0
    losses = [pd.read_csv(f"{run}/history.csv")["loss"].iloc[0] for run in ("plain", "first")]
    assert losses[1] < losses[0]
    assert mura.main(["--out", "first", "--resume"]) == 0 and len(pd.read_csv("first/history.csv")) == 2


@pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed")
def test_features_are_computed_with_openvino_where_it_is_installed(phantoms, in_tmp):
    """The fitted weights are those that TensorFlow's features give."""
    options = ["--network", "efficientnet_lite0", "--size", 32, "--weights", "none", "--epochs", 0, "--tuning-fraction", 0.3]
    command = [sys.executable, ROOT / "mura.py", "--data", phantoms, *options]
    fitted = []
    for name, backend in (("tensorflow", {"KERAS_BACKEND": "tensorflow"}), ("openvino", {})):
        environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"} | backend
        weights = ["--weights", "tensorflow/best.h5"] if fitted else []  # of the same start
        done = subprocess.run([*map(str, [*command, *weights, "--out", name])], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert name in json.loads((in_tmp / name / "run.json").read_text())["versions"]
        fitted.append(keras.models.load_model(in_tmp / name / "best.h5", compile=False).get_weights()[-2:])
    for tensorflow, openvino in zip(*fitted, strict=True):
        np.testing.assert_allclose(openvino, tensorflow, rtol=0.05, atol=0.01)

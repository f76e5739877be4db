"""The run that comes with the repository: its examples, its scores, and what opens it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from support import ROOT, train

import model_test
from bones.data import images, sizes
from bones.runs.folder import RunFolder

WEIGHTS = ROOT / "weights" / "fracatlas"
EXAMPLES = WEIGHTS / "examples"
PARTS = {"hand": "XR_HAND", "shoulder": "XR_SHOULDER", "arm": "XR_UPPERLIMB", "leg": "XR_LEG"}
SIZE = 320


@pytest.fixture(scope="module")
def recorded():
    """The examples' probabilities as model_test.py --csv wrote them, by file name."""
    table = pd.read_csv(EXAMPLES / "probabilities.csv")
    return table.assign(name=[Path(path).name for path in table["path"]]).set_index("name")


def test_plain_keras_gives_the_recorded_probabilities(recorded):
    assert set(recorded.index) == {file.name for file in EXAMPLES.glob("*.jpg")} and len(recorded) == 8
    network = keras.models.load_model(WEIGHTS / "best.h5", compile=False)
    record = json.loads((WEIGHTS / "run.json").read_text())
    pixels = np.stack([sizes.fit_square(images.read_grey(EXAMPLES / name), SIZE, "pad") for name in recorded.index])
    probability = network.predict(pixels[..., None], verbose=0)[:, 0].astype(float)
    logit = np.log(probability / (1 - probability)) / record["temperature"]
    np.testing.assert_allclose(recorded["probability"], 1 / (1 + np.exp(-logit)), atol=2e-3)
    assert (recorded["decision"] == np.where(recorded["probability"] >= record["threshold"], "Positive", "Negative")).all()


# None: OpenVINO where it is installed
@pytest.mark.parametrize("backend", [None, pytest.param("tensorflow", marks=pytest.mark.slow)])
def test_the_command_prints_the_recorded_lines(recorded, backend, in_tmp):
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {"KERAS_BACKEND": backend} if backend else {}
    command = [sys.executable, str(ROOT / "model_test.py"), *(str(EXAMPLES / name) for name in recorded.index)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = backend or ("openvino" if importlib.util.find_spec("openvino") else "tensorflow")
    assert f"Computed on {expected}." in done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert [Path(path).name for path, _, _ in lines] == list(recorded.index)
    assert [decision for _, decision, _ in lines] == list(recorded["decision"])
    assert [float(probability) for _, _, probability in lines] == pytest.approx(list(recorded["probability"]), abs=2e-3)


def test_an_image_needs_no_run(recorded, in_tmp, capsys):
    assert model_test.main([str(EXAMPLES / "hand_positive.jpg")]) == 0
    out, err = capsys.readouterr()
    _, decision, probability = out.splitlines()[0].split("\t")
    assert decision == recorded["decision"]["hand_positive.jpg"]
    assert float(probability) == pytest.approx(recorded["probability"]["hand_positive.jpg"], abs=2e-3)
    assert "no run is named" in err and "MODEL_CARD.md" in err


def test_its_data_are_not_here(in_tmp, capsys):
    assert model_test.main([str(WEIGHTS)]) == 1
    assert "training data are not here (no fracatlas, fracatlas_lower). Pass" in capsys.readouterr().err


def test_training_starts_from_it(phantoms, in_tmp):
    arguments = ["--network", "efficientnet_lite0", "--weights", str(WEIGHTS / "best.h5"), "--size", 64, "--epochs", 1]
    assert train(phantoms, "second", *arguments) == 0
    assert RunFolder.open("second").record().finished


def test_it_is_a_finished_run_of_both_roots_and_names_no_folder():
    record, scores = RunFolder.open(WEIGHTS).record(), json.loads((WEIGHTS / "scores.json").read_text())
    assert record.finished and record.options.recipe == "light" and record.options.size == SIZE
    assert list(record.data.roots) == scores["data"] == ["fracatlas", "fracatlas_lower"]
    assert scores["split"] == "held-out" and scores["studies"]["count"] == 850 and "hardware" in scores["groups"]
    card = (WEIGHTS / "MODEL_CARD.md").read_text()
    assert f"{scores['studies']['auroc']['value']:.3f}" in card and "LayerCAM" in card
    for file in WEIGHTS.rglob("*.json"):
        assert '"/' not in file.read_text(), f"{file} contains an absolute path"


def test_the_examples_follow_their_rule(fracatlas, fracatlas_lower):
    """Of each body part and label, the held-out study that the README's rule chooses."""
    tables = [pd.read_csv(root / "provenance.csv").assign(root=root) for root in (fracatlas, fracatlas_lower)]
    table = pd.concat(tables, ignore_index=True).query("split == 'valid'")
    study = table["path"].str.rsplit("/", n=1).str[0]
    table["views"] = table.groupby(["root", study])["path"].transform("count")
    table["labels"] = table.groupby(["root", "group"])["label"].transform("nunique")
    for part, study_type in PARTS.items():
        for label, word in enumerate(("negative", "positive")):
            found = table[(table["region"] == study_type) & (table["label"] == label)].sort_values(["labels", "views", "path"])
            first = found.iloc[0]
            assert (EXAMPLES / f"{part}_{word}.jpg").read_bytes() == (first["root"] / first["path"]).read_bytes()

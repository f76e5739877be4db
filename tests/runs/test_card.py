"""The card of a run says what the run is, and its lines of code give the run's own probabilities."""

import json
import re
import shutil

import numpy as np
import pytest

import model_test
from bones.data.pixels import load_pixels
from bones.data.views import find_views
from bones.evaluation.classifier import Classifier
from bones.runs import card as model_card
from bones.runs.folder import RunFolder
from bones.system.errors import RunError


@pytest.fixture
def run(trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    (folder / "scores.json").unlink(missing_ok=True)
    return RunFolder.open(folder)


def test_training_writes_a_card(trained):
    text = (trained / "MODEL_CARD.md").read_text()
    settings = json.loads((trained / "run.json").read_text())
    assert "Trained on phantoms" in text and "not a medical device" in text
    for part in ("train", "tuning"):
        counts = settings["data"][part]
        row = f"| {part} | {counts['studies']} | {counts['patients']} | {counts['views']} | {counts['positive_views']} |"
        assert row in text
    assert f"epoch {settings['best_epoch']} selected" in text and f"| seed | `{settings['options']['seed']}` |" in text
    assert settings["data"]["roots"][0] not in text, "a path of the trainer's"


def test_scoring_puts_the_scores_into_it(run, capsys):
    model_card.write(run)
    assert "Not scored yet" in (run / "MODEL_CARD.md").read_text()
    assert model_test.main([str(run.path)]) == 0
    study = json.loads((run / "scores.json").read_text())["studies"]
    text = (run / "MODEL_CARD.md").read_text()
    auroc = study["auroc"]
    assert f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]" in text and "held-out studies" in text
    assert "optimistic" not in text
    assert model_test.main([str(run.path), "--split", "tuning"]) == 0
    assert "scores are optimistic" in (run / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize("averaging", [False, True])
def test_its_lines_of_code_give_the_probabilities_of_the_run(run, phantoms, averaging, monkeypatch):
    record = run.record()
    run.write_record(record.changed(options=record.options.changed(flip_averaging=averaging)))
    model_card.write(run)
    (code,) = re.findall(r"```python\n(.*?)```", (run / "MODEL_CARD.md").read_text(), flags=re.DOTALL)
    views = find_views(phantoms, "held-out").head(6)
    _, pixels = load_pixels(views, 32, "pad", cache=None)
    found = {"images": pixels[np.arange(6)]}
    monkeypatch.chdir(run.path)
    exec(code, found)
    expected = Classifier(run).predict(pixels)
    np.testing.assert_allclose(found["probability"][:, 0], expected, atol=1e-5)
    np.testing.assert_array_equal(found["is_positive"][:, 0], expected >= record.threshold)


def test_damaged_scores_are_told(run):
    run.write_json("scores.json", {"split": "held-out", "data": "x"})
    with pytest.raises(RunError, match=r"scores\.json lacks .* Score again"):
        model_card.write(run)


def test_a_bar_in_a_cell_is_escaped(run):
    record = run.record()
    record = record.changed(options=record.options.changed(recipe="a|b"))
    assert "| recipe | `a\\|b` |" in model_card.card("run", record, None)

"""The threshold and the temperature that are fitted on tuning studies."""

import numpy as np
import pytest
from score_tables import LABEL, PROBABILITY, predictions

from bones.scores.fitting import fit, fit_threshold
from bones.scores.metrics import log_loss
from bones.scores.probabilities import calibrate
from bones.scores.report import score


def test_the_threshold_calls_as_many_positive_as_are():
    assert (fit_threshold(LABEL, PROBABILITY) <= PROBABILITY).sum() == LABEL.sum()
    assert fit_threshold([1, 0, 0, 0], [0.9, 0.9, 0.6, 0.6]) == pytest.approx(0.75), "a tie: two are nearest to one"
    assert fit_threshold([1, 1, 1, 0], [0.9, 0.8, 0.2, 0.2]) == 0.5, "a tie: two and four are as near to three"
    assert fit_threshold([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9]) == 0.5, "of equally good thresholds the nearest to 0.5"
    assert fit_threshold([0, 0, 1, 1], [0.7, 0.8, 0.85, 0.9]) == pytest.approx(0.825)
    assert fit_threshold([1, 0], [0.1, 0.9]) == 0.5, "worse than chance"
    assert fit_threshold([1, 1], [0.1, 0.9]) == fit_threshold([0, 0], [0.6, 0.9]) == 0.5, "one class"


def test_the_temperature_undoes_overconfidence():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 4000)
    label = (rng.random(4000) < 1 / (1 + np.exp(-logit))).astype(int)
    views = predictions(label, 1 / (1 + np.exp(-3 * logit))).assign(
        patient=np.arange(4000), label=label
    )  # three times too sure
    fitted = fit(views)
    assert fitted["temperature"] == pytest.approx(3, rel=0.1)
    losses = [log_loss(label, calibrate(views["probability"], t)) for t in fitted["temperature"] * np.array([0.9, 1, 1.1])]
    assert losses[1] == min(losses)
    calibrated = score(views.assign(probability=calibrate(views["probability"], fitted["temperature"])), 0.5)
    raw = score(views, 0.5)
    assert calibrated["ece"]["value"] < raw["ece"]["value"] / 3
    assert calibrated["auroc"]["value"] == pytest.approx(raw["auroc"]["value"])


def test_a_temperature_that_has_no_best_value_stays_one():
    label = np.repeat([0, 1], 30)
    assert fit(predictions(label, np.where(label, 0.9, 0.2)))["temperature"] == 1.0
    assert fit(predictions(np.ones(60, int)))["temperature"] == 1.0
    np.testing.assert_allclose(calibrate([0.0, 0.3, 1.0], 1.0), [0.0, 0.3, 1.0])
    assert np.isfinite(calibrate([0.0, 1.0], 0.1)).all()

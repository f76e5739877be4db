"""The threshold and the temperature that are fitted on tuning studies."""

import numpy as np
import pytest
from score_tables import LABEL, PROBABILITY, predictions
from sklearn import base, calibration, frozen

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


def test_the_temperature_is_fitted_on_studies():
    """Views of a study err on both sides and its mean is right: views alone would need another temperature."""
    rng = np.random.default_rng(0)
    logit = np.repeat(rng.normal(0, 1.5, 400), 3)
    label = np.repeat((rng.random(400) < 1 / (1 + np.exp(-logit[::3]))).astype(int), 3)
    views = predictions(label, 1 / (1 + np.exp(-logit - rng.normal(0, 2.5, 1200)))).assign(label=label)
    fitted = fit(views)["temperature"]
    alone = fit(views.assign(patient=np.arange(1200)))["temperature"]
    studies = [
        log_loss(label[::3], calibrate(views["probability"], t).reshape(-1, 3).mean(1))
        for t in (0.97 * fitted, fitted, 1.03 * fitted)
    ]
    assert studies[1] == min(studies) and abs(fitted - alone) > 0.2


def test_the_temperature_is_scikit_learns_where_each_study_has_one_view():
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 1.5, 300)
    label = (rng.random(300) < 1 / (1 + np.exp(-logit))).astype(int)
    probability = 1 / (1 + np.exp(-2 * logit))
    views = predictions(label, probability).assign(patient=np.arange(300), label=label)

    class Network(base.ClassifierMixin, base.BaseEstimator):
        """A fitted classifier whose logit is its only feature."""

        classes_ = np.array([0, 1])

        def fit(self, features, label):
            return self

        def decision_function(self, features):
            return features[:, 0]

        def predict(self, features):
            return (features[:, 0] > 0).astype(int)

        def __sklearn_is_fitted__(self):
            return True

    calibrated = calibration.CalibratedClassifierCV(frozen.FrozenEstimator(Network()), method="temperature", ensemble=False)
    features = 2 * logit[:, None]
    expected = calibrated.fit(features, label).predict_proba(features)[:, 1]
    assert calibrate(probability, fit(views)["temperature"]) == pytest.approx(expected, abs=1e-3)

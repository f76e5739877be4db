"""Metrics against independent references: pair counting, scikit-learn, Keras, and repeated units."""

import itertools

import keras
import numpy as np
import pytest
from score_tables import LABEL, PROBABILITY, table
from sklearn import calibration, metrics

from bones.scores import intervals
from bones.scores.metrics import all_scores, auroc, bin_of, log_loss, point_scores
from bones.scores.names import BINS, WITH_INTERVAL
from bones.scores.report import score


def test_auroc_counts_pairs():
    pairs = list(itertools.product(PROBABILITY[LABEL == 1], PROBABILITY[LABEL == 0]))
    expected = np.mean([1.0 if high > low else 0.5 if high == low else 0.0 for high, low in pairs])
    assert auroc(LABEL, PROBABILITY) == pytest.approx(expected, abs=1e-12)
    assert auroc([1, 1], [0.2, 0.3]) is None


def test_ece_is_the_gap_of_scikit_learns_calibration_curve():
    # scikit-learn's bins hold their upper edge, ours their lower: keep away from edges for the comparison.
    inner = np.clip(np.floor(PROBABILITY * 10) / 10 + 0.05, 0, 0.95)
    shares, means = calibration.calibration_curve(LABEL, inner, n_bins=BINS)
    counts = np.histogram(inner, bins=BINS, range=(0, 1))[0]
    expected = np.sum(np.abs(shares - means) * counts[counts > 0]) / len(LABEL)
    found = score(table(probability=inner), 0.5, ("ece",))["ece"]
    assert found == {"value": pytest.approx(expected, abs=1e-12), "low": None, "high": None}
    assert bin_of([0.0, 0.1, 0.99, 1.0]).tolist() == [0, 1, 9, 9]


def test_scores_of_a_draw_are_those_of_the_drawn_units():
    """The vectorised formulas, on weights, against scikit-learn on units repeated as often as they were drawn."""
    patient = np.arange(60) // 2
    weight = np.concatenate(list(intervals.draw_patients(patient, draws=40)))
    found = all_scores(LABEL, PROBABILITY, 0.6, weight)
    for draw, row in enumerate(weight.astype(int)):
        expected, _ = point_scores(np.repeat(LABEL, row), np.repeat(PROBABILITY, row), 0.6)
        for name in WITH_INTERVAL:
            value = np.nan if expected[name] is None else expected[name]
            assert found[name][draw] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_log_loss_is_keras_loss():
    weight = np.random.default_rng(1).random(60).astype("float32")
    label, probability = LABEL.astype("float32")[:, None], PROBABILITY.astype("float32")[:, None]
    for given in (None, weight):
        expected = float(keras.losses.BinaryCrossentropy()(label, probability, sample_weight=given))
        assert log_loss(LABEL, probability[:, 0], given) == pytest.approx(expected, rel=1e-5)


def test_skill_is_scikit_learns():
    """1 - score / score of the prevalence; the prevalence itself has none, and the truth all."""
    values, _ = point_scores(LABEL, np.clip(PROBABILITY, 0.01, 0.99), 0.5)
    clipped = np.clip(PROBABILITY, 0.01, 0.99)
    assert values["log_loss"] == pytest.approx(metrics.log_loss(LABEL, clipped))
    assert values["d2_log_loss"] == pytest.approx(metrics.d2_log_loss_score(LABEL, clipped))
    assert values["d2_brier"] == pytest.approx(1 - values["brier"] / (LABEL.mean() * (1 - LABEL.mean())))
    prevalence, _ = point_scores(LABEL, np.full(60, LABEL.mean()), 0.5)
    perfect, _ = point_scores(LABEL, LABEL.astype(float), 0.5)
    for name in ("d2_log_loss", "d2_brier"):
        assert prevalence[name] == pytest.approx(0, abs=1e-12) and perfect[name] == pytest.approx(1, abs=1e-5)
    assert point_scores(np.ones(5, int), np.full(5, 0.7), 0.5)[0]["d2_brier"] is None

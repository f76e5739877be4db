"""Every metric against an independent reference: pair counting, the 2x2 formula, Keras."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest

import scores

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 2, 60)
PROBABILITY = np.round(np.clip(0.3 * LABEL + RNG.random(60), 0, 1), 2)  # rounded: with ties


def test_auroc_counts_pairs():
    pairs = list(itertools.product(PROBABILITY[LABEL == 1], PROBABILITY[LABEL == 0]))
    expected = np.mean([1.0 if high > low else 0.5 if high == low else 0.0 for high, low in pairs])
    assert scores.auroc(LABEL, PROBABILITY) == pytest.approx(expected, abs=1e-12)
    assert scores.auroc([1, 1], [0.2, 0.3]) is None


def test_score_follows_the_two_by_two_table():
    report = scores.score(LABEL, PROBABILITY, 0.6)
    called = PROBABILITY >= 0.6
    tp, fn = int((called & (LABEL == 1)).sum()), int((~called & (LABEL == 1)).sum())
    fp, tn = int((called & (LABEL == 0)).sum()), int((~called & (LABEL == 0)).sum())
    n = tp + fn + fp + tn
    assert report["confusion"] == {"true_negative": tn, "false_positive": fp, "false_negative": fn, "true_positive": tp}
    expected_agreement = ((tp + fp) * (tp + fn) + (tn + fn) * (tn + fp)) / n**2
    values = {
        "accuracy": (tp + tn) / n,
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "kappa": ((tp + tn) / n - expected_agreement) / (1 - expected_agreement),
    }
    for name, value in values.items():
        assert report[name] == {"value": pytest.approx(value, abs=1e-12), "low": None, "high": None}
    assert report["count"] == 60 and report["positive"] == LABEL.sum()


def test_undefined_scores_are_none():
    report = scores.score([1, 1], [0.9, 0.8], 0.5)
    assert report["auroc"]["value"] is report["kappa"]["value"] is report["specificity"]["value"] is None
    assert report["sensitivity"]["value"] == 1.0


def test_the_threshold_itself_is_positive():
    assert scores.decisions([0.49, 0.5, 0.51], 0.5).tolist() == [0, 1, 1]


def test_log_loss_is_keras_loss():
    weight = RNG.random(60).astype("float32")
    label, probability = LABEL.astype("float32")[:, None], PROBABILITY.astype("float32")[:, None]
    for given in (None, weight):
        expected = float(keras.losses.BinaryCrossentropy()(label, probability, sample_weight=given))
        assert scores.log_loss(LABEL, probability[:, 0], given) == pytest.approx(expected, rel=1e-5)


def test_report_by_view_study_and_type():
    predictions = pd.DataFrame(
        {
            "study_type": ["A", "A", "A", "B", "B"],
            "patient": ["p1", "p1", "p2", "p3", "p3"],
            "study": ["s1", "s1", "s1", "s1", "s2"],
            "label": [1, 1, 0, 0, 1],
            "probability": [0.9, 0.3, 0.4, 0.2, 0.7],
        }
    )
    studies = scores.study_probabilities(predictions)
    assert studies["probability"].tolist() == pytest.approx([0.6, 0.4, 0.2, 0.7])
    assert studies["views"].tolist() == [2, 1, 1, 1]
    report = scores.report(predictions, 0.5)
    assert report["views"]["count"] == 5 and report["studies"]["count"] == 4
    assert report["views"]["accuracy"]["value"] == 0.8 and report["studies"]["accuracy"]["value"] == 1.0
    assert set(report["by_study_type"]) == {"A", "B"}
    assert report["by_study_type"]["A"]["studies"]["count"] == 2
    table = scores.as_table(report)
    assert list(table.index) == ["all views", "all studies", "A views", "A studies", "B views", "B studies"]
    assert table.loc["all studies", "accuracy"] == 1.0

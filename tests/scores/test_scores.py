"""Every metric against an independent reference: pair counting, the 2x2 formula, scikit-learn, Keras."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
from sklearn import calibration, metrics

from bones.scores import intervals
from bones.scores.fitting import fit, fit_threshold
from bones.scores.metrics import BINS, NUMBERS, all_scores, auroc, bin_of, log_loss, point_scores
from bones.scores.probabilities import calibrate, decisions, ensemble, study_probabilities
from bones.scores.report import curves, differences, report, score

RNG = np.random.default_rng(0)
LABEL = RNG.integers(0, 2, 60)
PROBABILITY = np.round(np.clip(0.3 * LABEL + RNG.random(60), 0, 1), 2)  # rounded: with ties


def table(label=LABEL, probability=PROBABILITY, patient=None):
    """A table of studies, two a patient unless told."""
    patient = np.arange(len(label)) // 2 if patient is None else patient
    return pd.DataFrame({"patient": patient, "label": label, "probability": probability})


def predictions(label=LABEL, probability=PROBABILITY):
    """A table of views: one study a patient, three views a study."""
    number = np.arange(len(label)) // 3
    return pd.DataFrame(
        {
            "study_type": "XR_HUMERUS",
            "patient": [f"p{one}" for one in number],
            "study": "s1",
            "view": [f"image{one}" for one in np.arange(len(label)) % 3],
            "label": np.asarray(label)[number * 3],
            "probability": probability,
        }
    )


def test_auroc_counts_pairs():
    pairs = list(itertools.product(PROBABILITY[LABEL == 1], PROBABILITY[LABEL == 0]))
    expected = np.mean([1.0 if high > low else 0.5 if high == low else 0.0 for high, low in pairs])
    assert auroc(LABEL, PROBABILITY) == pytest.approx(expected, abs=1e-12)
    assert auroc([1, 1], [0.2, 0.3]) is None


def test_score_follows_the_two_by_two_table():
    report = score(table(), 0.6)
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
        "f1": 2 * tp / (2 * tp + fp + fn),
        "kappa": ((tp + tn) / n - expected_agreement) / (1 - expected_agreement),
        "brier": np.mean((PROBABILITY - LABEL) ** 2),
        "average_precision": metrics.average_precision_score(LABEL, PROBABILITY),
    }
    for name, value in values.items():
        assert report[name]["value"] == pytest.approx(value, abs=1e-12)
        assert report[name]["low"] < report[name]["value"] < report[name]["high"]
    assert report["count"] == 60 and report["positive"] == LABEL.sum()


def test_ece_is_the_gap_of_scikit_learns_calibration_curve():
    shares, means = calibration.calibration_curve(LABEL, PROBABILITY, n_bins=BINS)
    counts = np.histogram(PROBABILITY, bins=BINS, range=(0, 1))[0]
    # scikit-learn's bins hold their upper edge, ours their lower: keep away from edges for the comparison.
    assert score(table(), 0.5, ("ece",))["ece"]["value"] >= 0
    inner = np.clip(np.floor(PROBABILITY * 10) / 10 + 0.05, 0, 0.95)
    shares, means = calibration.calibration_curve(LABEL, inner, n_bins=BINS)
    counts = np.histogram(inner, bins=BINS, range=(0, 1))[0]
    expected = np.sum(np.abs(shares - means) * counts[counts > 0]) / len(LABEL)
    assert score(table(probability=inner), 0.5, ("ece",))["ece"]["value"] == pytest.approx(expected, abs=1e-12)
    assert bin_of([0.0, 0.1, 0.99, 1.0]).tolist() == [0, 1, 9, 9]


def test_scores_of_a_draw_are_those_of_the_drawn_units():
    """The vectorised formulas, on weights, against scikit-learn on units repeated as often as they were drawn."""
    patient = np.arange(60) // 2
    weight = np.concatenate(list(intervals.draw_patients(patient, draws=40)))
    found = all_scores(LABEL, PROBABILITY, 0.6, weight)
    found["ece"] = np.abs(found["ece"]).sum(1)
    for draw, row in enumerate(weight.astype(int)):
        expected, _ = point_scores(np.repeat(LABEL, row), np.repeat(PROBABILITY, row), 0.6)
        for name, value in expected.items():
            assert found[name][draw] == pytest.approx(value, abs=1e-12), name


def test_undefined_scores_are_none():
    report = score(table([1, 1], [0.9, 0.8], ["a", "b"]), 0.5)
    for name in ("auroc", "kappa", "specificity"):
        assert report[name] == {"value": None, "low": None, "high": None}
    assert report["sensitivity"] == {"value": 1.0, "low": pytest.approx(0.025**0.5), "high": 1.0}, "no mistake: exact interval"


def test_the_threshold_itself_is_positive():
    assert decisions([0.49, 0.5, 0.51], 0.5).tolist() == [0, 1, 1]


def test_log_loss_is_keras_loss():
    weight = RNG.random(60).astype("float32")
    label, probability = LABEL.astype("float32")[:, None], PROBABILITY.astype("float32")[:, None]
    for given in (None, weight):
        expected = float(keras.losses.BinaryCrossentropy()(label, probability, sample_weight=given))
        assert log_loss(LABEL, probability[:, 0], given) == pytest.approx(expected, rel=1e-5)


def test_report_by_view_study_and_type():
    views = pd.DataFrame(
        {
            "study_type": ["A", "A", "A", "B", "B"],
            "patient": ["p1", "p1", "p2", "p3", "p3"],
            "study": ["s1", "s1", "s1", "s1", "s2"],
            "label": [1, 1, 0, 0, 1],
            "probability": [0.9, 0.3, 0.4, 0.2, 0.7],
        }
    )
    studies = study_probabilities(views)
    assert studies["probability"].tolist() == pytest.approx([0.6, 0.4, 0.2, 0.7])
    assert studies["views"].tolist() == [2, 1, 1, 1]
    found = report(views, 0.65)
    assert found["views"]["count"] == 5 and found["studies"]["count"] == 4
    assert found["studies"]["accuracy"]["value"] == 0.75 and found["at_half"]["studies"]["accuracy"]["value"] == 1.0
    assert found["at_half"]["views"]["accuracy"]["value"] == 0.8
    assert set(found["by_study_type"]) == {"A", "B"}
    assert found["by_study_type"]["A"]["studies"]["count"] == 2


# Threshold and temperature


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


# Several runs


def test_difference_is_paired():
    """Two runs alike but for a little noise: their difference is far surer than either."""
    rng = np.random.default_rng(0)
    one = predictions()
    other = one.assign(probability=np.clip(one["probability"] + rng.normal(0, 0.01, 60), 0, 1))
    found = differences([(one, 0.5)], [(other, 0.5)])
    studies = [study_probabilities(each) for each in (one, other)]
    for name in NUMBERS:
        values = [score(each, 0.5, (name,), draws=50)[name]["value"] for each in studies]
        assert found[name]["value"] == pytest.approx(values[1] - values[0], abs=1e-12)
    alone = score(studies[0], 0.5)["brier"]
    assert found["brier"]["high"] - found["brier"]["low"] < (alone["high"] - alone["low"]) / 5
    same = differences([(one, 0.5)], [(one.sample(frac=1, random_state=0), 0.5)])["auroc"]
    assert same == {"value": 0.0, "low": None, "high": None}, "the order of rows does not count"
    with pytest.raises(ValueError, match="same studies"):
        differences([(one, 0.5)], [(one[3:], 0.5)])


def test_difference_of_groups_is_of_their_means():
    runs = [predictions(probability=RNG.random(60)) for _ in range(3)]
    values = [auroc(*study_probabilities(run)[["label", "probability"]].to_numpy().T) for run in runs]
    found = differences([(run, 0.5) for run in runs[:2]], [(runs[2], 0.5)], ("auroc",))["auroc"]
    assert found["value"] == pytest.approx(values[2] - np.mean(values[:2]))
    assert found["low"] < found["value"] < found["high"]


def test_ensemble_is_the_mean_by_view():
    one = predictions()
    other = one.assign(probability=1 - one["probability"]).sample(frac=1, random_state=1)
    together = ensemble([one, other])
    assert list(together.columns) == list(one.columns) and together["probability"].to_numpy() == pytest.approx(0.5)


def test_curve_bands_hold_the_curve():
    grid = np.linspace(0, 1, 21)
    bands = curves(table(), grid, draws=500)
    fp_rate, tp_rate, _ = metrics.roc_curve(LABEL, PROBABILITY, drop_intermediate=False)
    low, high = bands["roc"]
    curve = np.interp(grid, fp_rate, tp_rate)
    assert (low <= curve + 1e-9).all() and (curve <= high + 1e-9).all() and (high - low).max() < 0.6
    assert bands["precision_recall"].shape == (2, 21)
    assert bands["precision_recall"][:, -1].mean() == pytest.approx(LABEL.mean(), abs=0.15), (
        "all called: the share of positives"
    )

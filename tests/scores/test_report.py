"""Reports against the 2x2 formulas, paired differences of runs, and the bands of curves."""

import numpy as np
import pandas as pd
import pytest
from score_tables import LABEL, PROBABILITY, predictions, table
from sklearn import metrics

from bones.scores.metrics import NUMBERS, auroc
from bones.scores.probabilities import study_probabilities
from bones.scores.report import curves, differences, report, score


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


def test_undefined_scores_are_none():
    report = score(table([1, 1], [0.9, 0.8], ["a", "b"]), 0.5)
    for name in ("auroc", "kappa", "specificity"):
        assert report[name] == {"value": None, "low": None, "high": None}
    assert report["sensitivity"] == {"value": 1.0, "low": pytest.approx(0.025**0.5), "high": 1.0}, "no mistake: exact interval"


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
    rng = np.random.default_rng(1)
    runs = [predictions(probability=rng.random(60)) for _ in range(3)]
    values = [auroc(*study_probabilities(run)[["label", "probability"]].to_numpy().T) for run in runs]
    found = differences([(run, 0.5) for run in runs[:2]], [(runs[2], 0.5)], ("auroc",))["auroc"]
    assert found["value"] == pytest.approx(values[2] - np.mean(values[:2]))
    assert found["low"] < found["value"] < found["high"]


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

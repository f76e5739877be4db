"""Reports against the 2x2 formulas, paired differences of runs, and the bands of curves."""

import numpy as np
import pandas as pd
import pytest
from score_tables import LABEL, PROBABILITY, predictions, table
from sklearn import metrics

from bones.scores import intervals
from bones.scores.metrics import auroc
from bones.scores.names import HIGHEST, LOWEST, WITH_INTERVAL
from bones.scores.probabilities import study_probabilities
from bones.scores.report import changes, curves, differences, mean_scores, report, score


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


def test_f1_is_zero_without_a_true_positive_and_undefined_without_any_positive():
    assert score(table([1, 1, 0], [0.2, 0.3, 0.1], ["a", "b", "c"]), 0.5)["f1"]["value"] == 0.0
    assert score(table([0, 0, 1], [0.9, 0.1, 0.2], ["a", "b", "c"]), 0.5)["f1"]["value"] == 0.0
    assert score(table([0, 0, 0], [0.2, 0.3, 0.1], ["a", "b", "c"]), 0.5)["f1"]["value"] is None


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


def test_changes_are_paired():
    """A run on images that changed a little: the difference is far surer than either score."""
    rng = np.random.default_rng(0)
    one = predictions()
    other = one.assign(probability=np.clip(one["probability"] + rng.normal(0, 0.01, 60), 0, 1))
    found = changes(one, other, 0.5)
    studies = [study_probabilities(each) for each in (one, other)]
    for name in WITH_INTERVAL:
        values = [score(each, 0.5, (name,), draws=50)[name]["value"] for each in studies]
        assert found[name]["value"] == pytest.approx(values[1] - values[0], abs=1e-12)
    alone = score(studies[0], 0.5)["brier"]
    assert found["brier"]["high"] - found["brier"]["low"] < (alone["high"] - alone["low"]) / 5
    same = changes(one, one.sample(frac=1, random_state=0), 0.5)["auroc"]
    assert same == {"value": 0.0, "low": None, "high": None}, "the order of rows does not count"
    with pytest.raises(ValueError, match="same studies"):
        changes(one, one[3:], 0.5)


def test_changes_draw_patients():
    """With four alike studies a patient, an interval from studies would be half as wide."""
    rng = np.random.default_rng(2)
    one = predictions(np.repeat(rng.integers(0, 2, 20), 12), np.repeat(rng.random(20), 12))
    one["label"] = np.repeat(rng.integers(0, 2, 20), 12)
    other = one.assign(probability=np.repeat(rng.random(20), 12))
    width = {}
    for name, patient in (("patients", np.repeat(np.arange(20), 12)), ("studies", np.arange(240) // 3)):
        tables = [table.assign(patient=patient, study=np.arange(240) // 3) for table in (one, other)]
        for found in (changes(*tables, 0.5, ("auroc",)), two_seeds(*tables)):
            width.setdefault(name, []).append(found["auroc"]["high"] - found["auroc"]["low"])
    for patients, studies in zip(width["patients"], width["studies"], strict=True):
        assert studies < 0.7 * patients


def two_seeds(one, other):
    """The difference of two recipes of two seeds each, which differ hardly."""
    return differences(
        *([(table, 0.5), (table.assign(probability=table["probability"] * 0.999), 0.5)] for table in (one, other))
    )


def test_labels_that_differ_are_not_the_same_studies():
    one = predictions()
    other = one.assign(label=np.where(one["patient"] == "p3", 1 - one["label"], one["label"]))
    with pytest.raises(ValueError, match="same labels"):
        differences([(one, 0.5)], [(other, 0.5)])


def test_difference_of_recipes_is_of_their_means():
    rng = np.random.default_rng(1)
    runs = [(predictions(probability=rng.random(60)), 0.5) for _ in range(5)]
    values = [auroc(*study_probabilities(run)[["label", "probability"]].to_numpy().T) for run, _ in runs]
    found = differences(runs[:2], runs[2:], ("auroc",))["auroc"]
    assert found["value"] == pytest.approx(np.mean(values[2:]) - np.mean(values[:2]))
    assert found["low"] < found["value"] < found["high"] and 0 < found["p"] < 1
    mean = mean_scores(runs[2:], ("auroc",))["auroc"]
    assert mean["value"] == pytest.approx(np.mean(values[2:])) and mean["low"] < mean["value"] < mean["high"] <= 1


def test_one_seed_gives_no_interval():
    rng = np.random.default_rng(1)
    runs = [(predictions(probability=rng.random(60)), 0.5) for _ in range(3)]
    for before, after in ((runs[:1], runs[1:]), (runs[:2], runs[2:])):
        found = differences(before, after)["kappa"]
        assert found["value"] != 0 and found["low"] is found["high"] is found["p"] is None
    assert mean_scores(runs[:1])["auroc"]["low"] is None


def test_undefined_means_are_none():
    one_class = [(predictions(label=np.ones(60, int), probability=np.full(60, share)), 0.5) for share in (0.4, 0.6)]
    for found in (mean_scores(one_class), differences(one_class, one_class)):
        assert found["auroc"] == found["d2_brier"] == {"value": None, "low": None, "high": None, "p": None}
        assert found["accuracy"]["value"] is not None


def test_a_mean_stays_within_the_scores_range():
    good = np.clip(predictions()["label"] * 0.5 + 0.4 * np.random.default_rng(0).random(60), 0, 1)
    runs = [(predictions(probability=np.abs(good - flip)), 0.5) for flip in (0, 0, np.arange(60) < 9)]
    found = mean_scores(runs)
    for name, one in found.items():
        assert LOWEST.get(name, 0.0) <= one["low"] <= one["value"] <= one["high"] <= HIGHEST.get(name, 1.0), name
    assert found["auroc"]["high"] == 1.0


def draws_of(table, draws):
    return intervals.draw_patients(np.unique(table["patient"], return_inverse=True)[1], draws)


def sensitivity_at_zero(weight):
    """Share of the positives that are above every negative, of a draw."""
    highest = PROBABILITY[(LABEL == 0) & (weight > 0)].max()
    return (weight * LABEL * (highest < PROBABILITY)).sum() / (weight * LABEL).sum()


def test_precision_is_that_of_the_highest_threshold_that_reaches_the_recall():
    """Not interpolated between two thresholds, which would promise precisions that no threshold has."""
    views = pd.DataFrame({"patient": range(6), "label": [1, 0, 0, 0, 1, 0], "probability": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]})
    one_draw = [np.ones((1, 6))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "draw_patients", lambda patient, draws: one_draw)
        bands = curves(views, np.array([0.0, 0.5, 0.6, 0.75, 1.0]))
    assert bands["precision_recall"][0].tolist() == pytest.approx([1.0, 1.0, 0.4, 0.4, 0.4])


def test_curve_bands_hold_the_curve():
    grid = np.linspace(0, 1, 21)
    bands = curves(table(), grid, draws=500)
    fp_rate, tp_rate, _ = metrics.roc_curve(LABEL, PROBABILITY, drop_intermediate=False)
    low, high = bands["roc"]
    curve = np.interp(grid, fp_rate, tp_rate)
    assert (low <= curve + 1e-9).all() and (curve <= high + 1e-9).all() and (high - low).max() < 0.6
    assert bands["precision_recall"].shape == (2, 21)
    # At a false positive rate of 0, the sensitivity of 95 % of all draws, of which the band is the middle.
    at_zero = sorted(sensitivity_at_zero(weight) for weight in np.concatenate(list(draws_of(table(), 500))))
    assert (low[0], high[0]) == pytest.approx(np.quantile(at_zero, [0.025, 0.975]))
    assert bands["precision_recall"][:, -1].mean() == pytest.approx(LABEL.mean(), abs=0.15), (
        "all called: the share of positives"
    )

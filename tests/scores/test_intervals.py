"""Intervals: how often they hold the truth, whom they draw, and their arithmetic against scipy's."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from bones.scores import intervals
from bones.scores.metrics import NUMBERS, point_scores
from bones.scores.report import score


def simulate(patients, rng):
    """Studies of simulated patients: most have one, some two, of labels of their own; 1 to 4 views; a skewed network."""
    patient = np.repeat(np.arange(patients), np.where(rng.random(patients) < 0.12, 2, 1))
    trait = rng.normal(0, 0.7, patients)[patient]
    label = (rng.random(len(patient)) < 1 / (1 + np.exp(0.1 - trait))).astype(int)
    logit = 1.8 * (label - 0.5) + 0.6 * rng.normal(0, 1, patients)[patient] + 0.5 * rng.normal(0, 1, len(patient))
    views = rng.integers(1, 5, len(patient))
    study = np.repeat(np.arange(len(patient)), views)
    view = 1 / (1 + np.exp(-logit[study] - 0.6 * rng.normal(0, 1, len(study))))
    return pd.DataFrame({"patient": patient, "label": label, "probability": np.bincount(study, view) / views})


@pytest.mark.parametrize("simulations", [pytest.param(100, id="quick"), pytest.param(1000, marks=pytest.mark.slow, id="full")])
def test_intervals_hold_the_truth_95_times_in_100(simulations):
    """On sets of MURA's held-out humerus' size: 132 patients. The truth is that of 200,000 patients."""
    rng = np.random.default_rng(3)
    truth, _ = point_scores(*simulate(200_000, rng)[["label", "probability"]].to_numpy().T, 0.45)
    held = dict.fromkeys(NUMBERS, 0)
    for _ in range(simulations):
        found = score(simulate(132, rng), 0.45, draws=2000 if simulations > 100 else 600)
        for name in held:
            held[name] += found[name]["low"] <= truth[name] <= found[name]["high"]
    coverage = {name: count / simulations for name, count in held.items()}
    low, high = (0.93, 0.97) if simulations > 100 else (0.88, 1.0)  # 0.93 - 3 standard errors of 100 simulations is 0.85
    assert all(low <= share <= high for share in coverage.values()), coverage
    assert 0.93 <= np.mean(list(coverage.values())) <= 0.97, coverage


def test_drawing_views_would_be_too_sure():
    """With six alike views a patient, an interval from views is less than half as wide as it should be."""
    rng = np.random.default_rng(0)
    patients = pd.DataFrame({"patient": np.arange(60), "label": np.arange(60) % 2, "probability": rng.random(60)})
    views = patients.loc[np.repeat(np.arange(60), 6)].reset_index(drop=True)
    width = {}
    for name, patient in (("patients", views["patient"]), ("views", np.arange(360))):
        found = score(views.assign(patient=patient), 0.5)["auroc"]
        width[name] = found["high"] - found["low"]
    assert width["views"] < width["patients"] / 2
    alone = score(patients, 0.5)["auroc"]
    assert alone["high"] - alone["low"] == pytest.approx(width["patients"], rel=1e-9), "alike views add nothing"


def test_bca_equals_scipy():
    """On independent units scipy has the same interval; only the draws differ."""
    values = np.random.default_rng(0).exponential(size=80)
    found = intervals.intervals(lambda weight: {"mean": weight @ values / weight.sum(1)}, np.arange(80), draws=20_000)["mean"]
    expected = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=1).confidence_interval
    assert found == pytest.approx(tuple(expected), abs=0.01)
    assert found != pytest.approx(tuple(np.mean(values) + np.array([-1.96, 1.96]) * values.std() / 80**0.5), abs=0.01)


def test_draws_are_of_patients():
    patient = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate(list(intervals.draw_patients(patient, draws=600)))
    assert weights.shape == (600, 6)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all() and weights[:, 2].mean() == pytest.approx(1, abs=0.1)
    again = np.concatenate(list(intervals.draw_patients(patient, draws=600)))
    np.testing.assert_array_equal(weights, again)


def test_leaving_out_one_patient_or_a_group():
    assert np.concatenate(list(intervals.leave_out(np.array([0, 1, 1])))).tolist() == [[0, 1, 1], [1, 0, 0]]
    many = np.concatenate(list(intervals.leave_out(np.arange(3 * intervals.GROUPS))))
    assert many.shape == (intervals.GROUPS, 3 * intervals.GROUPS) and (many.sum(0) == intervals.GROUPS - 1).all()


def test_draws_that_do_not_differ_have_no_interval():
    found = intervals.intervals(
        lambda weight: {"one": np.ones(len(weight)), "none": np.full(len(weight), np.nan)}, np.arange(9)
    )
    assert found == {"one": None, "none": None}
    assert intervals.exact_interval(1.0, 20) == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert intervals.exact_interval(0.0, 20) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))


def test_a_sum_of_absolute_values_reaches_down_to_zero():
    """Noise alone makes a calibration error positive; its interval must say that the truth may be 0."""
    rng = np.random.default_rng(0)
    noise, draws = rng.normal(0, 0.02, 10), rng.normal(0, 0.02, (2000, 10))
    low, high = intervals.interval_of_absolute_sum(noise, noise + draws)
    assert low == 0 and high > 0
    low, high = intervals.interval_of_absolute_sum(np.full(10, 1e-3), 1e-3 + draws)  # smaller than noise alone would make it
    assert low == 0 and high >= 0.01 - 1e-12, "what was found is held"
    low, high = intervals.interval_of_absolute_sum(np.full(10, 0.2), 0.2 + draws)
    assert 1.8 < low < 2 < high < 2.2

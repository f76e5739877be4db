"""Intervals: how often they hold the truth, whom they draw, and their arithmetic against scipy's."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from score_tables import table

from bones.scores import intervals
from bones.scores.metrics import all_scores
from bones.scores.names import WITH_INTERVAL
from bones.scores.report import score
from tools.coverage import recipe_coverage, run_coverage


@pytest.mark.parametrize("simulations", [pytest.param(100, id="quick"), pytest.param(1000, marks=pytest.mark.slow, id="full")])
def test_intervals_hold_the_truth_95_times_in_100(simulations):
    """On sets of MURA's held-out humerus' size: 132 patients. The truth is that of 200,000 patients."""
    coverage = run_coverage(simulations, 2000 if simulations > 100 else 600)["coverage"]
    low, high = (0.92, 0.97) if simulations > 100 else (0.86, 1.0)  # 0.93 - 3 standard errors of 100 simulations is 0.85
    assert coverage.between(low, high).all() and len(coverage) == len(WITH_INTERVAL), coverage
    assert 0.92 <= coverage.mean() <= 0.97, coverage


@pytest.mark.parametrize("simulations", [pytest.param(40, id="quick"), pytest.param(400, marks=pytest.mark.slow, id="full")])
def test_differences_of_recipes_allow_for_seeds(simulations):
    """Two equal recipes of three seeds: their interval contains 0, which one over patients alone often does not."""
    (row,) = recipe_coverage(simulations, 200, seeds=(3,), spreads=(0.04,)).to_dict("records")
    assert row["patients alone"] < 0.75
    assert (0.91 if simulations > 40 else 0.85) <= row["patients and seeds"]
    if simulations > 40:
        (row,) = recipe_coverage(simulations, 200, seeds=(5,), spreads=(0.01,)).to_dict("records")
        assert 0.93 <= row["patients and seeds"] <= 0.985


def test_over_seeds_follows_its_formula():
    """Without patients' noise it is the t interval of Welch's test, whose p value scipy has."""
    rng = np.random.default_rng(0)
    one, other = rng.normal(0.7, 0.02, 4), rng.normal(0.75, 0.03, 6)
    coefficients = np.repeat([-1 / 4, 1 / 6], [4, 6])
    values = np.concatenate([one, other])
    found = intervals.over_seeds(values, np.repeat(values[:, None], 50, 1), coefficients, 100)
    welch = stats.ttest_ind(other, one, equal_var=False)
    interval = welch.confidence_interval(0.95)
    assert found == pytest.approx((interval.low, interval.high, welch.pvalue))


def test_over_seeds_counts_the_patients_once():
    """Noise that all runs share adds its variance; noise of each run's own is in the variance of seeds, and not added again."""
    rng = np.random.default_rng(1)
    values, coefficients = np.array([0.70, 0.72, 0.74]), np.full(3, 1 / 3)
    width = {}
    for name, shared, own in (("none", 0.0, 0.0), ("shared", 0.03, 0.0), ("own", 0.0, 0.03)):
        drawn = values[:, None] + shared * rng.normal(size=4000) + own * rng.normal(size=(3, 4000))
        low, high, _ = intervals.over_seeds(values, drawn, coefficients, 200)
        width[name] = high - low
    assert width["own"] == pytest.approx(width["none"], rel=0.05)
    expected = 0.03**2 + 0.02**2 / 3
    degrees = expected**2 / (0.03**4 / 199 + (0.02**2 / 3) ** 2 / 2)
    assert width["shared"] == pytest.approx(2 * stats.t.ppf(0.975, degrees) * expected**0.5, rel=0.05)


def test_one_seed_has_no_interval_over_seeds():
    drawn = np.random.default_rng(0).normal(size=(3, 50))
    assert intervals.over_seeds([0.7, 0.8, 0.9], drawn, [-1, 0.5, 0.5], 100) is None
    assert intervals.over_seeds([0.7], drawn[:1], [1.0], 100) is None


def test_holm():
    """The example of three tests: 0.01 * 3, 0.02 * 2, and not less than the one before."""
    assert intervals.holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert intervals.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and intervals.holm([]) == []
    assert intervals.holm([0.03, 0.02]) == pytest.approx([0.04, 0.04]), "in the order given"


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
    apart = table([0, 1] * 6, [0.1, 0.9] * 6, np.arange(12) // 4)
    found = score(apart, 0.5)
    assert found["accuracy"]["low"] == pytest.approx(0.025 ** (1 / 3)), "three patients, not twelve studies"


def test_bca_of_auroc_over_patients_is_scipys():
    """132 patients with 400 views; from the same draws, scipy's general implementation gives the same interval."""
    rng = np.random.default_rng(0)
    patient = np.sort(np.concatenate([np.arange(132), rng.integers(0, 132, 268)]))
    label = rng.integers(0, 2, 132)[patient]
    probability = 1 / (1 + np.exp(-label - rng.normal(0, 1, 132)[patient] - rng.normal(0, 1, 400)))
    found = score(pd.DataFrame({"patient": patient, "label": label, "probability": probability}), 0.5, ("auroc", "log_loss"))

    def statistic(name):
        def of(drawn, axis=-1):
            weight = (drawn[..., None] == np.arange(132)).sum(-2)[..., patient].astype(float)
            return all_scores(label, probability, 0.5, np.atleast_2d(weight), (name,))[name]

        return of

    for name in ("auroc", "log_loss"):
        expected = stats.bootstrap(
            (np.arange(132),),
            statistic(name),
            n_resamples=intervals.DRAWS,
            batch=intervals.CHUNK,
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(0),
        ).confidence_interval
        assert (found[name]["low"], found[name]["high"]) == pytest.approx(
            (expected.low.item(), expected.high.item()), abs=5e-4
        ), "to three digits"

"""Decisions at a threshold, and the mean of several runs."""

import pytest
from score_tables import predictions

from bones.scores.probabilities import decisions, ensemble


def test_the_threshold_itself_is_positive():
    assert decisions([0.49, 0.5, 0.51], 0.5).tolist() == [0, 1, 1]


def test_ensemble_is_the_mean_by_view():
    one = predictions()
    other = one.assign(probability=1 - one["probability"]).sample(frac=1, random_state=1)
    together = ensemble([one, other])
    assert list(together.columns) == list(one.columns) and together["probability"].to_numpy() == pytest.approx(0.5)

"""Fit a run's threshold and temperature on its tuning studies."""

import numpy as np
from scipy import optimize  # finds the best temperature

from bones.data.table import STUDY
from bones.scores.metrics import auroc, log_loss
from bones.scores.probabilities import calibrate, study_probabilities

TEMPERATURES = (0.1, 10.0)  # search range


def fit(predictions):
    """Fit the temperature with the lowest log loss of the studies, then the threshold; see `fit_threshold`.

    Args:
        predictions: one row per view of the tuning studies, as the network outputs them (temperature 1).
    Returns: {"threshold": float, "temperature": float}. The temperature stays 1 where the studies are of one class or
        perfectly separated: the log loss then has no minimum.
    """
    label, temperature = study_probabilities(predictions)["label"].to_numpy(), 1.0
    study = predictions.groupby(STUDY).ngroup().to_numpy()  # grouped once: the search asks for thirty temperatures
    views = np.bincount(study)

    def studies_at(temperature):
        return np.bincount(study, calibrate(predictions["probability"], temperature)) / views

    def loss(log_temperature):
        return log_loss(label, studies_at(np.exp(log_temperature)))

    if auroc(label, studies_at(1.0)) not in (None, 1.0):
        temperature = float(np.exp(optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))
    return {"threshold": fit_threshold(label, studies_at(temperature)), "temperature": temperature}


def fit_threshold(label, probability):
    """The threshold at which as many studies are predicted Positive as are, midway between two probabilities.

    Among equally good thresholds, the one nearest to 0.5; 0.5 where all studies are of one class. The common alternative,
    the highest kappa, selects among about a hundred thresholds on a hundred studies and is unstable: docs/recipe.md compares
    both.

    Args:
        label, probability: (n,), of the tuning studies.
    Source: "PredPrev=Obs" of Freeman and Moisen 2008, doi:10.1016/j.ecolmodel.2008.05.015.
    """
    label, candidates = np.asarray(label), candidate_thresholds(probability)
    if label.min() == label.max():
        return 0.5
    predicted = len(label) - np.searchsorted(np.sort(probability), candidates)
    off = np.abs(predicted - label.sum())
    return nearest_to_half(candidates[off == off.min()])


def candidate_thresholds(probability):
    """Thresholds that separate the probabilities: the midpoints of neighbouring values, and 0.5."""
    ordered = np.unique(probability)
    return np.append((ordered[1:] + ordered[:-1]) / 2, 0.5)


def nearest_to_half(thresholds):
    """The threshold nearest to 0.5."""
    return float(thresholds[np.argmin(np.abs(thresholds - 0.5))])

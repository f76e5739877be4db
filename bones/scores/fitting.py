"""A run's threshold and temperature, from its tuning studies."""

import numpy as np
from scipy import optimize  # the temperature's minimum

from bones.scores.metrics import auroc, log_loss
from bones.scores.probabilities import calibrate, study_probabilities

TEMPERATURES = (0.1, 10.0)  # the range that is searched


def fit(predictions):
    """Temperature with the lowest log loss of the studies, and then the threshold that calls as many Positive as are.

    Args:
        predictions: one row a view of tuning studies, as the network gives them (temperature 1).
    Returns: {"threshold": float, "temperature": float}. The temperature stays 1 where the studies are of one class or are
        told apart without a mistake: then the log loss has no minimum.
    """

    def studies_at(temperature):
        return study_probabilities(predictions.assign(probability=calibrate(predictions["probability"], temperature)))

    def loss(log_temperature):
        studies = studies_at(np.exp(log_temperature))
        return log_loss(studies["label"], studies["probability"])

    studies, temperature = studies_at(1.0), 1.0
    if auroc(studies["label"], studies["probability"]) not in (None, 1.0):
        temperature = float(np.exp(optimize.minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded").x))
        studies = studies_at(temperature)
    return {"threshold": fit_threshold(studies["label"], studies["probability"]), "temperature": temperature}


def fit_threshold(label, probability):
    """The threshold at which as many studies are called Positive as are, half-way between two probabilities.

    Of equally good ones it is the nearest to 0.5, and 0.5 where all studies are of one class. The other usual aim, the highest
    kappa, chooses among a hundred thresholds by a hundred studies, and lands anywhere: docs/recipe.md has both, measured.

    Args:
        label, probability: (n,) of tuning studies.
    Source: "PredPrev=Obs" of Freeman and Moisen 2008, doi:10.1016/j.ecolmodel.2008.05.015.
    """
    label, candidates = np.asarray(label), candidate_thresholds(probability)
    if label.min() == label.max():
        return 0.5
    called = len(label) - np.searchsorted(np.sort(probability), candidates)
    off = np.abs(called - label.sum())
    return nearest_to_half(candidates[off == off.min()])


def candidate_thresholds(probability):
    """Thresholds that tell probabilities apart: half-way between each two neighbours, and 0.5."""
    ordered = np.unique(probability)
    return np.append((ordered[1:] + ordered[:-1]) / 2, 0.5)


def nearest_to_half(thresholds):
    """Of equally good thresholds the nearest to 0.5."""
    return float(thresholds[np.argmin(np.abs(thresholds - 0.5))])

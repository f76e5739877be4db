"""Scores: of one sample by the formula, and of many draws of patients at once by the same formula with weights."""

import numpy as np
from scipy import special  # entropy
from sklearn import metrics  # AUROC, kappa and the rest

from bones.scores.names import BINS, DECISIONS, PROPER, RANKING, WITH_INTERVAL
from bones.scores.probabilities import clipped, decisions

# ---------------------------------------------------------------------------------------------------------------------
# One score


def auroc(label, probability):
    """Area under the ROC curve: the probability that a positive is ranked above a negative, ties counting half.

    Returns: float in [0, 1], or None when a class is missing.
    Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    return float(metrics.roc_auc_score(label, probability)) if len(set(label)) == 2 else None


def log_losses(label, probability):
    """-ln(probability given to the true class) of each, with probabilities clipped to 1e-7 from 0 and 1 as in Keras: (n,)."""
    label, probability = np.asarray(label), clipped(probability)
    return -np.log(np.where(label == 1, probability, 1 - probability))


def log_loss(label, probability, weight=None):
    """Weighted mean of `log_losses`; the sum is divided by the count, not by the sum of weights, as `keras.losses` does."""
    losses = log_losses(label, probability)
    return float(np.mean(losses if weight is None else losses * weight))


def cohen_kappa(label, decision):
    """Agreement of decisions with labels beyond chance.

    kappa = (p_o - p_e) / (1 - p_e): p_o is the observed agreement, p_e the agreement that two independent readers with these
    positive rates would reach.

    Returns: float in [-1, 1]; 1 is perfect, 0 is chance; None where p_e is 1 (both readers give the same single answer).
    Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    if len(set(label) | set(decision)) < 2:
        return None
    return float(metrics.cohen_kappa_score(label, decision))


def calibration_error(label, probability):
    """Expected calibration error: |share of positives - mean probability| of BINS bins of equal width, weighted by their size.

    Source: Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602; Guo et al. 2017, arXiv 1706.04599.
    """
    excess = np.bincount(bin_of(probability), np.asarray(label) - np.asarray(probability), minlength=BINS)
    return float(np.abs(excess).sum() / len(label))


def bin_of(probability):
    """Index of the bin of each probability."""
    return np.minimum((np.asarray(probability) * BINS).astype(int), BINS - 1)


# ---------------------------------------------------------------------------------------------------------------------
# All scores of many draws of patients: the same formulas with weights, tested against the functions above


def decision_scores(label, decision, weight):
    """Scores of the 2x2 table. Args: (n,) 0 or 1, (n,) 0 or 1, (draws, n). Returns: {name: (draws,)}."""
    cells = np.stack([label * decision, label * (1 - decision), (1 - label) * decision, (1 - label) * (1 - decision)], axis=1)
    tp, fn, fp, tn = (weight @ cells.astype(float)).T
    total = tp + fn + fp + tn
    observed, by_chance = (tp + tn) / total, ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / total**2
    return {
        "kappa": (observed - by_chance) / (1 - by_chance),
        "accuracy": observed,
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "f1": 2 * tp / (2 * tp + fp + fn),
    }


def ranking_scores(label, probability, weight):
    """AUROC and average precision: sums over the distinct probabilities in ascending order. Returns: {name: (draws,)}."""
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-1.0))
    positives = np.add.reduceat(weight[:, order] * label[order], starts, axis=1)  # (draws, distinct probabilities)
    negatives = np.add.reduceat(weight[:, order] * (1 - label[order]), starts, axis=1)
    num_positive, num_negative = positives.sum(1), negatives.sum(1)
    lower_negatives = np.cumsum(negatives, axis=1) - negatives
    # With this probability as the threshold: how many positives, and how many in total, are predicted Positive.
    true_positives = num_positive[:, None] - np.cumsum(positives, axis=1) + positives
    predicted = true_positives + num_negative[:, None] - lower_negatives
    precision = np.divide(true_positives, predicted, out=np.zeros_like(predicted), where=predicted > 0)
    return {
        "auroc": (positives * (lower_negatives + negatives / 2)).sum(1) / (num_positive * num_negative),
        "average_precision": (positives * precision).sum(1) / num_positive,
    }


def proper_scores(label, probability, weight):
    """Log loss and Brier score, and the skill of each: 1 - score / score of the prevalence as probability of every study.

    A skill of 1 is perfect, 0 is no better than the prevalence of the sample, and below 0 is worse.

    Returns: {name: (draws,)}.
    Source: Brier 1950; Gneiting and Raftery 2007, doi:10.1198/016214506000001437; scikit-learn's d2_log_loss_score and
        d2_brier_score.
    """
    total = weight.sum(1)
    losses, brier = (weight @ each / total for each in (log_losses(label, probability), (probability - label) ** 2))
    prevalence = weight @ label / total
    return {
        "log_loss": losses,
        "d2_log_loss": 1 - losses / (special.entr(prevalence) + special.entr(1 - prevalence)),
        "brier": brier,
        "d2_brier": 1 - brier / (prevalence * (1 - prevalence)),
    }


def all_scores(label, probability, threshold, weight, names=WITH_INTERVAL):
    """The scores of `names`, and others that are computed with them, in each draw. Returns: {name: (draws,)}."""
    found = {}
    if not {*RANKING}.isdisjoint(names):
        found |= ranking_scores(label, probability, weight)
    if not {*DECISIONS}.isdisjoint(names):
        found |= decision_scores(label, decisions(probability, threshold), weight)
    if not {*PROPER}.isdisjoint(names):
        found |= proper_scores(label, probability, weight)
    return found


# ---------------------------------------------------------------------------------------------------------------------
# All scores of a table


def point_scores(label, probability, threshold):
    """Every score of NUMBERS and the 2x2 table. Returns: ({name: float or None}, {cell: int})."""
    decision = decisions(probability, threshold)
    tn, fp, fn, tp = (int(count) for count in metrics.confusion_matrix(label, decision, labels=[0, 1]).ravel())
    both = len(set(label)) == 2
    values = {
        "auroc": auroc(label, probability),
        "average_precision": float(metrics.average_precision_score(label, probability)) if tp + fn else None,
        "kappa": cohen_kappa(label, decision),
        "accuracy": float(metrics.accuracy_score(label, decision)),
        "sensitivity": tp / (tp + fn) if tp + fn else None,
        "specificity": tn / (tn + fp) if tn + fp else None,
        "f1": float(metrics.f1_score(label, decision)) if tp + fp + fn else None,
        "log_loss": log_loss(label, probability),
        "d2_log_loss": float(metrics.d2_log_loss_score(label, clipped(probability))) if both else None,
        "brier": float(metrics.brier_score_loss(label, probability)),
        "d2_brier": float(metrics.d2_brier_score(label, probability)) if both else None,
        "ece": calibration_error(label, probability),
    }
    return values, {"true_negative": tn, "false_positive": fp, "false_negative": fn, "true_positive": tp}

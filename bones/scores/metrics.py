"""From a table of probabilities to scores with 95 % intervals, and to a run's threshold and temperature.

report(predictions, threshold)     all scores: what scores.json holds
differences(before, after, ...)    two runs, or groups of runs, on the same patients
fit(predictions)                   threshold and temperature from tuning studies: what run.json holds
"""

import numpy as np
import pandas as pd
from scipy import optimize, special  # the temperature's minimum; logit and its inverse
from sklearn import metrics  # AUROC, kappa and the rest

from bones.data.table import STUDY
from bones.scores import intervals as bootstrap

NUMBERS = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "kappa": "Cohen's kappa",
    "accuracy": "accuracy",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "ECE",
}
DECISIONS = ("kappa", "accuracy", "sensitivity", "specificity", "f1")  # those of NUMBERS that hang on the threshold
BINS = 10  # of probability, equally wide, for the expected calibration error and the reliability diagram
TEMPERATURES = (0.1, 10.0)  # the range that is searched


# ---------------------------------------------------------------------------------------------------------------------
# Probabilities and decisions


def study_probabilities(predictions):
    """One row a study: its probability is the mean over its views.

    Args:
        predictions: one row a view, with study_type, patient, study, label and probability.
    Returns: pandas.DataFrame with study_type, patient, study, label, probability, views (how many), sorted by the first three.
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3: "the arithmetic mean of the probabilities of its views".
    """
    studies = predictions.groupby(STUDY)
    return studies.agg(label=("label", "first"), probability=("probability", "mean"), views=("label", "size")).reset_index()


def decisions(probability, threshold):
    """1 (Positive) where a probability is at or above the threshold, else 0 (Negative)."""
    return (np.asarray(probability) >= threshold).astype(int)


def calibrate(probability, temperature):
    """Probabilities with their logits divided by a temperature: above 1 they become less sure, below 1 surer.

    Returns: (n,) float64; the order and what lies above 0.5 stay as they are.
    Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    if temperature == 1.0:
        return np.asarray(probability, float)
    return special.expit(special.logit(np.clip(np.asarray(probability, float), 1e-7, 1 - 1e-7)) / temperature)


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


# ---------------------------------------------------------------------------------------------------------------------
# One score


def auroc(label, probability):
    """Area under the ROC curve: the chance that a positive gets a higher probability than a negative, ties counting half.

    Returns: float in [0, 1], or None when a class is missing.
    Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    return float(metrics.roc_auc_score(label, probability)) if len(set(label)) == 2 else None


def log_loss(label, probability, weight=None):
    """Weighted mean of -ln(probability given to the true class), with probabilities kept 1e-7 away from 0 and 1 as Keras does.

    The sum is divided by the count, not by the sum of weights, as `keras.losses` does.
    """
    label, probability = np.asarray(label), np.clip(probability, 1e-7, 1 - 1e-7)
    losses = -np.log(np.where(label == 1, probability, 1 - probability))
    return float(np.mean(losses if weight is None else losses * weight))


def cohen_kappa(label, decision):
    """Agreement of decisions with labels beyond chance.

    kappa = (p_o - p_e) / (1 - p_e): p_o is the observed agreement, p_e the agreement that two independent readers with these
    positive rates would reach.

    Returns: float in [-1, 1]; 1 is perfect, 0 is chance; None where p_e is 1 (both readers give one and the same answer).
    Source: Cohen 1960, doi:10.1177/001316446002000104.
    """
    if len(set(label) | set(decision)) < 2:
        return None
    return float(metrics.cohen_kappa_score(label, decision))


def calibration_gaps(label, probability, weight=None):
    """Share of positives minus mean probability in each of BINS equally wide bins, times the bin's share of all.

    Args:
        weight: (draws, n) how often each counts, or None for once.
    Returns: (draws, BINS), or (BINS,) without weights. Their absolute values add up to the expected calibration error.
    Source: Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602; Guo et al. 2017, arXiv 1706.04599.
    """
    excess = np.zeros((len(label), BINS))
    excess[np.arange(len(label)), bin_of(probability)] = np.asarray(label) - np.asarray(probability)
    return excess.mean(0) if weight is None else weight @ excess / weight.sum(1, keepdims=True)


def bin_of(probability):
    """Number of the bin, from 0, of each probability."""
    return np.minimum((np.asarray(probability) * BINS).astype(int), BINS - 1)


# ---------------------------------------------------------------------------------------------------------------------
# All scores of many draws of patients: the same formulas with weights, tested against those above


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
    """AUROC and average precision: sums over the distinct probabilities, from the lowest. Returns: {name: (draws,)}."""
    order = np.argsort(probability, kind="stable")
    starts = np.flatnonzero(np.diff(probability[order], prepend=-1.0))
    positives = np.add.reduceat(weight[:, order] * label[order], starts, axis=1)  # (draws, distinct probabilities)
    negatives = np.add.reduceat(weight[:, order] * (1 - label[order]), starts, axis=1)
    num_positive, num_negative = positives.sum(1), negatives.sum(1)
    lower_negatives = np.cumsum(negatives, axis=1) - negatives
    # With this probability as the threshold: how many positives, and how many in all, are called Positive.
    true_positives = num_positive[:, None] - np.cumsum(positives, axis=1) + positives
    called = true_positives + num_negative[:, None] - lower_negatives
    precision = np.divide(true_positives, called, out=np.zeros_like(called), where=called > 0)
    return {
        "auroc": (positives * (lower_negatives + negatives / 2)).sum(1) / (num_positive * num_negative),
        "average_precision": (positives * precision).sum(1) / num_positive,
    }


def curves(table, grid, draws=bootstrap.DRAWS):
    """ROC and precision-recall curves with 95 % bands over patients, for drawing.

    Args:
        table: pandas.DataFrame with patient, label (0 or 1, both) and probability.
        grid: (g,) where the bands are wanted: false positive rates, and recalls.
    Returns: {"roc": (low, high), "precision_recall": (low, high)}, each (g,): point by point the 2.5 % and 97.5 % quantiles of
        the sensitivity, and of the precision at the highest threshold that reaches the recall.
    """
    label, probability = table["label"].to_numpy(int), table["probability"].to_numpy(float)
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)  # the last of each distinct probability
    sensitivities, precisions = [], []
    patient = np.unique(table["patient"], return_inverse=True)[1]
    for weight in bootstrap.draw_patients(patient, draws):
        weight = weight[(weight @ label > 0) & (weight @ (1 - label) > 0)][:, order]
        positives, negatives = np.cumsum(weight * label[order], 1)[:, ends], np.cumsum(weight * (1 - label[order]), 1)[:, ends]
        recall = positives / positives[:, -1:]
        precision = positives / np.maximum(positives + negatives, 1)
        for tp_rate, fp_rate, precise in zip(recall, negatives / negatives[:, -1:], precision, strict=True):
            sensitivities.append(np.interp(grid, np.append(0, fp_rate), np.append(0, tp_rate)))
            precisions.append(precise[np.searchsorted(tp_rate, grid - 1e-12)])
    tails = [bootstrap.TAIL, 1 - bootstrap.TAIL]
    return {"roc": np.quantile(sensitivities, tails, axis=0), "precision_recall": np.quantile(precisions, tails, axis=0)}


def all_scores(label, probability, threshold, weight):
    """Every score of NUMBERS in each draw. Returns: {name: (draws,)}, but ece as (draws, BINS) gaps."""
    return {
        **ranking_scores(label, probability, weight),
        **decision_scores(label, decisions(probability, threshold), weight),
        "brier": weight @ (probability - label) ** 2 / weight.sum(1),
        "ece": calibration_gaps(label, probability, weight),
    }


# ---------------------------------------------------------------------------------------------------------------------
# All scores of a table


def point_scores(label, probability, threshold):
    """Every score of NUMBERS and the 2x2 table. Returns: ({name: float or None}, {cell: int})."""
    decision = decisions(probability, threshold)
    tn, fp, fn, tp = (int(count) for count in metrics.confusion_matrix(label, decision, labels=[0, 1]).ravel())
    values = {
        "auroc": auroc(label, probability),
        "average_precision": float(metrics.average_precision_score(label, probability)) if tp + fn else None,
        "kappa": cohen_kappa(label, decision),
        "accuracy": float(metrics.accuracy_score(label, decision)),
        "sensitivity": tp / (tp + fn) if tp + fn else None,
        "specificity": tn / (tn + fp) if tn + fp else None,
        "f1": float(metrics.f1_score(label, decision)) if tp + fp + fn else None,
        "brier": float(metrics.brier_score_loss(label, probability)),
        "ece": float(np.abs(calibration_gaps(label, probability)).sum()),
    }
    return values, {"true_negative": tn, "false_positive": fp, "false_negative": fn, "true_positive": tp}


def score(table, threshold, names=tuple(NUMBERS), draws=bootstrap.DRAWS):
    """Scores of a table of views or of studies.

    Args:
        table: pandas.DataFrame with patient, label (0 or 1) and probability.
        threshold: at or above it the decision is Positive.
        names: which of NUMBERS.
    Returns: dict with count, positive (how many are), confusion (counts of true_negative, false_positive, false_negative,
        true_positive) and, for each name, {"value", "low", "high"}: the score and its 95 % interval over patients. A value is
        None where it is undefined (no positive for sensitivity, say), low and high where draws do not differ (no mistake).
    """
    label, probability = table["label"].to_numpy(int), table["probability"].to_numpy(float)
    values, counts = point_scores(label, probability, threshold)

    def statistics(weight):
        if set(names) <= set(DECISIONS):
            return decision_scores(label, decisions(probability, threshold), weight)
        return all_scores(label, probability, threshold, weight)

    found = bootstrap.intervals(statistics, table["patient"], draws)
    for name, part in (("accuracy", label >= 0), ("sensitivity", label == 1), ("specificity", label == 0)):
        if name in names and found[name] is None and values[name] in (0.0, 1.0):  # all right or all wrong: draws do not differ
            found[name] = bootstrap.exact_interval(values[name], table["patient"][part].nunique())
    return {
        "count": len(label),
        "positive": int(label.sum()),
        **{name: with_interval(values[name], found[name]) for name in names},
        "confusion": counts,
    }


def with_interval(value, interval):
    """{"value", "low", "high"} as scores.json has it."""
    low, high = interval if value is not None and interval else (None, None)
    return {"value": value, "low": low, "high": high}


def report(predictions, threshold):
    """Scores per view and per study, over all and by study type.

    Args:
        predictions: one row a view, with study_type, patient, study, label and probability.
        threshold: the run's, fitted on tuning studies.
    Returns: {"threshold", "views": score, "studies": score, "by_study_type": {type: {"views", "studies"}},
        "at_half": {"views", "studies"}}; the last holds what hangs on the threshold, at 0.5.
    """

    def both(table, *options):
        return {"views": score(table, *options), "studies": score(study_probabilities(table), *options)}

    by_type = list(predictions.groupby("study_type"))
    whole = both(predictions, threshold)
    return {
        "threshold": threshold,
        **whole,
        "at_half": both(predictions, 0.5, DECISIONS),
        "by_study_type": {name: both(table, threshold) if len(by_type) > 1 else whole for name, table in by_type},
    }


def differences(before, after, names=tuple(NUMBERS), draws=bootstrap.DRAWS):
    """Scores of studies after minus before, each averaged over its runs, by a paired bootstrap on the same patients.

    Args:
        before, after: lists of (predictions, threshold), one a run, of the same studies.
    Returns: {name: {"value", "low", "high"}}.
    Raises: ValueError when the studies of two runs differ.
    """
    runs = [(study_probabilities(predictions), threshold) for predictions, threshold in [*before, *after]]
    studies = runs[0][0]
    if not all(same_studies(studies, other) for other, _ in runs):
        raise ValueError("the runs were not scored on the same studies with the same labels")
    label = studies["label"].to_numpy(int)

    def statistics(weight):
        sums = [all_scores(label, table["probability"].to_numpy(), threshold, weight) for table, threshold in runs]
        for one in sums:
            one["ece"] = np.abs(one["ece"]).sum(1)
        return {
            name: np.mean([one[name] for one in sums[len(before) :]], axis=0)
            - np.mean([one[name] for one in sums[: len(before)]], axis=0)
            for name in names
        }

    value = bootstrap.evaluate(statistics, [np.ones((1, len(label)))])
    found = bootstrap.intervals(statistics, studies["patient"], draws)
    return {name: with_interval(float(value[name][0]), found[name]) for name in names}


def same_studies(one, other):
    """Whether two tables of `study_probabilities` hold the same studies with the same labels."""
    return np.array_equal(one[[*STUDY, "label"]], other[[*STUDY, "label"]])


def ensemble(tables):
    """Mean over runs of the probability of each view, as MURA's authors average five networks.

    Args:
        tables: predictions of runs on the same views.
    Returns: pandas.DataFrame like each of them.
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3.
    """
    first = tables[0].set_index([*STUDY, "view"])
    probability = pd.concat([table.set_index([*STUDY, "view"])["probability"] for table in tables], axis=1).mean(axis=1)
    return first.assign(probability=probability).reset_index()[tables[0].columns]

"""All scores of a table of probabilities with 95 % intervals, and differences between runs on the same patients."""

import numpy as np

from bones.scores import intervals
from bones.scores.metrics import DECISIONS, NUMBERS, all_scores, decision_scores, point_scores
from bones.scores.probabilities import decisions, same_studies, study_probabilities


def curves(table, grid, draws=intervals.DRAWS):
    """ROC and precision-recall curves with 95 % bands over patients, for plotting.

    Args:
        table: pandas.DataFrame with patient, label (0 or 1, both) and probability.
        grid: (g,) false positive rates, and recalls, at which the bands are computed.
    Returns: {"roc": (low, high), "precision_recall": (low, high)}, each (g,): the pointwise 2.5 % and 97.5 % quantiles of
        the sensitivity, and of the precision at the highest threshold that reaches the recall.
    """
    label, probability = table["label"].to_numpy(int), table["probability"].to_numpy(float)
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)  # last index of each distinct probability
    sensitivities, precisions = [], []
    patient = np.unique(table["patient"], return_inverse=True)[1]
    for weight in intervals.draw_patients(patient, draws):
        weight = weight[(weight @ label > 0) & (weight @ (1 - label) > 0)][:, order]
        positives, negatives = np.cumsum(weight * label[order], 1)[:, ends], np.cumsum(weight * (1 - label[order]), 1)[:, ends]
        recall = positives / positives[:, -1:]
        precision = positives / np.maximum(positives + negatives, 1)
        for tp_rate, fp_rate, precise in zip(recall, negatives / negatives[:, -1:], precision, strict=True):
            sensitivities.append(np.interp(grid, np.append(0, fp_rate), np.append(0, tp_rate)))
            precisions.append(precise[np.searchsorted(tp_rate, grid - 1e-12)])
    tails = [intervals.TAIL, 1 - intervals.TAIL]
    return {"roc": np.quantile(sensitivities, tails, axis=0), "precision_recall": np.quantile(precisions, tails, axis=0)}


def score(table, threshold, names=tuple(NUMBERS), draws=intervals.DRAWS):
    """Scores of a table of views or studies.

    Args:
        table: pandas.DataFrame with patient, label (0 or 1) and probability.
        threshold: the decision is Positive at or above it.
        names: which of NUMBERS.
    Returns: dict with count, positive (their number), confusion (counts of true_negative, false_positive, false_negative,
        true_positive) and, for each name, {"value", "low", "high"}: the score and its 95 % interval over patients. A value is
        None where it is undefined (for example sensitivity without positives), low and high where the draws do not differ.
    """
    label, probability = table["label"].to_numpy(int), table["probability"].to_numpy(float)
    values, counts = point_scores(label, probability, threshold)

    def statistics(weight):
        if set(names) <= set(DECISIONS):
            return decision_scores(label, decisions(probability, threshold), weight)
        return all_scores(label, probability, threshold, weight)

    found = intervals.intervals(statistics, table["patient"], draws)
    for name, part in (("accuracy", label >= 0), ("sensitivity", label == 1), ("specificity", label == 0)):
        if name in names and found[name] is None and values[name] in (0.0, 1.0):  # all correct or all wrong: draws are equal
            found[name] = intervals.exact_interval(values[name], table["patient"][part].nunique())
    return {
        "count": len(label),
        "positive": int(label.sum()),
        **{name: with_interval(values[name], found[name]) for name in names},
        "confusion": counts,
    }


def with_interval(value, interval):
    """{"value", "low", "high"} as in scores.json."""
    low, high = interval if value is not None and interval else (None, None)
    return {"value": value, "low": low, "high": high}


def report(predictions, threshold):
    """Scores per view and per study, overall and by study type.

    Args:
        predictions: one row per view, with study_type, patient, study, label and probability.
        threshold: the run's, fitted on the tuning studies.
    Returns: {"threshold", "views": score, "studies": score, "by_study_type": {type: {"views", "studies"}},
        "at_half": {"views", "studies"}}; the last: the threshold-dependent scores at 0.5.
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


def differences(before, after, names=tuple(NUMBERS), draws=intervals.DRAWS):
    """Differences of study scores, after minus before, each averaged over runs, with a paired bootstrap of the patients.

    Args:
        before, after: lists of (predictions, threshold), one per run, of the same studies.
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

    value = intervals.evaluate(statistics, [np.ones((1, len(label)))])
    found = intervals.intervals(statistics, studies["patient"], draws)
    return {name: with_interval(float(value[name][0]), found[name]) for name in names}

"""All scores of a table of probabilities with 95 % intervals, and differences between runs on the same patients."""

import numpy as np

from bones.data.table import root_of
from bones.scores import intervals
from bones.scores.metrics import all_scores, point_scores
from bones.scores.names import DECISIONS, HIGHEST, LOWEST, NUMBERS, WITH_INTERVAL
from bones.scores.probabilities import same_studies, study_probabilities

MOST_GROUPS = 20  # values of a column that groups views; with more it is a name or a measurement


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
        None where it is undefined (for example sensitivity without positives), low and high where the draws do not differ,
        and of the ECE.
    """
    label, probability = table["label"].to_numpy(int), table["probability"].to_numpy(float)
    values, counts = point_scores(label, probability, threshold)

    def statistics(weight):
        return all_scores(label, probability, threshold, weight, names)

    found = intervals.intervals(statistics, table["patient"], draws)
    for name, part in (("accuracy", label >= 0), ("sensitivity", label == 1), ("specificity", label == 0)):
        if name in names and found[name] is None and values[name] in (0.0, 1.0):  # all correct or all wrong: draws are equal
            found[name] = intervals.exact_interval(values[name], table["patient"][part].nunique())
    return {
        "count": len(label),
        "positive": int(label.sum()),
        **{name: with_interval(values[name], found.get(name)) for name in names},
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
        "by_root": {name: {"views", "studies"}}, "at_half": {"views", "studies"}}; by_root is empty where there is one data
        root; at_half: the threshold-dependent scores at 0.5.
    """

    def both(table, *options):
        return {"views": score(table, *options), "studies": score(study_probabilities(table), *options)}

    by_type = list(predictions.groupby("study_type"))
    by_root = list(predictions.groupby(predictions["patient"].map(root_of)))
    whole = both(predictions, threshold)
    return {
        "threshold": threshold,
        **whole,
        "at_half": both(predictions, 0.5, DECISIONS),
        "by_study_type": {name: both(table, threshold) if len(by_type) > 1 else whole for name, table in by_type},
        "by_root": {name: both(table, threshold) for name, table in by_root if len(by_root) > 1},
    }


def group_scores(predictions, groups, threshold, names=("auroc", "accuracy", "sensitivity", "specificity")):
    """Scores of the studies of each group of views, and of the studies without these views.

    Args:
        predictions: as for `report`.
        groups: pandas.DataFrame with the same index and a column for each grouping; missing where a view is in no group.
        threshold: the run's.
    Returns: {grouping: {value: {"studies": score, "without": score}}} of the columns with 2 to MOST_GROUPS values.
    """
    found = {}
    for name, values in groups.items():
        if 1 < values.nunique() <= MOST_GROUPS:
            found[name] = {
                value: within_and_without(predictions, values == value, threshold, names)
                for value in sorted(set(values.dropna()))
            }
    return found


def within_and_without(predictions, mask, threshold, names):
    """Scores of the studies of the views of a mask, and of all other views."""
    parts = {"studies": predictions[mask], "without": predictions[~mask]}
    return {name: score(study_probabilities(table), threshold, names) for name, table in parts.items()}


def changes(before, after, threshold, names=WITH_INTERVAL, draws=intervals.DRAWS):
    """Differences of study scores of one run on the same studies, after minus before, with a paired bootstrap of the patients.

    Args:
        before, after: predictions of the run, for example on images as they are and as changed.
        threshold: the run's.
    Returns: {name: {"value", "low", "high"}}. The run is held fixed: two runs are compared by `differences`.
    Raises: ValueError when the studies differ.
    """
    tables = studies_of([before, after])
    label = tables[0]["label"].to_numpy(int)

    def statistics(weight):
        first, second = (all_scores(label, one["probability"].to_numpy(), threshold, weight, names) for one in tables)
        return {name: second[name] - first[name] for name in names}

    value = intervals.evaluate(statistics, [np.ones((1, len(label)))])
    found = intervals.intervals(statistics, tables[0]["patient"], draws)
    return {name: with_interval(float(value[name][0]), found[name]) for name in names}


def mean_scores(runs, names=WITH_INTERVAL, draws=intervals.DRAWS):
    """Mean of the study scores of a recipe's runs, with intervals over patients and seeds, see `intervals.over_seeds`.

    Args:
        runs: list of (predictions, threshold), one per seed, of the same studies.
    Returns: {name: {"value", "low", "high", "p"}}; low, high and p are None for one run, and all where a score is undefined.
    Raises: ValueError when the studies of two runs differ.
    """
    found = contrasts(runs, np.full(len(runs), 1 / len(runs)), names, draws)
    for name, one in found.items():
        if one["low"] is not None:  # the interval is symmetric, and a score is not above 1
            one["low"], one["high"] = max(one["low"], LOWEST.get(name, 0.0)), min(one["high"], HIGHEST.get(name, 1.0))
    return found


def differences(before, after, names=WITH_INTERVAL, draws=intervals.DRAWS):
    """Differences of the study scores of two recipes, after minus before, each the mean over its seeds.

    Args:
        before, after: lists of (predictions, threshold), one per seed, of the same studies.
    Returns: {name: {"value", "low", "high", "p"}}, see `mean_scores`; one seed of a recipe gives no interval.
    Raises: ValueError when the studies of two runs differ.
    """
    coefficients = np.repeat([-1 / len(before), 1 / len(after)], [len(before), len(after)])
    return contrasts([*before, *after], coefficients, names, draws)


def contrasts(runs, coefficients, names, draws):
    """Sums of the runs' scores with coefficients; see `mean_scores`."""
    tables = studies_of([predictions for predictions, _ in runs])
    label, patient = tables[0]["label"].to_numpy(int), np.unique(tables[0]["patient"], return_inverse=True)[1]
    scored = [(table["probability"].to_numpy(), threshold) for table, (_, threshold) in zip(tables, runs, strict=True)]

    def statistics(weight):  # {name: (draws, runs)}
        by_run = [all_scores(label, probability, threshold, weight, names) for probability, threshold in scored]
        return {name: np.stack([one[name] for one in by_run], axis=1) for name in names}

    drawn = intervals.evaluate(statistics, [np.ones((1, len(label))), *intervals.draw_patients(patient, draws)])
    found = {}
    for name in names:
        values, of_draws = drawn[name][0], drawn[name][1:].T
        with np.errstate(invalid="ignore"):  # nan where a run's score is undefined
            value = float((coefficients * values).sum())
        interval = intervals.over_seeds(values, of_draws, coefficients, patient.max() + 1) if np.isfinite(value) else None
        low, high, p = interval or (None, None, None)
        found[name] = {"value": value if np.isfinite(value) else None, "low": low, "high": high, "p": p}
    return found


def adjust(found):
    """Adjust the p values of differences reported together, in place (`intervals.holm`). Returns: how many have one."""
    tested = [one for one in found if one["p"] is not None]
    for one, adjusted in zip(tested, intervals.holm([one["p"] for one in tested]), strict=True):
        one["p"] = adjusted
    return len(tested)


def always_negative(studies, names):
    """`score` of a classifier that predicts Negative for every study. Args: studies: table of `study_probabilities`."""
    return score(studies.assign(probability=0.0), 0.5, names)


def studies_of(tables):
    """`study_probabilities` of each table of views. Raises: ValueError when the studies or labels of two differ."""
    studies = [study_probabilities(table) for table in tables]
    if not all(same_studies(studies[0], other) for other in studies):
        raise ValueError("the runs were not scored on the same studies with the same labels")
    return studies

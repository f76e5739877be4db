"""From a table of probabilities to scores, per view and per study: what scores.json and history.csv hold."""

import numpy as np
import pandas as pd
from sklearn import metrics  # AUROC, kappa and the rest

STUDY = ["study_type", "patient", "study"]  # columns that together name one study
NUMBERS = {
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "kappa": "Cohen's kappa",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}


def study_probabilities(predictions):
    """One row a study: its probability is the mean over its views.

    Args:
        predictions: one row a view, with study_type, patient, study, label and probability.
    Returns: pandas.DataFrame with study_type, patient, study, label, probability, views (how many).
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3: "the arithmetic mean of the probabilities of its views".
    """
    studies = predictions.groupby(STUDY, sort=False)
    return studies.agg(label=("label", "first"), probability=("probability", "mean"), views=("label", "size")).reset_index()


def decisions(probability, threshold):
    """1 (Positive) where a probability is at or above the threshold, else 0 (Negative)."""
    return (np.asarray(probability) >= threshold).astype(int)


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


def score(label, probability, threshold):
    """All scores of one set of probabilities.

    Args:
        label: (n,) 0 or 1.
        probability: (n,) in [0, 1].
        threshold: at or above it the decision is Positive.
    Returns: dict with count, positive (how many are), confusion (counts of true_negative, false_positive, false_negative,
        true_positive) and, for each of NUMBERS, {"value", "low", "high"}; a value is None where it is undefined (no positive
        for sensitivity, say), low and high are None: there are no intervals yet.
    """
    label, decision = np.asarray(label, int), decisions(probability, threshold)
    tn, fp, fn, tp = (int(count) for count in metrics.confusion_matrix(label, decision, labels=[0, 1]).ravel())
    values = {
        "accuracy": (tp + tn) / len(label),
        "auroc": auroc(label, probability),
        "kappa": cohen_kappa(label, decision),
        "sensitivity": tp / (tp + fn) if tp + fn else None,
        "specificity": tn / (tn + fp) if tn + fp else None,
    }
    return {
        "count": len(label),
        "positive": tp + fn,
        **{name: {"value": value, "low": None, "high": None} for name, value in values.items()},
        "confusion": {"true_negative": tn, "false_positive": fp, "false_negative": fn, "true_positive": tp},
    }


def report(predictions, threshold):
    """Scores per view and per study, over all and by study type.

    Args:
        predictions: one row a view, with study_type, patient, study, label and probability.
    Returns: {"threshold", "views": score, "studies": score, "by_study_type": {type: {"views", "studies"}}}.
    """

    def both(table):
        studies = study_probabilities(table)
        return {
            name: score(part["label"], part["probability"], threshold)
            for name, part in (("views", table), ("studies", studies))
        }

    by_type = {name: both(table) for name, table in predictions.groupby("study_type")}
    return {"threshold": threshold, **both(predictions), "by_study_type": by_type}


def as_table(report):
    """The report as a pandas.DataFrame for printing: one row for views and one for studies, over all and by type."""
    parts = {"all": report, **(report["by_study_type"] if len(report["by_study_type"]) > 1 else {})}
    rows = {
        (name, unit): {
            "count": part[unit]["count"],
            "positive": part[unit]["positive"],
            **{title: part[unit][key]["value"] for key, title in NUMBERS.items()},
        }
        for name, part in parts.items()
        for unit in ("views", "studies")
    }
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = [" ".join(row) if len(parts) > 1 else row[1] for row in table.index]
    return table

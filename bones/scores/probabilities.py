"""Probabilities of views and studies: mean over views, temperature scaling, decisions at a threshold."""

import numpy as np
import pandas as pd
from scipy import special  # logit and its inverse

from bones.data.table import STUDY


def study_probabilities(predictions):
    """One row per study, whose probability is the mean over its views.

    Args:
        predictions: one row per view, with study_type, patient, study, label and probability.
    Returns: pandas.DataFrame with study_type, patient, study, label, probability, views (count), sorted by the first three.
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3: "the arithmetic mean of the probabilities of its views".
    """
    studies = predictions.groupby(STUDY)
    return studies.agg(label=("label", "first"), probability=("probability", "mean"), views=("label", "size")).reset_index()


def decisions(probability, threshold):
    """1 (Positive) where a probability is at or above the threshold, else 0 (Negative)."""
    return (np.asarray(probability) >= threshold).astype(int)


def calibrate(probability, temperature):
    """Probabilities with their logits divided by a temperature: less confident above 1, more confident below 1.

    Returns: (n,) float64; the ranking and the decisions at 0.5 do not change.
    Source: Guo et al. 2017, arXiv 1706.04599, section 4.2.
    """
    if temperature == 1.0:
        return np.asarray(probability, float)
    return special.expit(special.logit(clipped(np.asarray(probability, float))) / temperature)


def clipped(probability):
    """Probabilities at least 1e-7 from 0 and 1, as Keras clips them, so that logits and log losses are finite."""
    return np.clip(probability, 1e-7, 1 - 1e-7)


def same_studies(one, other):
    """Whether two tables of `study_probabilities` contain the same studies with the same labels."""
    return np.array_equal(one[[*STUDY, "label"]], other[[*STUDY, "label"]])


def ensemble(tables):
    """Mean over runs of each view's probability, as MURA's authors average five networks.

    Args:
        tables: predictions of several runs on the same views.
    Returns: pandas.DataFrame like each of them.
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3.
    """
    first = tables[0].set_index([*STUDY, "view"])
    probability = pd.concat([table.set_index([*STUDY, "view"])["probability"] for table in tables], axis=1).mean(axis=1)
    return first.assign(probability=probability).reset_index()[tables[0].columns]

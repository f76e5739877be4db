"""The split of patients into training and tuning, and the weights of views."""

import numpy as np

from bones.system.errors import DataError


def split_by_patient(views, tuning_fraction, seed):
    """Split a table of views by patient into training and tuning; tuning selects epochs and thresholds.

    The split is stratified by the patients' study types and label (positive when any of their studies is). No patient is in
    both parts.

    Args:
        views: table of `bones.data.views.find_views`.
        tuning_fraction: share of patients, above 0 and below 1.
        seed: random seed; the same seed and table give the same split.
    Returns: (train, tuning), tables like `views`; `split` of the second reads "tuning".
    Raises: DataError when either part lacks a class.
    """
    patients = views.groupby("patient").agg(
        types=("study_type", lambda types: " ".join(sorted(set(types)))), label=("label", "max")
    )
    patients["order"] = np.random.default_rng(seed).permutation(len(patients))
    patients = patients.sort_values(["types", "label", "order"])
    # Systematic sampling: of the sorted patients, take one each time the cumulative share reaches the next integer.
    share = np.floor(np.arange(1, len(patients) + 1) * tuning_fraction + 0.5)
    chosen = patients.index[np.diff(share, prepend=0) > 0]
    is_tuning = views["patient"].isin(chosen)
    train, tuning = views[~is_tuning], views[is_tuning].assign(split="tuning")
    advice = f"of {len(patients)} patients, --tuning-fraction {tuning_fraction} leaves {len(chosen)} for tuning"
    for name, part in (("train", train), ("tuning", tuning)):
        if part["label"].nunique() < 2:
            raise DataError(f"The {name} part lacks a class or is empty ({advice}); change --tuning-fraction or add studies.")
    return train.reset_index(drop=True), tuning.reset_index(drop=True)


def class_weights(views):
    """Weight of each view such that, within a study type, positives and negatives have the same total weight.

    w(positive) = N / (P + N) and w(negative) = P / (P + N), P positive and N negative views of the study type.

    Returns: (n,) float32.
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3.1.
    """
    positive_share = views.groupby("study_type")["label"].transform("mean")
    return np.where(views["label"] == 1, 1 - positive_share, positive_share).astype(np.float32)

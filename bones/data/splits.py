"""Which patients train and which choose epochs and thresholds, and how much each view counts."""

import numpy as np

from bones.system.errors import DataError


def split_by_patient(views, tuning_fraction, seed):
    """Take a share of the patients out of a table of views, for choosing epochs and thresholds.

    Patients are drawn evenly from groups of the same study types and label (positive when any of their studies is), so that
    both parts have about the same make-up. Nobody is in both.

    Args:
        views: table of `bones.data.views.find_views`.
        tuning_fraction: share of patients, above 0 and below 1.
        seed: draws the patients; the same seed and table give the same split.
    Returns: (train, tuning), tables like `views`; `split` of the second reads "tuning".
    Raises: DataError when either part lacks a class.
    """
    patients = views.groupby("patient").agg(
        types=("study_type", lambda types: " ".join(sorted(set(types)))), label=("label", "max")
    )
    patients["order"] = np.random.default_rng(seed).permutation(len(patients))
    patients = patients.sort_values(["types", "label", "order"])
    # Systematic sampling: walking down the sorted patients, take one each time the running share passes a whole number.
    share = np.floor(np.arange(1, len(patients) + 1) * tuning_fraction + 0.5)
    chosen = patients.index[np.diff(share, prepend=0) > 0]
    is_tuning = views["patient"].isin(chosen)
    train, tuning = views[~is_tuning], views[is_tuning].assign(split="tuning")
    advice = f"of {len(patients)} patients, --tuning-fraction {tuning_fraction} leaves {len(chosen)} for tuning"
    for name, part in (("train", train), ("tuning", tuning)):
        if part["label"].nunique() < 2:
            raise DataError(
                f"The {name} part lacks a class or is empty ({advice}); change --tuning-fraction or take in more studies."
            )
    return train.reset_index(drop=True), tuning.reset_index(drop=True)


def class_weights(views):
    """Weight of each view such that, within a study type, positives and negatives weigh the same in sum.

    w(positive) = N / (P + N) and w(negative) = P / (P + N), P positive and N negative views of the study type.

    Returns: (n,) float32.
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3.1.
    """
    positive_share = views.groupby("study_type")["label"].transform("mean")
    return np.where(views["label"] == 1, 1 - positive_share, positive_share).astype(np.float32)

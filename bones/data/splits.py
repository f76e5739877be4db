"""The split of patients into training and tuning, folds, and the weights of views."""

import numpy as np

from bones.system.errors import DataError


def split_by_patient(views, tuning_fraction, seed, kept=(), seen=()):
    """Split a table of views by patient into training and tuning; tuning selects epochs and thresholds.

    The split is stratified by the patients' study types and label (positive when any of their studies is). No patient is in
    both parts.

    Args:
        views: table of `bones.data.views.find_views`. Where some are named as tuning views by their source, these are tuning.
        tuning_fraction: share of patients, above 0 and below 1.
        seed: random seed; the same seed and table give the same split.
        kept: patients who are tuning patients in any case, and are not counted in the share.
        seen: patients who must not become tuning patients, because the starting weights were trained on them.
    Returns: (train, tuning), tables like `views`; `split` of the second reads "tuning".
    Raises: DataError when either part lacks a class.
    """
    fixed, named = {*kept, *seen}, {*views.loc[views["split"] == "tuning", "patient"]}
    drawn = named - {*seen} or draw_patients(views[~views["patient"].isin(fixed)], tuning_fraction, seed)
    chosen = {*kept, *drawn} & {*views["patient"]}
    train, tuning = split_at(views, chosen)
    advice = f"of {views['patient'].nunique()} patients, --tuning-fraction {tuning_fraction} leaves {len(chosen)} for tuning"
    remedy = "change --tuning-fraction or add studies"
    if named - {*seen}:
        advice, remedy = f"the data name {len(drawn)} patients for tuning", "name others there, or add studies"
    advice += f"; {len(kept)} are kept from and {len(seen)} were trained on by the run of --weights" if fixed else ""
    for name, part in (("train", train), ("tuning", tuning)):
        if part["label"].nunique() < 2:
            raise DataError(f"The {name} part lacks a class or is empty ({advice}); {remedy}.")
    return train, tuning


def draw_patients(views, share, seed):
    """A share of the patients of a table, stratified by study types and label. Returns: their names."""
    patients = in_strata(views, seed)
    # Systematic sampling: of the sorted patients, take one each time the cumulative share reaches the next integer.
    reached = np.floor(np.arange(1, len(patients) + 1) * share + 0.5)
    return patients[np.diff(reached, prepend=0) > 0]


def in_strata(views, seed):
    """The patients of a table, sorted by study types and label, in random order within these: a pandas.Index."""
    patients = views.groupby("patient").agg(
        types=("study_type", lambda types: " ".join(sorted(set(types)))), label=("label", "max")
    )
    patients["order"] = np.random.default_rng(seed).permutation(len(patients))
    return patients.sort_values(["types", "label", "order"]).index


def folds(views, count, seed):
    """Divide the patients of a table into folds of equal size, stratified by their study types and label.

    Args:
        views: table of `bones.data.views.find_views`.
        count: number of folds.
        seed: random seed; the same seed and table give the same folds.
    Returns: (n,) int, the fold of each view, from 0. All views of a patient are in one fold.
    Raises: DataError when there are fewer patients than folds.
    """
    patients = in_strata(views, seed)
    if len(patients) < count:
        raise DataError(f"{len(patients)} patients cannot be divided into {count} folds. Pass fewer --folds, or add studies.")
    return views["patient"].map({patient: place % count for place, patient in enumerate(patients)}).to_numpy()


def split_at(views, patients):
    """(train, tuning) of a table of views, with the given patients in tuning."""
    is_tuning = views["patient"].isin(patients)
    parts = views[~is_tuning].assign(split="train"), views[is_tuning].assign(split="tuning")
    return tuple(part.reset_index(drop=True) for part in parts)


def class_weights(views):
    """Weight of each view such that, within a study type, positives and negatives have the same total weight.

    w(positive) = N / (P + N) and w(negative) = P / (P + N), P positive and N negative views of the study type.

    Returns: (n,) float32.
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3.1.
    """
    positive_share = views.groupby("study_type")["label"].transform("mean")
    return np.where(views["label"] == 1, 1 - positive_share, positive_share).astype(np.float32)

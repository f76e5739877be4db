"""Patients are in one part only, both parts are alike, and the weights of views balance the classes."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from bones.data.splits import class_weights, split_by_patient
from bones.data.table import COLUMNS
from bones.data.views import find_views
from bones.system.errors import DataError

studies = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 1), st.sampled_from(["XR_HUMERUS", "XR_ELBOW"])), min_size=40, max_size=120
)


@settings(max_examples=60, deadline=None)
@given(studies=studies, fraction=st.floats(0.1, 0.6), seed=st.integers(0, 1000))
def test_nobody_is_in_both_parts(studies, fraction, seed):
    views = pd.DataFrame(
        [
            (f"p{n}", "train", kind, f"patient{who}", f"study{n}", "image1.png", label)
            for n, (who, label, kind) in enumerate(studies)
        ],
        columns=COLUMNS,
    )
    try:
        train, tuning = split_by_patient(views, fraction, seed)
    except DataError as error:
        assert "lacks a class" in str(error)
        return
    assert not set(train["patient"]) & set(tuning["patient"])
    assert sorted([*train["path"], *tuning["path"]]) == sorted(views["path"])
    assert set(tuning["split"]) == {"tuning"}
    assert abs(tuning["patient"].nunique() - fraction * views["patient"].nunique()) <= 1
    again = split_by_patient(views.sample(frac=1, random_state=seed), fraction, seed)[1]
    assert set(again["path"]) == set(tuning["path"]), "the same seed draws the same patients, in whatever order the table is"
    # Stratified: of the patients of the same study types and label about the same share is taken.
    patients = views.groupby("patient").agg(
        types=("study_type", lambda types: tuple(sorted(set(types)))), label=("label", "max")
    )
    for _, group in patients.groupby(["types", "label"]):
        assert abs(group.index.isin(tuning["patient"]).sum() - fraction * len(group)) <= 1


def test_a_share_of_the_patients_is_for_tuning():
    rows = [(f"p{n}", "train", "XR_HUMERUS", f"patient{n // 2:02}", f"study{n}", "image1.png", n // 2 % 2) for n in range(80)]
    views = pd.DataFrame(rows, columns=COLUMNS)
    train, tuning = split_by_patient(views, 0.2, seed=0)
    assert (train["patient"].nunique(), tuning["patient"].nunique()) == (32, 8)
    assert tuning.drop_duplicates("patient")["label"].sum() == 4
    kept, seen = ["patient00", "patient01", "absent"], ["patient02", "patient03"]
    train, tuning = split_by_patient(views, 0.25, seed=0, kept=kept, seen=seen)
    assert {"patient00", "patient01"} <= set(tuning["patient"]) and {"patient02", "patient03"} <= set(train["patient"])
    assert tuning["patient"].nunique() == 2 + 9, "a quarter of the 36 others, beside those kept"


def test_split_keeps_the_make_up(fracatlas):
    views = find_views(fracatlas, "train", ["all"])
    train, tuning = split_by_patient(views, 0.2, seed=0)
    for kinds in (["XR_HAND"], ["XR_HAND", "XR_SHOULDER", "XR_UPPERLIMB"]):
        patients = [part[part["study_type"].isin(kinds)].groupby("patient")["label"].max() for part in (train, tuning)]
        assert abs(patients[0].mean() - patients[1].mean()) < 0.04, kinds
    other = split_by_patient(views, 0.2, seed=1)[1]
    assert set(other["patient"]) != set(tuning["patient"])


def test_class_weights_balance_each_type():
    views = pd.DataFrame({"study_type": ["A"] * 5 + ["B"] * 4, "label": [1, 0, 0, 0, 0, 1, 1, 1, 0]})
    weights = class_weights(views)
    for kind in "AB":
        part = views["study_type"] == kind
        assert np.isclose(weights[part & (views["label"] == 1)].sum(), weights[part & (views["label"] == 0)].sum())
    assert np.isclose(weights[0], 4 / 5) and np.isclose(weights[5], 1 / 4)

"""Rows of several seeds, without networks: whose predictions and which threshold an ensemble has."""

import numpy as np
import pytest
from score_tables import predictions
from sklearn import metrics

from bones.evaluation import comparison
from bones.runs.record import Data, RunRecord
from bones.scores.probabilities import study_probabilities
from bones.scores.report import report
from bones.training import command_line


def scored_run(seed, threshold):
    """A ScoredRun of random predictions, which differ from those of every other seed."""
    views = predictions(probability=np.random.default_rng(seed).random(60))
    options = command_line.parse(["--weights", "none", "--seed", str(seed)]).options
    about = {
        "data": "root",
        "study_types": ["XR_HUMERUS"],
        "split": "held-out",
        "phantom": None,
        "corrected": 0,
        "has_patients": True,
        "patients": 20,
    }
    record = RunRecord(options=options, data=Data(root="root"))
    return comparison.ScoredRun(f"run-{seed}", record, views, about | report(views, threshold))


def test_an_ensemble_is_of_all_runs_at_their_mean_threshold():
    group = [scored_run(0, 0.39), scored_run(1, 0.42), scored_run(2, 0.45)]
    studies = [study_probabilities(run.predictions) for run in group]
    label, together = studies[0]["label"], np.mean([one["probability"] for one in studies], axis=0)
    expected = metrics.roc_auc_score(label, together)
    assert all(abs(metrics.roc_auc_score(label, one["probability"]) - expected) > 0.002 for one in studies)
    decided = metrics.accuracy_score(label, together >= 0.42)
    assert decided != metrics.accuracy_score(label, together >= 0.5)
    row = comparison.seed_rows(group)[1]
    assert row["Seeds"] == "ensemble of 0, 1, 2"
    assert float(row["AUROC [95 % CI]"].split()[0]) == pytest.approx(expected, abs=5e-4)
    assert float(row["Accuracy [95 % CI]"].split()[0]) == pytest.approx(decided, abs=5e-4)

"""Several runs: the results table with its mean over seeds, ensembles, and differences between recipes."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from bones.data.roots import in_words
from bones.data.table import STUDY
from bones.runs.options import SHARED
from bones.runs.record import RunRecord
from bones.scores import probabilities
from bones.scores.names import NUMBERS
from bones.scores.probabilities import same_studies, study_probabilities
from bones.scores.report import adjust, always_negative, differences, mean_scores, score
from bones.scores.text import as_text, difference_text, markdown_table, value_text

SHOWN = ("auroc", "kappa", "accuracy")  # columns of the table, scores of studies
# What the intervals of the table allow for.
ALLOWED_FOR = (
    "Intervals of runs and ensembles are over patients, with threshold, temperature and seed held fixed; those of means and of "
    "differences are over patients and seeds. A seed also draws the tuning patients."
)
ONE_SEED = "One seed cannot tell recipes apart: train two or more seeds of each for an interval."
# Measured on MURA's hidden test set, 207 studies of all seven types, which this repository cannot score.
PAPER = "[Rajpurkar et al. 2018](https://arxiv.org/abs/1712.06957), abstract"
LEADERBOARD = "[MURA leaderboard](https://stanfordmlgroup.github.io/competitions/mura/)"
REFERENCE = [
    ("the paper's five DenseNet-169", "AUROC 0.929, sensitivity 0.815, specificity 0.887", PAPER),
    ("the best of the paper's radiologists", "kappa 0.778", LEADERBOARD),
    ("the best entry, an ensemble, 30 November 2018", "kappa 0.843", LEADERBOARD),
]


@dataclasses.dataclass
class ScoredRun:
    """A run with its predictions on one split and their scores."""

    name: str  # of the run folder
    record: RunRecord
    predictions: pd.DataFrame  # one row per view
    report: dict  # scores.json
    unwritten: str = ""  # why they are in no file

    def group(self):
        """What runs that differ only in the seed have in common: options, training data, scored views."""
        options = [(name, value) for name, value in self.record.options if name in SHARED and name != "seed"]
        parts = [part or {} for part in (self.record.data.train, self.record.data.tuning)]  # seeds split them differently
        counts = [sum(part.get(name, 0) for part in parts) for name in ("views", "studies", "positive_views")]
        views = self.predictions[[*STUDY, "view", "label"]].sort_values([*STUDY, "view"])
        return repr(options), *counts, views.to_csv(index=False)

    def predictions_and_threshold(self):
        """Arguments of scores.report.differences."""
        return self.predictions, self.report["threshold"]


def grouped(runs):
    """Group runs that differ only in the seed: a list of lists, in the order of their first runs."""
    groups = {}
    for run in runs:
        groups.setdefault(run.group(), []).append(run)
    return list(groups.values())


def markdown(runs):
    """The results section: table, differences between recipes if there are several, and reference scores."""
    groups = grouped(runs)
    table = [row for group in groups for row in (*map(run_row, group), *(seed_rows(group) if len(group) > 1 else []))]
    reference = [dict(zip(("MURA reference", "Score", "Source"), row, strict=True)) for row in REFERENCE]
    return "\n\n".join(
        [
            markdown_table([*table, *always_negative_rows(groups)]),
            f"Scores of studies; kappa and accuracy at the threshold fitted on tuning studies. {ALLOWED_FOR}",
            *comparisons(groups),
            "For comparison, measured on another set, MURA's hidden test set of 207 studies of all seven types:",
            markdown_table(reference),
        ]
    )


def row(run, seed, numbers, training, command):
    """One row of the table. Args: run: the first run of a group, or a single run."""
    options, report = run.record.options, run.report
    weights = {"none": "random", "imagenet": "ImageNet"}.get(options.weights, Path(options.weights).name)
    data = f"{in_words(report['data'])} {' '.join(report['study_types'])}, {report['split']}"
    marks = [" (phantom)"] * bool(report["phantom"]) + [" (labels corrected)"] * bool(report["corrected"])
    marks += [" (patients unknown)"] * (not report["has_patients"])
    return {
        "Network": options.network,
        "Recipe": f"{options.recipe}, {weights} weights, {options.size} px, {options.epochs} epochs",
        "Data": data + "".join(marks),
        "Studies (patients)": f"{report['studies']['count']} ({report['patients']})",
        "Seeds": seed,
        **dict(zip(("AUROC [95 % CI]", "Kappa [95 % CI]", "Accuracy [95 % CI]"), numbers, strict=True)),
        "Training time, device": training,
        "Command": command,
    }


def run_row(run):
    """Row of a single run."""
    record, seconds = run.record, run.record.training_seconds
    training = f"{seconds / 60:.0f} min, {record.device}" if seconds else "not finished"
    numbers = [as_text(run.report["studies"][name]) for name in SHOWN]
    return row(run, record.options.seed, numbers, training, f"`{record.command}`")


def seed_rows(group):
    """Rows of the mean over seeds and of the ensemble."""
    seeds = ", ".join(str(run.record.options.seed) for run in group)
    means = mean_scores([run.predictions_and_threshold() for run in group], SHOWN)
    together = score(study_probabilities(ensemble(group)), mean_threshold(group), SHOWN)
    names = " ".join(run.name for run in group)
    command = f"`python model_test.py {names} --markdown`"
    return [
        row(group[0], f"mean of {seeds}", [as_text(means[name]) for name in SHOWN], "", command),
        row(group[0], f"ensemble of {seeds}", [as_text(together[name]) for name in SHOWN], "", "the same"),
    ]


def mean_line(group):
    """One line on the mean scores of the seeds of a recipe."""
    found = mean_scores([run.predictions_and_threshold() for run in group], SHOWN)
    return f"{title(group)}, interval over patients and seeds: {in_line(found, as_text)}."


def in_line(found, text):
    """Scores in one line: AUROC 0.785 [0.712, 0.849], ... Args: text: f(score), such as `as_text`."""
    return ", ".join(f"{NUMBERS[name]} {text(found[name])}" for name in SHOWN)


def always_negative_rows(groups):
    """Rows of a classifier that predicts Negative for every study, one for each set of studies."""
    rows, seen = [], []
    for run in (group[0] for group in groups):
        studies = study_probabilities(run.predictions)
        if not any(same_studies(studies, other) for other in seen):
            seen.append(studies)
            found = always_negative(studies, SHOWN)
            first = row(run, "", [as_text(found[name]) for name in SHOWN], "", "")
            rows.append(first | {"Network": "always Negative", "Recipe": ""})
    return rows


def ensemble(group):
    """Mean predictions of a group of runs."""
    return probabilities.ensemble([run.predictions for run in group])


def mean_threshold(group):
    """Mean threshold of an ensemble. It cannot be fitted: every tuning patient is a training patient of another run."""
    return float(np.mean([run.report["threshold"] for run in group]))


def comparisons(groups):
    """Lines on the scores of each group minus those of the first, on the same patients, with p values adjusted together."""
    first, *others = groups
    found = [difference(first, other) for other in others]
    tested = adjust(one for each in found if each for one in each.values())
    lines = [describe_difference(first, other, each) for other, each in zip(others, found, strict=True)]
    note = f"P values are adjusted for these {tested} comparisons (Holm); intervals are not."
    return lines + [note] * bool(tested)


def difference(first, other):
    """Scores of one group minus those of the first; None where they are of different studies."""
    if not same_studies(*(study_probabilities(group[0].predictions) for group in (first, other))):
        return None
    return differences(*([run.predictions_and_threshold() for run in group] for group in (first, other)), SHOWN)


def describe_difference(first, other, found):
    """One line on a difference."""
    if found is None:
        return f"{title(other)} was scored on different studies than {title(first)}: they cannot be compared."
    subject = f"{title(other)} minus {title(first)}, on the same patients: "
    if min(len(first), len(other)) < 2:
        return f"{subject}{in_line(found, value_text)}. {ONE_SEED}"
    return f"{subject}{in_line(found, difference_text)}."


def title(group):
    """Name of a group in messages."""
    seeds = f", mean of {len(group)} seeds" if len(group) > 1 else ""
    return f"{group[0].record.options.recipe} ({' '.join(run.name for run in group)}{seeds})"

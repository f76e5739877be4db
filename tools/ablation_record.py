"""The record of ablation.py in two small files: enough to print the table and to know which runs are done."""

import dataclasses
import threading
from pathlib import Path

import pandas as pd

from bones.data.table import STUDY
from bones.runs.folder import PREDICTIONS, RunFolder
from bones.scores.fitting import fit_threshold
from bones.scores.metrics import point_scores
from bones.scores.probabilities import calibrate, study_probabilities
from bones.system.files import read_table, whole_file


class Record:
    """Two tables and their files.

    runs.csv has one row per run, with the columns RUN. probabilities.csv has one row per fold and view, with the columns VIEW,
    and one column per row and seed, "row-seed", with the view's probability, for held-out views and the run's own tuning views.
    """

    RUN = ("row", "seed", "fold", "settings", "seconds", "device", "keras")
    VIEW = ("fold", "split", *STUDY, "view", "label")

    def __init__(self, folder, settings, folds):
        """
        Args:
            folder: of the two files.
            settings: f(row) -> training settings of a row as text; runs with other settings are ignored.
            folds: number of folds of a complete row.
        Raises: FileError when a file is damaged.
        """
        self.folder, self.settings, self.folds, self.lock = Path(folder), settings, folds, threading.Lock()
        self.runs = self.read("runs.csv", self.RUN)
        self.views = self.read("probabilities.csv", self.VIEW)

    def read(self, name, columns):
        """Read one of the two files; an empty table if it does not exist.

        Raises: FileError when its format is not that of `write`.
        """
        file = self.folder / name
        if not file.exists():
            return pd.DataFrame(columns=[*columns])
        return read_table(file, columns, "Restore it, or remove it and train again.")

    def holds(self, row, seed, fold):
        """Whether a run of the row with its current settings is recorded."""
        return bool((self.is_run(row, seed, fold) & (self.runs["settings"] == self.settings(row))).any())

    def is_run(self, row, seed, fold):
        """Mask of a run's row in runs.csv: a boolean pandas.Series."""
        return (self.runs["row"] == row) & (self.runs["seed"] == seed) & (self.runs["fold"] == fold)

    def add(self, row, seed, fold, folder, training_seconds):
        """Record a scored run folder."""
        run = RunFolder.open(folder)
        said = run.record()
        kept = [row, seed, fold, self.settings(row), training_seconds, said.device, said.versions["keras"]]
        views = read_table(run / "predictions.csv", PREDICTIONS, "It is written by model_test.py.").assign(fold=fold)
        # As the network predicts them: temperatures, each fitted on few tuning patients, would differ between folds.
        views["probability"] = calibrate(views["probability"], 1 / said.temperature)
        views = views.set_index([*self.VIEW])["probability"].round(5)
        column = f"{row}-{seed}"
        with self.lock:
            others = self.runs[~self.is_run(row, seed, fold)].to_numpy().tolist()
            self.runs = pd.DataFrame([*others, kept], columns=[*self.RUN])
            before = self.views.set_index([*self.VIEW])
            known = before[column].drop(fold, errors="ignore").dropna() if column in before else pd.Series(dtype=float)
            after = pd.concat([known, views]) if len(known) else views
            self.views = before.drop(columns=column, errors="ignore").join(after.rename(column), how="outer").reset_index()
            self.write()

    def write(self):
        """Write both files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for table, name in ((self.runs, "runs.csv"), (self.views, "probabilities.csv")):
            with whole_file(self.folder / name) as partial:
                table.to_csv(partial, index=False)

    def scored(self, row, seeds):
        """{seed: Trained} of the seeds of a row whose folds are all recorded."""
        complete = [seed for seed in seeds if all(self.holds(row, seed, fold) for fold in range(self.folds))]
        return {seed: self.trained(row, seed) for seed in complete}

    def trained(self, row, seed):
        """The record of the runs of one row and seed."""
        views = self.views.rename(columns={f"{row}-{seed}": "probability"})[[*self.VIEW, "probability"]].dropna()
        tuning, held_out = (views[views["split"] == split] for split in ("tuning", "held-out"))
        # A patient can be a tuning patient of several folds, with a probability of each.
        tuning = tuning.assign(patient=tuning["fold"].astype(str) + tuning["patient"])
        return Trained(held_out, study_probabilities(tuning))


@dataclasses.dataclass
class Trained:
    """The recorded runs of one row and seed."""

    views: pd.DataFrame  # held-out views
    tuning: pd.DataFrame  # scores.probabilities.study_probabilities

    def selected(self, study_type=None, maximum=False):
        """The same of one study type alone, or with the maximum over a study's views as the probability of each."""
        views, tuning = self.views, self.tuning
        if study_type:
            views, tuning = (table[table["study_type"] == study_type] for table in (views, tuning))
        if maximum:
            views = views.assign(probability=views.groupby([*STUDY])["probability"].transform("max"))
        return Trained(views, tuning)

    def scores(self, rule=fit_threshold):
        """{name: score} of the held-out studies, at the threshold that a rule fits to the tuning studies."""
        return point_scores(*columns(study_probabilities(self.views)), rule(*columns(self.tuning)))[0]

    def predictions_and_threshold(self):
        """Arguments of scores.report.differences."""
        return self.views, fit_threshold(*columns(self.tuning))


def columns(studies):
    """Labels and probabilities of a table of studies, two arrays (n,)."""
    return studies["label"].to_numpy(), studies["probability"].to_numpy()

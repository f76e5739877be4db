"""The record of ablation.py in two small files: enough to print the table and to know which runs are done."""

import dataclasses
import threading
from pathlib import Path

import pandas as pd

from bones.data.table import STUDY
from bones.runs.folder import PREDICTIONS, RunFolder
from bones.scores.fitting import fit_threshold
from bones.scores.metrics import point_scores
from bones.scores.probabilities import study_probabilities
from bones.system.files import read_table, whole_file


class Record:
    """Two tables and their files.

    runs.csv has one row per run, with the columns RUN. probabilities.csv has one row per view, with the columns VIEW, and one
    column per run, "row-seed", with the view's probability, for held-out views and the run's own tuning views.
    """

    RUN = ("row", "seed", "settings", "seconds", "device", "keras")
    VIEW = ("split", *STUDY, "view", "label")

    def __init__(self, folder, settings):
        """
        Args:
            folder: of the two files.
            settings: f(row) -> training settings of a row as text; runs with other settings are ignored.
        Raises: FileError when a file is damaged.
        """
        self.folder, self.settings, self.lock = Path(folder), settings, threading.Lock()
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

    def holds(self, row, seed):
        """Whether a run of the row with its current settings is recorded."""
        return bool((self.is_run(row, seed) & (self.runs["settings"] == self.settings(row))).any())

    def is_run(self, row, seed):
        """Mask of a run's row in runs.csv: a boolean pandas.Series."""
        return (self.runs["row"] == row) & (self.runs["seed"] == seed)

    def add(self, row, seed, folder, training_seconds):
        """Record a scored run folder."""
        run = RunFolder.open(folder)
        said = run.record()
        kept = [row, seed, self.settings(row), training_seconds, said.device, said.versions["keras"]]
        views = read_table(run / "predictions.csv", PREDICTIONS, "It is written by model_test.py.").set_index([*self.VIEW])
        views = views["probability"].round(5).rename(f"{row}-{seed}")
        with self.lock:
            others = self.runs[~self.is_run(row, seed)].to_numpy().tolist()
            self.runs = pd.DataFrame([*others, kept], columns=[*self.RUN])
            before = self.views.drop(columns=views.name, errors="ignore").set_index([*self.VIEW])
            self.views = before.join(views, how="outer").reset_index()
            self.write()

    def write(self):
        """Write both files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for table, name in ((self.runs, "runs.csv"), (self.views, "probabilities.csv")):
            with whole_file(self.folder / name) as partial:
                table.to_csv(partial, index=False)

    def scored(self, row, seeds):
        """{seed: Trained} of a row's runs."""
        return {seed: self.trained(row, seed) for seed in seeds if self.holds(row, seed)}

    def trained(self, row, seed):
        """The record of one run."""
        views = self.views.rename(columns={f"{row}-{seed}": "probability"})[[*self.VIEW, "probability"]].dropna()
        tuning, held_out = (views[views["split"] == split] for split in ("tuning", "held-out"))
        return Trained(held_out, study_probabilities(tuning))


@dataclasses.dataclass
class Trained:
    """A recorded run."""

    views: pd.DataFrame  # held-out views
    tuning: pd.DataFrame  # scores.probabilities.study_probabilities

    def scores(self, rule=fit_threshold):
        """{name: score} of the held-out studies, at the threshold that a rule fits to the tuning studies."""
        return point_scores(*columns(study_probabilities(self.views)), rule(*columns(self.tuning)))[0]

    def predictions_and_threshold(self):
        """Arguments of scores.report.differences."""
        return self.views, fit_threshold(*columns(self.tuning))


def columns(studies):
    """Labels and probabilities of a table of studies, two arrays (n,)."""
    return studies["label"].to_numpy(), studies["probability"].to_numpy()

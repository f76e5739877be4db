"""A run folder: its lock, JSON files, tables, images and texts; networks and resume state are in checkpoints.py.

Each file is written under a temporary name and renamed, so that a killed process leaves no partial file under the final name.
"""

import contextlib
import json
import shutil
from pathlib import Path

import filelock
import numpy as np
import pandas as pd

from bones.networks import saved
from bones.runs import record
from bones.system import files
from bones.system.errors import RunError
from bones.system.files import PARTIAL

HISTORY = ["epoch", "loss", "accuracy", "auroc", "val_loss", "val_accuracy", "val_auroc"]
HISTORY += ["learning_rate", "seconds", "views_per_second"]
PREDICTIONS = ["split", "study_type", "patient", "study", "view", "path", "label", "probability"]
LOCK = ".lock"  # held while a process trains into a folder


def is_left_over(file):
    """Whether a file of a run folder is one that a killed process may leave behind."""
    return file.name == LOCK or file.name.startswith(PARTIAL)


def selected_epoch(history, chosen):
    """Index of the epoch saved as best.h5.

    Args:
        history: pandas.DataFrame, or list of dicts, with val_auroc and val_loss of each epoch so far.
        chosen: the recipe's: "best", the highest tuning AUROC; "lowest_loss", the lowest tuning loss; or "last".
    Returns: its index from 0; the first of equal ones.
    """
    history = pd.DataFrame(history)
    if chosen == "last":
        return len(history) - 1
    return int(np.argmin(history["val_loss"]) if chosen == "lowest_loss" else np.argmax(history["val_auroc"]))


class RunFolder:
    """One run folder; methods read and write its files."""

    is_writable = True  # False: another host writes it

    def __init__(self, path):
        self.path = Path(path)

    @property
    def is_shipped(self):
        """Whether it is the run that comes with the repository, in which nothing is changed."""
        return self.path.resolve() == record.SHIPPED.resolve()

    def check_not_shipped(self):
        """Raise RunError when it is the run that comes with the repository."""
        if self.is_shipped:
            raise RunError(
                f"{self.path} comes with the repository, and nothing is written into it. Copy it, such as to runs/fracatlas, "
                "and name the copy."
            )

    def __truediv__(self, name):
        return self.path / name

    def network_file(self, name="best.h5"):
        """Path of best.h5 or last.h5, or of the .keras file in its place."""
        return saved.network_file(self.path, name)

    @classmethod
    def create(cls, path):
        """Make a new run folder.

        Raises: RunError when the folder is not empty or cannot be created.
        """
        path = Path(path)
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            raise RunError(f"{path} is not a folder. Pass another --out.")
        if path.exists() and any(not is_left_over(file) for file in path.iterdir()):
            raise RunError(
                f"{path} is not empty, and a run is never overwritten. Pass another --out, or --resume to resume it."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be created: {error.strerror}. Pass another --out.") from None
        return cls(path)

    @classmethod
    def open(cls, path):
        """An existing run folder.

        Raises: RunError when the path is not a run folder.
        """
        record.check_is_run(path)
        return cls(path)

    @contextlib.contextmanager
    def locked(self):
        """Prevent other processes from training into the folder; the lock is released when its process is killed.

        Raises: RunError when another process has the lock, or the folder is not writable.
        """
        self.check_not_shipped()
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(files.locked(self / LOCK, timeout=0))
                for file in self.path.rglob(PARTIAL + "*"):  # of a process killed while writing
                    shutil.rmtree(file) if file.is_dir() else file.unlink()
            except filelock.Timeout:
                raise RunError(
                    f"{self.path}: another process trains into it. Wait for its end, or pass another --out."
                ) from None
            except OSError as error:
                raise RunError(
                    f"{self.path} is not writable ({error.strerror}). Make it writable, or pass another --out."
                ) from None
            yield

    @contextlib.contextmanager
    def writing(self, name):
        """A temporary path next to a file; it replaces the file when the block ends without an error.

        Raises: RunError when it cannot be written; the file is unchanged.
        """
        self.check_not_shipped()
        try:
            with files.whole_file(self / name) as partial:
                yield partial
        except OSError as error:
            raise RunError(self.not_written(name, error)) from None

    def scratch(self):
        """Context with a new folder in the run folder, removed at its end, also if left behind by a killed process."""
        return files.scratch_folder(self / "trial")

    def not_written(self, name, error):
        """The error message for a file that could not be written."""
        return (
            f"{self / name} cannot be written ({files.reason(error)}); what was saved before is unchanged.\n"
            "Free disk space, make the folder writable, or copy the run to another place; resume a training with --resume."
        )

    # run.json, scores.json

    def write_json(self, name, content):
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def write_text(self, name, text):
        with self.writing(name) as partial:
            partial.write_text(text, encoding="utf-8", errors="surrogateescape")

    def read_json(self, name):
        """Content of a JSON file of the run; RunError when it is missing or not a JSON object."""
        return record.read_json(self / name)

    def record(self):
        """run.json as a RunRecord."""
        return record.read(self.path)

    def write_record(self, content):
        """Write run.json from a RunRecord."""
        self.write_json("run.json", content.model_dump(mode="json"))

    # history.csv, predictions.csv

    def write_csv(self, name, table):
        with self.writing(name) as partial:
            table.to_csv(partial, index=False, errors="surrogateescape", lineterminator="\n")

    def read_history(self):
        """history.csv: one row per epoch, from 1."""
        hint = "It is written by mura.py after the first epoch."
        history = files.read_table(self / "history.csv", HISTORY, hint)[HISTORY].apply(pd.to_numeric, errors="coerce")
        if history.isna().any(axis=None) or (history.empty and self.record().options.epochs):
            raise RunError(f"{self / 'history.csv'} has no rows, or cells that are not numbers. {hint}")
        return history

    def write_history(self, history):
        """Write history.csv from a list of dicts, one per epoch."""
        self.write_csv("history.csv", pd.DataFrame(history, columns=HISTORY))

    def read_predictions(self):
        """Predictions of the held-out split, or of tuning where nothing else was scored: a table, one row per view.

        Raises: RunError when no scores can be computed from them.
        """
        hint = "It is written by model_test.py."
        table = files.read_table(self / "predictions.csv", PREDICTIONS, hint)
        held_out = table[table["split"] == "held-out"]
        table = (held_out if len(held_out) else table).reset_index(drop=True)
        numbers = table[["label", "probability"]].apply(pd.to_numeric, errors="coerce")
        keys = ["study_type", "patient", "study", "view"]
        if table.empty or not (numbers["label"].isin([0, 1]) & numbers["probability"].between(0, 1)).all():
            fault = "has no rows, or labels or probabilities out of range"
        elif table[keys].isna().any(axis=None) or table.duplicated(keys).any():
            fault = "has rows without a name, or a duplicate view"
        elif numbers["label"].nunique() < 2 or table.groupby(keys[:3])["label"].nunique().max() > 1:
            fault = "has only one label, or two labels for one study"
        else:
            fault = None
        if fault:
            raise RunError(f"{self / 'predictions.csv'} {fault}. {hint} Score again.")
        return table.assign(label=numbers["label"].astype(int), probability=numbers["probability"])

    def write_predictions(self, predictions):
        """Write predictions.csv, one row per view; existing rows of another split stay."""
        if (self / "predictions.csv").exists():
            before = files.read_table(self / "predictions.csv", PREDICTIONS, "Remove it and score again.")
            others = before[~before["split"].isin(predictions["split"])]
            predictions = pd.concat([others, predictions]) if len(others) else predictions
        self.write_csv("predictions.csv", predictions[PREDICTIONS])

    def write_image(self, name, image):
        """Write a PIL image as PNG."""
        with self.writing(name) as partial:
            image.save(partial, format="PNG")


class ReadOnlyRun(RunFolder):
    """A run folder that another host writes: reading works, and writing does nothing."""

    is_writable = False

    @contextlib.contextmanager
    def locked(self):
        yield

    def write_text(self, name, text):
        pass

    def write_csv(self, name, table):
        pass

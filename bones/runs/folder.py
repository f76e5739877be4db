"""A run folder: its lock, and its JSON files, tables, pictures and texts; networks and resume state are in checkpoints.py.

Each file is written under a temporary name and renamed, so that a kill never leaves half a file under the real name.
"""

import contextlib
import json
import shutil
from pathlib import Path

import filelock
import numpy as np
import pandas as pd

from bones.runs import record
from bones.system import files
from bones.system.errors import RunError
from bones.system.files import PARTIAL

HISTORY = ["epoch", "loss", "accuracy", "auroc", "val_loss", "val_accuracy", "val_auroc"]
HISTORY += ["learning_rate", "seconds", "views_per_second"]
PREDICTIONS = ["split", "study_type", "patient", "study", "view", "path", "label", "probability"]
LOCK = ".lock"  # held while a process trains into a folder


def is_left_over(file):
    """Whether a file of a run folder is what a process that was killed at once may leave behind."""
    return file.name == LOCK or file.name.startswith(PARTIAL)


def selected_epoch(val_auroc, chosen):
    """Which epoch best.h5 is of.

    Args:
        val_auroc: tuning AUROC of each epoch so far.
        chosen: the recipe's: "best", the highest, or "last".
    Returns: its place from 0; the first among equals.
    """
    return len(val_auroc) - 1 if chosen == "last" else int(np.argmax(val_auroc))


class RunFolder:
    """One run folder; reading and writing by file."""

    is_writable = True  # False: another host writes it

    def __init__(self, path):
        self.path = Path(path)

    def __truediv__(self, name):
        return self.path / name

    @classmethod
    def create(cls, path):
        """Make a new run folder.

        Raises: RunError when the path holds anything already or cannot be made.
        """
        path = Path(path)
        if (path.exists() or path.is_symlink()) and not path.is_dir():
            raise RunError(f"{path} is no folder. Pass another --out.")
        if path.exists() and any(not is_left_over(file) for file in path.iterdir()):
            raise RunError(
                f"{path} is not empty, and a run is never overwritten. Pass another --out, or --resume to go on with it."
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{path} cannot be made: {error.strerror}. Pass another --out.") from None
        return cls(path)

    @classmethod
    def open(cls, path):
        """An existing run folder.

        Raises: RunError when the path holds no run.
        """
        record.check_is_run(path)
        return cls(path)

    @contextlib.contextmanager
    def locked(self):
        """Keep other processes from training into the folder; a killed process's lock is open again.

        Raises: RunError when another has it, or when nothing can be written into the folder.
        """
        lock = filelock.FileLock(self / LOCK, timeout=0)
        try:
            lock.acquire()
            for file in self.path.rglob(PARTIAL + "*"):  # of a process that was killed while it wrote
                shutil.rmtree(file) if file.is_dir() else file.unlink()
        except filelock.Timeout:
            raise RunError(f"{self.path}: another process trains into it. Wait for its end, or pass another --out.") from None
        except OSError as error:
            raise RunError(
                f"{self.path} cannot be written to ({error.strerror}). Make it writable, or pass another --out."
            ) from None
        try:
            yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def writing(self, name):
        """A temporary path beside a file; it takes the file's place when the block ends without an error.

        Raises: RunError when it cannot be written; the file is as it was.
        """
        try:
            with files.whole_file(self / name) as partial:
                yield partial
        except OSError as error:
            raise RunError(self.not_written(name, error)) from None

    def not_written(self, name, error):
        """The message on a file that could not be written."""
        return (
            f"{self / name} cannot be written ({files.reason(error)}); what was saved before is as it was.\n"
            "Make room, or the folder writable, and run it again; a training goes on with --resume."
        )

    # run.json, scores.json

    def write_json(self, name, content):
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def write_text(self, name, text):
        with self.writing(name) as partial:
            partial.write_text(text, encoding="utf-8", errors="surrogateescape")

    def read_json(self, name):
        """Content of a JSON file of the run; RunError when it is missing or no JSON object."""
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
            table.to_csv(partial, index=False, errors="surrogateescape")

    def read_history(self):
        """history.csv: one row an epoch, from 1."""
        hint = "It is written by mura.py after the first epoch."
        history = files.read_table(self / "history.csv", HISTORY, hint)[HISTORY].apply(pd.to_numeric, errors="coerce")
        if history.empty or history.isna().any(axis=None):
            raise RunError(f"{self / 'history.csv'} has no rows, or cells that are no numbers. {hint}")
        return history

    def write_history(self, history):
        """Write history.csv from a list of dicts, one an epoch."""
        self.write_csv("history.csv", pd.DataFrame(history, columns=HISTORY))

    def read_predictions(self):
        """Predictions of the held-out split, or of tuning where nothing else was scored: a table, one row a view.

        Raises: RunError when they are not such that scores can be drawn of them.
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
            fault = "has rows without a name, or a view twice"
        elif numbers["label"].nunique() < 2 or table.groupby(keys[:3])["label"].nunique().max() > 1:
            fault = "has one label only, or two for one study"
        else:
            fault = None
        if fault:
            raise RunError(f"{self / 'predictions.csv'} {fault}. {hint} Score again.")
        return table.assign(label=numbers["label"].astype(int), probability=numbers["probability"])

    def write_predictions(self, predictions):
        """Write predictions.csv, one row a view; rows of another split that it holds already stay."""
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
    """A run folder that another host writes: one reads from it, and what is to be written here is left to the other."""

    is_writable = False

    @contextlib.contextmanager
    def locked(self):
        yield

    def write_text(self, name, text):
        pass

    def write_csv(self, name, table):
        pass

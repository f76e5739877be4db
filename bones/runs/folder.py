"""Everything written to or read from a run folder: options, history, checkpoints, predictions, and what --resume needs.

Each file is written under a temporary name and renamed, so that a kill never leaves half a file under the real name.
Keras is imported only where a network is loaded: plot_results.py reads run folders without it.
"""

import contextlib
import errno
import json
import logging
import math
import os
import shutil
import sys
from pathlib import Path

import filelock
import numpy as np
import pandas as pd

from bones.system import files as disk
from bones.system.errors import RunError

HISTORY = [
    "epoch",
    "loss",
    "accuracy",
    "auroc",
    "val_loss",
    "val_accuracy",
    "val_auroc",
    "learning_rate",
    "seconds",
    "views_per_second",
]


LOCK = ".lock"  # held while a process trains into a folder
PARTIAL = ".partial-"  # what a file is called while it is written


def is_left_over(file):
    """Whether a file of a run folder is what a process that was killed at once may leave behind."""
    return file.name == LOCK or file.name.startswith(PARTIAL)


def number(low, high, kind=(int, float)):
    """Whether a value is a number between two others, which count in."""
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


def is_a(kind):
    """Whether a value is of a type."""
    return lambda value: isinstance(value, kind)


def is_names(value):
    """Whether a value is a list of texts."""
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


# What scoring and drawing need of run.json: a test, and what it expects.
SETTINGS = {
    "options": (is_a(dict), "an object"),
    "data": (is_a(dict), "an object"),
    "threshold": (number(0, 1), "a number from 0 to 1"),
    "temperature": (number(0.01, 100), "a number from 0.01 to 100"),
    "training_seconds": (lambda value: value is None or number(0, float("inf"))(value), "a number, or null"),
}
OPTIONS = {
    "network": (is_a(str), "a name"),
    "recipe": (is_a(str), "a name"),
    "weights": (is_a(str), "none, imagenet or a file"),
    "size": (number(1, 100_000, int), "a whole number above 0"),
    "resize": (lambda value: value in ("pad", "stretch"), "pad or stretch"),
    "epochs": (number(1, float("inf"), int), "a whole number above 0"),
    "study_type": (is_names, "a list of names"),
    "labels": (is_a((str, type(None))), "a file, or null"),
    "tuning_fraction": (number(0, 1), "a number from 0 to 1"),
    "seed": (number(0, 2**31, int), "a whole number"),
    "skip_unreadable": (is_a(bool), "true or false"),
}
PREDICTIONS = ["split", "study_type", "patient", "study", "view", "path", "label", "probability"]


def kept_epoch(val_auroc, chosen):
    """Which epoch best.h5 is of.

    Args:
        val_auroc: tuning AUROC of each epoch so far.
        chosen: the recipe's: "best", the highest, or "last".
    Returns: its place from 0; the first among equals.
    """
    return len(val_auroc) - 1 if chosen == "last" else int(np.argmax(val_auroc))


class RunFolder:
    """One run folder; reading and writing by file."""

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
        run = cls(path)
        if not (run / "run.json").is_file():
            found = "no such folder" if not run.path.exists() else "no run.json in it"
            raise RunError(f"{path} is no run folder ({found}). Expected a folder that mura.py made, such as runs/NAME.")
        return run

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
        target = self / name
        partial = target.with_name(PARTIAL + target.name)
        try:
            yield partial
            with open(partial, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(partial, target)
        except OSError as error:
            raise RunError(self.not_written(name, error)) from None
        finally:
            partial.unlink(missing_ok=True)

    def not_written(self, name, error):
        """The message on a file that could not be written."""
        return (
            f"{self / name} cannot be written ({disk.reason(error)}); what was saved before is as it was.\n"
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
        try:
            content = json.loads((self / name).read_text())
        except OSError as error:
            raise RunError(f"{self / name} cannot be read: {error.strerror}. Expected a file that our scripts write.") from None
        except ValueError as error:
            raise RunError(f"{self / name} is no JSON ({error}). Restore it from a copy, or train again.") from None
        if not isinstance(content, dict):
            raise RunError(f"{self / name} holds no JSON object. Restore it from a copy, or train again.")
        return content

    def settings(self):
        """run.json, checked for what scoring and drawing need: a dict with options, data, threshold and more."""
        settings = self.read_json("run.json")
        self.check_fields(settings, SETTINGS)
        self.check_fields(settings["options"], OPTIONS)
        self.check_fields(settings["data"], {"root": (is_a(str), "a folder")})
        return settings

    def check_fields(self, found, expected):
        """Raise RunError unless fields of a part of run.json are as expected."""
        for name, (is_right, text) in expected.items():
            if not is_right(found.get(name)):
                raise RunError(
                    f"{self / 'run.json'}: {name!r} is {found.get(name)!r}; expected {text}. Restore it from a copy."
                )

    # history.csv, predictions.csv

    def write_csv(self, name, table):
        with self.writing(name) as partial:
            table.to_csv(partial, index=False, errors="surrogateescape")

    def read_csv(self, name, columns, hint):
        """A table of the run with at least these columns; RunError, which ends with the hint, when it is not that."""
        try:
            table = pd.read_csv(self / name, encoding_errors="surrogateescape")
        except OSError as error:
            raise RunError(f"{self / name} cannot be read: {error.strerror}. {hint}") from None
        except ValueError as error:  # pandas' parser errors are such
            raise RunError(f"{self / name} is no table ({error}). {hint}") from None
        missing = [column for column in columns if column not in table]
        if missing:
            raise RunError(f"{self / name} lacks the columns {', '.join(missing)}; expected {','.join(columns)}. {hint}")
        return table

    def read_history(self):
        """history.csv: one row an epoch, from 1."""
        hint = "It is written by mura.py after the first epoch."
        history = self.read_csv("history.csv", HISTORY, hint)[HISTORY].apply(pd.to_numeric, errors="coerce")
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
        table = self.read_csv("predictions.csv", PREDICTIONS, hint)
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
            before = self.read_csv("predictions.csv", PREDICTIONS, "Remove it and score again.")
            others = before[~before["split"].isin(predictions["split"])]
            predictions = pd.concat([others, predictions]) if len(others) else predictions
        self.write_csv("predictions.csv", predictions[PREDICTIONS])

    def write_image(self, name, image):
        """Write a PIL image as PNG."""
        with self.writing(name) as partial:
            image.save(partial, format="PNG")

    # best.h5, last.h5

    def save_network(self, network, name):
        """Write a whole network that plain keras.models.load_model opens."""
        absl = logging.getLogger("absl")
        level = absl.level
        absl.setLevel(logging.ERROR)  # Keras calls .h5 a legacy format each time; it is what our users ask for
        try:
            with self.writing(name) as partial:
                # Each weight with its name and place; HDF5 starts the file anew, so what is left of the room is given back.
                disk.reserve(partial, 65536 + sum(4096 + 4 * math.prod(weight.shape) for weight in network.weights))
                network.save(partial)
        except RuntimeError as error:  # h5py's, when a file cannot even be closed
            raise RunError(self.not_written(name, error)) from None
        finally:
            absl.setLevel(level)

    def load_network(self, name="best.h5"):
        """The saved network, uncompiled, in Keras's safe mode, which runs no code that a file brings along.

        Raises: RunError when the file is missing or no network.
        """
        import keras

        path = self / name
        if not path.is_file():
            raise RunError(f"{path} does not exist. mura.py writes it after the first epoch; go on with --resume.")
        if not os.access(path, os.R_OK):
            raise RunError(f"{path} cannot be read: {os.strerror(errno.EACCES)}. Make it readable.")
        try:
            with tensorflow_out_of_sight():
                network = keras.models.load_model(path, compile=False, safe_mode=True)
        except Exception as error:  # h5py, json and Keras each raise their own
            reason = str(error).strip().split("\n")[0]
            raise RunError(
                f"{path} is no network that Keras opens ({reason}). Restore it from a copy, or train again."
            ) from None
        expected = {name: self.settings()["options"][name] for name in ("network", "size")}
        shapes = (network.input_shape, network.output_shape)
        if network.name != expected["network"] or shapes != ((None, expected["size"], expected["size"], 1), (None, 1)):
            raise RunError(
                f"{path} holds {network.name}, from {shapes[0]} to {shapes[1]}, but run.json says {expected['network']} at "
                f"{expected['size']} px: they are of different runs. Restore the run's own."
            )
        return network

    # resume/state.npz: one file, so that its parts are always of one epoch

    def save_state(self, variables, notes):
        """Write what a resumed run starts from.

        Args:
            variables: Keras variables in a fixed order: weights, random states, optimizer.
            notes: dict that goes into JSON: history, a list of dicts, one an epoch; begun, a dict on an epoch that is not
                done, or None; and more.
        """
        arrays = {f"variable{place:04d}": np.asarray(variable.numpy()) for place, variable in enumerate(variables)}
        with self.writing("resume/state.npz") as partial:
            partial.parent.mkdir(exist_ok=True)
            with open(partial, "wb") as file:
                np.savez(file, notes=json.dumps(notes), **arrays)

    def has_state(self):
        """Whether a state was saved: an epoch has ended, or training was asked to stop."""
        return (self / "resume/state.npz").exists()

    def load_state(self, variables):
        """Give variables the values of the last `save_state`.

        Returns: the notes as they were given, or None where no state was saved.
        Raises: RunError when the state is damaged or of another network.
        """
        path = self / "resume/state.npz"
        if not self.has_state():
            # A network alone is of a first epoch that was not saved whole.
            if (self / "history.csv").exists() or self.read_json("run.json").get("finished"):
                raise RunError(f"{path} is missing, so the epochs done cannot be gone on from. Train again into another --out.")
            return None
        try:
            # Opened here: of a damaged file, np.load raises and leaves its own open.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as state:
                arrays = [state[name] for name in sorted(state.files) if name.startswith("variable")]
                notes = json.loads(str(state["notes"]))
            if not (notes["history"] or notes.get("begun")) or any(row.keys() != set(HISTORY) for row in notes["history"]):
                raise ValueError("its history is not one of mura.py's")
            if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
                raise ValueError("its arrays have other shapes than the network's")
        except Exception as error:  # zipfile, numpy and json each raise their own
            raise RunError(f"{path} cannot be resumed from ({error}). Train again into another --out.") from None
        if notes["history"] and not (self / "best.h5").exists():
            raise RunError(f"{self / 'best.h5'} is missing; restore it from a copy, or train again into another --out.")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return notes


class Onlooker(RunFolder):
    """A run folder that another host writes: one reads from it, and what is to be written here is left to the other."""

    @contextlib.contextmanager
    def locked(self):
        yield

    def write_text(self, name, text):
        pass

    def write_csv(self, name, table):
        pass

    def save_network(self, network, name):
        pass

    def save_state(self, variables, notes):
        pass


# ---------------------------------------------------------------------------------------------------------------------
# What run.json says of the machine and the software


@contextlib.contextmanager
def tensorflow_out_of_sight():
    """On OpenVINO, which does without, keep Keras from importing TensorFlow to open a file: four seconds for nothing."""
    import keras

    hide = keras.backend.backend() == "openvino" and "tensorflow" not in sys.modules
    if hide:
        sys.modules["tensorflow"] = None  # an import of it now says that it is not installed
    try:
        yield
    finally:
        if hide:
            del sys.modules["tensorflow"]

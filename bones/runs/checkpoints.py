"""A run's networks, best.h5 and last.h5, and the state for --resume; the only module of the package that imports Keras."""

import contextlib
import errno
import json
import logging
import math
import os
import sys

import keras
import numpy as np

from bones.runs.folder import HISTORY
from bones.system import files
from bones.system.errors import RunError, short_message


def save_network(run, network, name):
    """Write a complete network that keras.models.load_model opens."""
    if not run.is_writable:
        return
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)  # Keras warns of the legacy format at each save; users ask for .h5
    try:
        with run.writing(name) as partial:
            # Each weight with its name and offset; HDF5 truncates the file, so unused space is released.
            files.reserve(partial, 65536 + sum(4096 + 4 * math.prod(weight.shape) for weight in network.weights))
            network.save(partial)
    except RuntimeError as error:  # from h5py, when it cannot close the file
        raise RunError(run.not_written(name, error)) from None
    finally:
        absl.setLevel(level)


def load_network(run, name="best.h5"):
    """The saved network, uncompiled, in Keras's safe mode, which runs no code from the file.

    Raises: RunError when the file is missing or is not a network.
    """
    path = run / name
    if not path.is_file():
        raise RunError(f"{path} does not exist. mura.py writes it after the first epoch; resume the run with --resume.")
    if not os.access(path, os.R_OK):
        raise RunError(f"{path} cannot be read: {os.strerror(errno.EACCES)}. Make it readable.")
    try:
        with hide_tensorflow():
            network = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # h5py, json and Keras each raise their own
        reason = short_message(error)
        raise RunError(
            f"{path} is not a network that Keras loads ({reason}). Restore it from a copy, or train again."
        ) from None
    options, shapes = run.record().options, (network.input_shape, network.output_shape)
    if network.name != options.network or shapes != ((None, options.size, options.size, 1), (None, 1)):
        raise RunError(
            f"{path} contains {network.name}, from {shapes[0]} to {shapes[1]}, but run.json says {options.network} at "
            f"{options.size} px: they belong to different runs. Restore this run's file."
        )
    return network


def save_state(run, variables, notes):
    """Write the state that a resumed run starts from, as one file, so that its parts are always of the same epoch.

    Args:
        variables: Keras variables in a fixed order: weights, random states, optimizer.
        notes: dict, saved as JSON: history, a list of dicts, one per epoch; begun, a dict on an unfinished epoch, or None;
            and more.
    """
    if not run.is_writable:
        return
    arrays = {f"variable{place:04d}": np.asarray(variable.numpy()) for place, variable in enumerate(variables)}
    with run.writing("resume/state.npz") as partial:
        partial.parent.mkdir(exist_ok=True)
        with open(partial, "wb") as file:
            np.savez(file, notes=json.dumps(notes), **arrays)


def has_state(run):
    """Whether a state was saved: after an epoch, or when training was stopped."""
    return (run / "resume/state.npz").exists()


def load_state(run, variables):
    """Assign the values of the last `save_state` to variables.

    Returns: the saved notes, or None where no state was saved.
    Raises: RunError when the state is damaged or belongs to another network.
    """
    path = run / "resume/state.npz"
    if not has_state(run):
        # A network without a state: the save after the first epoch was interrupted.
        if (run / "history.csv").exists() or run.read_json("run.json").get("finished"):
            raise RunError(f"{path} is missing, so training cannot be resumed. Train again into another --out.")
        return None
    try:
        # Opened here: np.load does not close its file when it raises on a damaged one.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as state:
            arrays = [state[name] for name in sorted(state.files) if name.startswith("variable")]
            notes = json.loads(str(state["notes"]))
        if not (notes["history"] or notes.get("begun")) or any(row.keys() != set(HISTORY) for row in notes["history"]):
            raise ValueError("its history was not written by mura.py")
        if [array.shape for array in arrays] != [tuple(variable.shape) for variable in variables]:
            raise ValueError("its arrays differ in shape from the network's")
    except Exception as error:  # zipfile, numpy and json each raise their own
        raise RunError(f"{path} cannot be resumed from ({short_message(error)}). Train again into another --out.") from None
    if notes["history"] and not (run / "best.h5").exists():
        raise RunError(f"{run / 'best.h5'} is missing; restore it from a copy, or train again into another --out.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return notes


@contextlib.contextmanager
def hide_tensorflow():
    """On OpenVINO, prevent Keras from importing TensorFlow to open a file, which is not needed and takes four seconds."""
    hide = keras.backend.backend() == "openvino" and "tensorflow" not in sys.modules
    if hide:
        sys.modules["tensorflow"] = None  # an import now raises ImportError
    try:
        yield
    finally:
        if hide:
            del sys.modules["tensorflow"]

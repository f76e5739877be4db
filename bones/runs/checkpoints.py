"""A run's networks, in best.h5 and last.h5 or .keras, and the state for --resume; the only module here that imports Keras."""

import errno
import json
import logging
import math
import os

import keras
import numpy as np

from bones.networks import saved
from bones.networks.acceleration import accelerate
from bones.networks.batches import predict
from bones.networks.catalogue import NETWORKS
from bones.runs.folder import HISTORY
from bones.system import backend, collectives, files
from bones.system.errors import RunError, short_message

PAIRS = [(f"best{ending}", f"last{ending}") for ending in saved.ENDINGS]


def network_names(run, network, pixels):
    """Names of the files for a run's networks: best.h5 and last.h5, or best.keras and last.keras.

    A run keeps what it has. A new one tries, before anything is trained: some layers of keras.applications can be saved in .h5,
    but not be opened again. Networks of the catalogue that are known to be held by .h5 are not tried, which takes seconds.

    Args:
        network: keras.Model that predicts.
        pixels: (n, size, size, 1) uint8 that both networks predict.
    Returns: (best, last).
    Raises: RunError when no format holds the network, or the folder cannot be written.
    """
    there = next((names for names in PAIRS if any((run / name).is_file() for name in names)), None)
    if there:
        return there
    return PAIRS[0] if NETWORKS[network.name].is_tried else tried_names(run, network, pixels)


def tried_names(run, network, pixels):
    """`network_names` by saving the network and opening it."""
    expected = predict(accelerate(network), pixels, len(pixels))  # of all hosts together
    for names in PAIRS:
        fault = fault_of_file(run, network, names[0], pixels, expected) if run.is_writable else None
        if fault is None:
            return names
    raise RunError(
        f"{network.name} cannot be saved and opened again ({fault}), so nothing was trained. Pass another --network."
    )


def fault_of_file(run, network, name, pixels, expected):
    """Why a file of a name, which has its format, does not hold a network; None where it does."""
    limit = 1e-3 if network.compute_dtype == "float32" else 2e-2  # of a probability; several devices round differently
    with run.scratch() as folder, collectives.on_this_host():
        path = folder / name
        try:
            write_network(network, path)
            opened = accelerate(open_network(path))
            found = predict(opened, pixels, len(pixels))  # compiled as `expected` is: rounding may differ in other ways
        except OSError as error:  # of the disk
            raise RunError(run.not_written(name, error)) from None
        except Exception as error:  # each layer raises its own
            return short_message(error)
        before, after = network.get_weights(), opened.get_weights()
        if len(before) != len(after) or not all(map(np.array_equal, before, after)):
            return "its weights change"
        difference = float(np.abs(found - expected).max())
        return None if difference <= limit else f"its probabilities change by {difference:.1g}"


def save_network(run, network, name):
    """Write a complete network that keras.models.load_model opens, under a name of `network_names`."""
    if not run.is_writable:
        return
    try:
        with run.writing(name) as partial:
            write_network(network, partial)
    except RuntimeError as error:  # from h5py, when it cannot close the file
        raise RunError(run.not_written(name, error)) from None


def write_network(network, path):
    """Save a network, after allocating the space of its file."""
    absl = logging.getLogger("absl")
    level = absl.level
    absl.setLevel(logging.ERROR)  # Keras warns of the legacy format at each save; users ask for .h5
    try:
        # Each weight with its name and offset; HDF5 truncates the file, so unused space is released.
        files.reserve(path, 65536 + sum(4096 + 4 * math.prod(weight.shape) for weight in network.weights))
        network.save(path)
    finally:
        absl.setLevel(level)


def open_network(path):
    """The network in a file, uncompiled, in Keras's safe mode, which runs no code from the file."""
    with backend.hide_tensorflow():
        return keras.models.load_model(path, compile=False, safe_mode=True)


def load_network(run, name="best.h5"):
    """The saved network, uncompiled, see `open_network`.

    Args:
        name: best.h5 or last.h5, also where a .keras file takes its place.
    Raises: RunError when the file is missing or is not a network.
    """
    path = run.network_file(name)
    if not path.is_file():
        raise RunError(f"{path} does not exist. mura.py writes it after the first epoch; resume the run with --resume.")
    if not os.access(path, os.R_OK):
        raise RunError(f"{path} cannot be read: {os.strerror(errno.EACCES)}. Make it readable.")
    try:
        network = open_network(path)
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
    if notes["history"] and not run.network_file().exists():
        raise RunError(f"{run.network_file()} is missing; restore it from a copy, or train again into another --out.")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    return notes

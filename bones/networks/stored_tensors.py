"""Tensors of a weights file beside the weights of a network: whether all are there and fit, and how they are taken."""

from typing import Any, NamedTuple

import numpy as np


class Stored(NamedTuple):
    """A tensor of a file."""

    name: str  # in the file
    values: Any = None  # np.ndarray or h5py.Dataset, which is read once its shape is known to fit; None: missing
    axes: tuple = ()  # the network's axis i is the file's axes[i]; empty: the same order


def misfit(weight, stored):
    """Why a weight cannot take a tensor, with shapes as the file has them; None where it can."""
    expected = list(weight.shape)
    for place, axis in enumerate(stored.axes):
        expected[axis] = weight.shape[place]
    if stored.values is None:
        return f"{stored.name}: missing, expected {as_text(expected)}"
    if tuple(stored.values.shape) != tuple(expected):
        return f"{stored.name}: {as_text(stored.values.shape)}, expected {as_text(expected)}"
    if stored.values.dtype.kind != "f":
        return f"{stored.name}: values of type {stored.values.dtype}, expected floating point"
    return None


def as_text(shape):
    """A shape as text, such as 7 x 7 x 3 x 64."""
    return " x ".join(map(str, shape)) or "one number"


def assign(pairs):
    """Give weights the values of tensors, all of them or, where one is damaged, none.

    Args:
        pairs: [(keras.Variable, Stored)] without a misfit.
    Raises: ValueError when a value is not a finite number in 32 bits.
    """
    found = []
    for _, stored in pairs:
        with np.errstate(over="ignore"):
            values = np.asarray(stored.values[()], np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{stored.name} has values that are not finite")
        found.append(values.transpose(stored.axes) if stored.axes else values)
    for (weight, _), values in zip(pairs, found, strict=True):
        weight.assign(values)

"""Weights in PyTorch's file format of before version 1.6 -> arrays by name, without PyTorch and without running the file.

Such a file is five pickles, then the values. A pickle may call any function, so `Reader` replaces what this format needs, an
ordered dict, tensors and two kinds of storage, by data, and refuses every other name.
"""

import collections
import functools
import pickle
from typing import NamedTuple

import numpy as np

from bones.system.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}  # values of a storage, little-endian


class Storage(NamedTuple):
    """Values that tensors share."""

    dtype: str
    key: str
    count: int


class Tensor(NamedTuple):
    """A view of a storage; offset and strides in values."""

    storage: Storage
    offset: int
    shape: tuple
    strides: tuple
    requires_grad: bool
    hooks: dict


class Reader(pickle.Unpickler):
    """Reads one pickle, in which names stand for data alone."""

    def find_class(self, module, name):
        """A stand-in for a name in the pickle."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return functools.partial(Tensor)  # a new object, because a pickle can set attributes of what it names
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which weights do not need")

    def persistent_load(self, identity):
        """The storage that a tuple in the pickle describes."""
        kind, dtype, key, _, count, _ = identity
        if kind != "storage" or dtype not in STORAGES.values():
            raise pickle.UnpicklingError("it has values of an unknown kind")
        return Storage(dtype, key, count)


def read(path):
    """Tensors of a file.

    Args:
        path: file that torch.save wrote before version 1.6, of a dict of tensors.
    Returns: {name: numpy.ndarray}.
    Raises: WeightsError when the file is of another kind, is damaged, or names anything but tensors.
    """
    try:
        with open(path, "rb") as file:
            if Reader(file).load() != MAGIC:
                raise pickle.UnpicklingError("its first number is another")
            _, _, tensors, keys = (Reader(file).load() for _ in range(4))  # version, sizes of C types, tensors, storages
            storages = {storage.key: storage for storage in (tensor.storage for tensor in dict.values(tensors))}
            values = {key: read_storage(file, storages[key]) for key in keys}
        return {name: array(tensor, values[tensor.storage.key]) for name, tensor in dict.items(tensors)}
    except Exception as error:  # a damaged pickle raises almost any
        raise WeightsError(
            f"{path} does not contain tensors in PyTorch's format of before version 1.6 ({error or type(error).__name__}).\n"
            "Expected a file of torch.save with names and tensors alone. Nothing in it was run."
        ) from None


def read_storage(file, storage):
    """The values of a storage, at the current position of a file."""
    count = int.from_bytes(file.read(8), "little")
    values = np.frombuffer(file.read(storage.count * np.dtype(storage.dtype).itemsize), storage.dtype)
    if not count == storage.count == len(values):
        raise ValueError("it ends early, or a count in it is wrong")
    return values


def array(tensor, values):
    """The array of a tensor, from the values of its storage."""
    whole = [tensor.offset, *tensor.shape, *tensor.strides]
    if any(type(number) is not int or number < 0 for number in whole) or len(tensor.shape) != len(tensor.strides):
        raise ValueError("a shape in it is wrong")
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    if 0 in tensor.shape or last >= len(values) or np.prod(tensor.shape, dtype=object) > len(values):
        raise ValueError("a tensor in it is larger than its values")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides).copy()

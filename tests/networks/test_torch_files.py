"""PyTorch's old file format: values as PyTorch has them, and a file that names anything else is refused before it does harm."""

import collections
import contextlib
import io
import os
import pickle
import sys
import types

import numpy as np
import pytest

from bones.networks import torch_files
from bones.system.errors import WeightsError

PROTOCOL = 1001
SIZES = {"protocol_version": PROTOCOL, "little_endian": True}


class Storage:
    """What a fake torch pickles by reference: values, and the number under which they follow."""

    def __init__(self, key, values):
        self.key, self.values = key, np.ascontiguousarray(values)


class Tensor:
    """What torch pickles as a call of _rebuild_tensor_v2."""

    def __init__(self, storage, offset, shape, strides):
        self.content = storage, offset, shape, strides, False, collections.OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.content


class Pickler(pickle.Pickler):
    """Writes storages as torch did."""

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        torch = sys.modules["torch"]
        kind = {"f": torch.FloatStorage, "i": torch.LongStorage}[value.values.dtype.kind]
        return "storage", kind, value.key, "cpu", len(value.values), None


@pytest.fixture(autouse=True)
def fake_torch(monkeypatch):
    """Modules with the names that torch's pickles contain."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise AssertionError("reading calls nothing of torch")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "LongStorage", "HalfStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    torch._utils = utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def content(tensors, storages, magic=torch_files.MAGIC, extra=None):
    """Bytes of a file as torch.save wrote them before version 1.6."""
    buffer = io.BytesIO()
    keys = [storage.key for storage in storages]
    for part in (magic, PROTOCOL, SIZES, tensors, keys if extra is None else extra):
        Pickler(buffer, protocol=2).dump(part)
    for storage in storages:
        buffer.write(len(storage.values).to_bytes(8, "little") + storage.values.tobytes())
    return buffer.getvalue()


@pytest.fixture
def example():
    """(bytes, expected): tensors that share values, are turned, and of whole numbers."""
    values = np.arange(24, dtype=np.float32) / 7
    floats, counts = Storage("a", values), Storage("b", np.array([5], np.int64))
    tensors = collections.OrderedDict(
        whole=Tensor(floats, 0, (2, 3, 4), (12, 4, 1)),
        turned=Tensor(floats, 4, (4, 3), (1, 4)),
        batches=Tensor(counts, 0, (), ()),
    )
    expected = {"whole": values.reshape(2, 3, 4), "turned": values[4:16].reshape(3, 4).T, "batches": np.array(5)}
    return content(tensors, [floats, counts]), expected


def read(tmp_path, data):
    (tmp_path / "weights.pth").write_bytes(data)
    return torch_files.read(tmp_path / "weights.pth")


def test_values(example, tmp_path):
    data, expected = example
    found = read(tmp_path, data)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert np.array_equal(found[name], values) and found[name].dtype == values.dtype and found[name].flags.owndata


class Harm:
    """A pickle of it makes a folder when it is loaded by Python's own unpickler."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("place", ["magic", "tensors", "keys", "value"])
def test_hostile_files_do_nothing(place, example, tmp_path):
    folder = str(tmp_path / "harm")
    harm = Harm(folder)
    data = {
        "magic": content({}, [], magic=harm),
        "tensors": content(harm, []),
        "keys": content({}, [], extra=harm),
        "value": content(collections.OrderedDict(weight=harm), []),
    }[place]
    with pytest.raises(WeightsError, match=r"names posix.mkdir|names nt.mkdir") as raised:
        read(tmp_path, data)
    assert "Nothing in it was run" in str(raised.value) and not os.path.exists(folder)
    stream = io.BytesIO(data)
    while not os.path.exists(folder):  # it would have done harm
        Python(stream).load()


class Python(pickle.Unpickler):
    """Python's own, for the file of the test."""

    def persistent_load(self, identity):
        return identity


@pytest.mark.parametrize("name", ["builtins.eval", "torch.load", "torch.HalfStorage", "torch._utils.os", "collections.abc.sys"])
def test_other_names_are_refused(name, tmp_path):
    module, _, attribute = name.rpartition(".")
    text = f"c{module}\n{attribute}\n.".encode()
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        read(tmp_path, text)


def test_a_pickle_cannot_change_what_it_names(tmp_path):
    """Its state is set on a new object, not on the function that reads the next file."""
    text = b"ctorch._utils\n_rebuild_tensor_v2\n}S'keywords'\n}sb."
    for _ in range(2):
        with pytest.raises(WeightsError):
            read(tmp_path, text)
    assert torch_files.Reader(io.BytesIO(b"ctorch._utils\n_rebuild_tensor_v2\n.")).load().func is torch_files.Tensor


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [((25,), (1,), 0), ((24,), (1,), 1), ((10**9, 10**9), (0, 0), 0), ((2,), (-1,), 3), ((2, 2), (1,), 0), ((2.5,), (1,), 0)],
)
def test_shapes_that_do_not_fit_are_refused(shape, strides, offset, tmp_path):
    storage = Storage("a", np.zeros(24, np.float32))
    with pytest.raises(WeightsError):
        read(tmp_path, content(collections.OrderedDict(weight=Tensor(storage, offset, shape, strides)), [storage]))


def test_damaged_files_are_refused(example, tmp_path):
    data, _ = example
    for length in range(0, len(data), 7):
        with pytest.raises(WeightsError, match="does not contain tensors"):
            read(tmp_path, data[:length])
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        with contextlib.suppress(WeightsError):
            read(tmp_path, bytes(damaged))
    with pytest.raises(WeightsError, match="absent"):
        torch_files.read(tmp_path / "absent")

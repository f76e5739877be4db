"""PyTorch's file formats: values as PyTorch has them, and a file that names anything else is refused before it does harm."""

import argparse
import collections
import contextlib
import io
import os
import pathlib
import pickle
import sys
import types
import zipfile

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
        kinds = {"f4": torch.FloatStorage, "i8": torch.LongStorage, "f2": torch.HalfStorage, "u2": torch.BFloat16Storage}
        kind = kinds[value.values.dtype.str[1:]]
        return "storage", kind, value.key, "cpu", len(value.values), None


@pytest.fixture(autouse=True)
def fake_torch(monkeypatch):
    """Modules with the names that torch's pickles contain."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        raise AssertionError("reading calls nothing of torch")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    for name in ("FloatStorage", "LongStorage", "HalfStorage", "BFloat16Storage"):
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
        assert np.array_equal(found[name], values) and found[name].dtype == values.dtype and not found[name].flags.writeable


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


@pytest.mark.parametrize(
    "name", ["builtins.eval", "torch.load", "torch.QInt8Storage", "torch._utils.os", "collections.abc.sys"]
)
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
    [((25,), (1,), 0), ((24,), (1,), 1), ((10**18, 10**18), (0, 0), 0), ((2,), (-1,), 3), ((2, 2), (1,), 0), ((2.5,), (1,), 0)],
)
def test_shapes_that_do_not_fit_are_refused(shape, strides, offset, tmp_path):
    storage = Storage("a", np.zeros(24, np.float32))
    with pytest.raises(WeightsError):
        read(tmp_path, content(collections.OrderedDict(weight=Tensor(storage, offset, shape, strides)), [storage]))


def damage(data, tmp_path, change):
    """Read a file cut at many lengths, which is refused, and with one byte of it changed, which raises nothing else.

    Args: change: f(byte, random generator) -> byte.
    """
    for length in range(0, len(data), 7):
        with pytest.raises(WeightsError, match="does not contain tensors"):
            read(tmp_path, data[:length])
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged, place = bytearray(data), rng.integers(len(data))
        damaged[place] = change(damaged[place], rng)
        with contextlib.suppress(WeightsError):
            read(tmp_path, bytes(damaged))


def test_damaged_files_are_refused(example, tmp_path):
    damage(example[0], tmp_path, lambda byte, rng: rng.integers(256))
    with pytest.raises(WeightsError, match="absent"):
        torch_files.read(tmp_path / "absent")


# ---------------------------------------------------------------------------------------------------------------------
# The format since version 1.6


def zipped(tensors, storages, method=zipfile.ZIP_STORED, order=b"little", **other):
    """Bytes of a file as torch.save writes them now; `other` are parts in place of these."""
    pickled, buffer = io.BytesIO(), io.BytesIO()
    Pickler(pickled, protocol=2).dump(tensors)
    parts = {"data.pkl": pickled.getvalue(), "byteorder": order, "version": b"3\n"}
    parts |= {f"data/{storage.key}": storage.values.tobytes() for storage in storages} | other
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, part in parts.items():
            archive.writestr(f"weights/{name}", part)
    return buffer.getvalue()


@pytest.fixture
def now():
    """(tensors, storages, expected): also of 16 bits, and one number that is repeated."""
    floats, halves = Storage("0", np.arange(6, dtype=np.float32)), Storage("1", np.array([0.5, 2], np.float16))
    upper = Storage("2", np.array([0x3F80, 0xC000], np.uint16))  # 1 and -2
    tensors = collections.OrderedDict(
        whole=Tensor(floats, 0, (2, 3), (3, 1)),
        repeated=Tensor(floats, 2, (4, 5), (0, 0)),
        half=Tensor(halves, 0, (2,), (1,)),
        upper=Tensor(upper, 0, (2,), (1,)),
    )
    expected = {"whole": floats.values.reshape(2, 3), "repeated": np.full((4, 5), 2.0)}
    return tensors, [floats, halves, upper], expected | {"half": halves.values, "upper": np.array([1, -2])}


def test_zipped_values(now, tmp_path):
    tensors, storages, expected = now
    found = read(tmp_path, zipped(tensors, storages))
    assert list(found) == list(expected) and all(np.array_equal(found[name], values) for name, values in expected.items())


@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("write", [zipped, content])
def test_checkpoints(name, write, now, tmp_path):
    """A tensor beside the weights, as the best score of PyTorch's own example, is not taken for them."""
    tensors, storages, expected = now
    best = Storage("9", np.array([0.5], np.float32))
    options = argparse.Namespace(lr=0.1, folder=pathlib.PosixPath("x") if os.name == "posix" else None)
    checkpoint = {"epoch": 7, "best": Tensor(best, 0, (), ()), "options": options, name: tensors, "optimizer": {"state": {}}}
    assert list(read(tmp_path, write(checkpoint, [*storages, best]))) == list(expected)


def test_a_repeated_number_takes_no_memory(tmp_path):
    one = Storage("0", np.ones(1, np.float32))
    found = read(tmp_path, zipped({"weight": Tensor(one, 0, (10**6, 10**6), (0, 0))}, [one]))
    assert found["weight"].shape == (10**6, 10**6) and found["weight"].strides == (0, 0)


def test_zipped_files_that_are_refused(now, tmp_path):
    tensors, storages, _ = now
    folder = str(tmp_path / "harm")
    bomb = b"\x80\x02}r\xff\xff\xff\xf0."  # numbers a dict 4,043,309,055: 64 GB in Python's own unpickler
    for data, message in (
        (zipped({"weight": Harm(folder)}, []), r"names (posix|nt)\.mkdir"),
        (zipped(tensors, storages, zipfile.ZIP_DEFLATED), "compressed"),
        (zipped(tensors, storages, order=b"big"), "big-endian"),
        (zipped(tensors, storages, **{"data/0": bytes(20)}), "count in it is wrong"),
        (zipped(tensors, storages[1:]), "no item named"),
        (zipped(tensors, storages, **{"other/data.pkl": b""}), "more than one"),
        (zipped(tensors, storages, **{"data.pkl": bomb}), "a number in it is too large"),
        (zipped([1], []), "no dict of tensors"),
        (zipped({"state_dict": {"epoch": 3}}, []), "no dict of tensors"),
    ):
        with pytest.raises(WeightsError, match=message):
            read(tmp_path, data)
    assert not os.path.exists(folder)


def test_zipped_files_cut_or_changed(now, tmp_path):
    damage(zipped(*now[:2]), tmp_path, lambda byte, rng: byte ^ 1 << rng.integers(8))


def test_what_data_beside_weights_may_do(tmp_path):
    """Its attributes go nowhere, also where a pickle gives them to the class."""
    for text in (b"cargparse\nNamespace\n}S'x'\nI1\nsb.", b"cargparse\nNamespace\n(N}S'x'\nI1\nstb."):
        with pytest.raises(WeightsError):
            read(tmp_path, text)
    assert not hasattr(torch_files.Ignored, "x")


def test_files_of_torch_itself(tmp_path, monkeypatch):
    for name in ("torch", "torch._utils"):
        monkeypatch.delitem(sys.modules, name)
    torch = pytest.importorskip("torch")
    values = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7
    state = {"a": values, "turned": values.T[1:], "half": values.half(), "upper": values.bfloat16(), "count": torch.tensor(3)}
    state |= {"repeated": torch.ones(1).expand(5, 2), "parameter": torch.nn.Parameter(values), "double": values.double()}
    for zip_format in (True, False):
        torch.save({"state_dict": state, "best": values[0, 1]}, tmp_path / "x.pt", _use_new_zipfile_serialization=zip_format)
        found = torch_files.read(tmp_path / "x.pt")
        assert found.keys() == state.keys()
        for name, tensor in state.items():
            assert np.array_equal(found[name], tensor.detach().to(torch.float64).numpy()), name

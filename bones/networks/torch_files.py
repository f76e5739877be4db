"""Tensors in PyTorch's files -> arrays by name, without PyTorch and without running the file.

Since version 1.6 such a file is a .zip of one pickle and the values; before that it was five pickles, then the values. A pickle
may call any function, so `Reader` replaces what weights need, an ordered dict, tensors and storages, by data, ignores a few
harmless kinds of data that checkpoints contain beside them, and refuses every other name.
"""

import collections
import functools
import io
import pickle
import pickletools
import warnings
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bones.system.errors import WeightsError, short_message
from bones.system.files import printable

MAGIC = 0x1950A86A20F9469CFC6C  # torch.serialization.MAGIC_NUMBER
BFLOAT16 = "bfloat16"  # the upper half of a float32, which NumPy lacks
STORAGES = {  # values of a storage, little-endian
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
STATES = ("state_dict", "model_state_dict", "model")  # where a checkpoint has its tensors
BESIDE_WEIGHTS = {  # data that training scripts save with them: options, best scores
    ("argparse", "Namespace"),
    ("pathlib", "PosixPath"),
    ("collections", "defaultdict"),
    ("torch", "device"),
    ("torch", "Size"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
}
MEMO = {"PUT", "BINPUT", "LONG_BINPUT"}  # opcodes that number an object


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


class Ignored:
    """Stands for data of BESIDE_WEIGHTS: accepts what a pickle gives it, and is not read."""

    def __new__(cls, *_, **__):
        return super().__new__(cls)

    def __setstate__(self, state):
        """Ignore attributes; where a pickle gives them to the class itself, an argument is missing, which raises an error."""

    def __setitem__(self, key, value):
        """Ignore an item."""


def parameter(tensor, *_):
    """The tensor of a torch.nn.Parameter."""
    return tensor


class Reader(pickle.Unpickler):
    """Reads one pickle, in which names stand for data alone; `storages` are those that it mentions, by key."""

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        """A stand-in for a name in the pickle; a new object where a pickle could set attributes of it."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return functools.partial(Tensor)
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return functools.partial(parameter)
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) in BESIDE_WEIGHTS:
            return Ignored
        raise pickle.UnpicklingError(f"it names {module}.{name}, which weights do not need")

    def persistent_load(self, identity):
        """The storage that a tuple in the pickle describes."""
        kind, dtype, key, _, count, *view = identity
        if kind != "storage" or dtype not in STORAGES.values() or any(view) or type(count) is not int or type(key) is not str:
            raise pickle.UnpicklingError("it has values of an unknown kind")
        return self.storages.setdefault(key, Storage(dtype, key, count))


def read(path):
    """Tensors of a file.

    Args:
        path: file that torch.save wrote, of a dict of tensors, or of a dict that has one under a name of STATES.
    Returns: {name: numpy.ndarray}, read-only; tensors that share values share them here, too. bfloat16 becomes float32.
    Raises: WeightsError when the file is of another kind, is damaged, or names anything but tensors.
    """
    try:
        content, values = (read_zip if zipfile.is_zipfile(path) else read_before_1_6)(path)
        return {name: array(tensor, values[tensor.storage.key]) for name, tensor in state(content).items()}
    except Exception as error:  # a damaged pickle raises almost any
        reason = "it is cut off or damaged" if isinstance(error, (UnicodeError, EOFError)) else short_message(error)
        raise WeightsError(
            f"{path} does not contain tensors in PyTorch's format ({printable(reason)}).\n"
            "Expected a file of torch.save with names and tensors alone, as of model.state_dict(). Nothing in it was run."
        ) from None


def read_zip(path):
    """(content, {key: values}) of a file since version 1.6. Of a checkpoint, the values of its tensors alone are read."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, which torch.save does not do")
        if sum(member.file_size for member in members) > Path(path).stat().st_size:
            raise ValueError("its parts are larger than the file")
        names = [member.filename for member in members if member.filename.split("/")[-1] == "data.pkl"]
        if len(names) != 1:
            raise ValueError("it has no data.pkl, or more than one")
        folder = names[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are big-endian")
        content, _ = load(io.BytesIO(archive.read(names[0])))
        storages = {tensor.storage.key: tensor.storage for tensor in state(content).values()}
        return content, {key: as_values(archive.read(f"{folder}data/{key}"), storage) for key, storage in storages.items()}


def read_before_1_6(path):
    """(content, {key: values}) of a file of before version 1.6."""
    file = io.BytesIO(Path(path).read_bytes())
    if load(file)[0] != MAGIC:
        raise pickle.UnpicklingError("its first number is another")
    load(file)  # the format's version
    machine, _ = load(file)
    if machine.get("little_endian") is False:
        raise ValueError("its numbers are big-endian")
    content, storages = load(file)
    keys, _ = load(file)
    return content, {key: read_storage(file, storages[key]) for key in keys}


def load(file):
    """The content of the next pickle of a stream of bytes, and the storages that it mentions, {key: Storage}.

    Each opcode is looked at first: the unpickler allocates memory for the number that an object is given, whatever it is.
    """
    start = file.tell()
    with warnings.catch_warnings(action="ignore"):  # of escapes in the text of a damaged file
        for operation, number, _ in pickletools.genops(file):
            if operation.name in MEMO and number > file.tell():
                raise pickle.UnpicklingError("a number in it is too large")
    whole = io.BytesIO(file.getbuffer()[start : file.tell()])
    reader = Reader(whole)
    return reader.load(), reader.storages


def state(content):
    """{name: Tensor} of what a file contains. Raises: ValueError when it has no dict of tensors."""
    if isinstance(content, dict):
        inner = [dict.get(content, name) for name in STATES]
        for found in (*inner, content):  # in this order: a checkpoint may have a tensor beside them, such as its best score
            if not isinstance(found, dict):
                continue
            tensors = {name: value for name, value in dict.items(found) if isinstance(value, Tensor)}
            if tensors:
                return tensors
    raise ValueError(f"it has no dict of tensors, nor one under {', '.join(STATES)}")


def read_storage(file, storage):
    """The values of a storage, at the current position of a file of before version 1.6."""
    count = int.from_bytes(file.read(8), "little")
    if count != storage.count:
        raise ValueError("it ends early, or a count in it is wrong")
    return as_values(file.read(count * item_bytes(storage.dtype)), storage)


def item_bytes(dtype):
    """Bytes of one value."""
    return 2 if dtype == BFLOAT16 else np.dtype(dtype).itemsize


def as_values(data, storage):
    """The values of a storage from their bytes."""
    if len(data) != storage.count * item_bytes(storage.dtype):
        raise ValueError("it ends early, or a count in it is wrong")
    return numbers(data, storage.dtype)


def numbers(data, dtype):
    """Bytes as an array of one axis; bfloat16 as float32."""
    if dtype == BFLOAT16:
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, dtype)


def array(tensor, values):
    """The array of a tensor: a view of its storage's values, which a file may repeat as often as it says (stride 0)."""
    whole = [tensor.offset, *tensor.shape, *tensor.strides]
    if any(type(number) is not int or number < 0 for number in whole) or len(tensor.shape) != len(tensor.strides):
        raise ValueError("a shape in it is wrong")
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    if 0 in tensor.shape or last >= len(values):
        raise ValueError("a tensor in it is larger than its values")
    strides = [stride * values.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)

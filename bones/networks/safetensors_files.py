"""Tensors in a .safetensors file -> arrays by name: eight bytes with the length of a header, the header as JSON, the values.

It stands alone as the one reader of this format, which needs no package of its own.
Source: the format's description at https://huggingface.co/docs/safetensors.
"""

import json
import math

import numpy as np

from bones.networks.torch_files import BFLOAT16, item_bytes, numbers
from bones.system.errors import WeightsError, short_message
from bones.system.files import printable

KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": BFLOAT16, "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"}
KINDS |= {"U8": "|u1", "BOOL": "|b1"}


def read(path):
    """Tensors of a file.

    Returns: {name: numpy.ndarray}, read-only; bfloat16 becomes float32.
    Raises: WeightsError when the file is damaged, or has values of another kind.
    """
    try:
        content = np.memmap(path, np.uint8, mode="r")
        start = 8 + int.from_bytes(content[:8].tobytes(), "little")
        if start > len(content):
            raise ValueError("its header is longer than the file")
        header = json.loads(content[8:start].tobytes())
        return {name: tensor(content[start:], **entry) for name, entry in header.items() if name != "__metadata__"}
    except Exception as error:  # damaged JSON raises many
        reason = printable(short_message(error))
        raise WeightsError(
            f"{path} is not a complete .safetensors file ({reason}).\nExpected names, shapes and values of tensors."
        ) from None


def tensor(content, dtype, shape, data_offsets):
    """A tensor of a file, from the bytes behind its header."""
    begin, end = data_offsets
    if dtype not in KINDS:
        raise ValueError(f"it has values of the kind {dtype}")
    if any(type(number) is not int or number < 0 for number in (*shape, begin, end)) or end > len(content):
        raise ValueError("a shape in it is wrong, or it ends early")
    if math.prod(shape) * item_bytes(KINDS[dtype]) != end - begin:
        raise ValueError("a tensor's shape and its values differ in size")
    return numbers(content[begin:end], KINDS[dtype]).reshape(shape)

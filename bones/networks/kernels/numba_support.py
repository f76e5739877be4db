"""Support for loops compiled by Numba: pointers, bfloat16, and machine code cached on disk."""

import numpy as np
from llvmlite import binding, ir  # the compiler of Numba
from numba import config, njit, types  # compiles loops for the processor at hand
from numba.extending import intrinsic, overload

SLICES = 32
BLOCK = 16  # rows of all channels that fit the first-level cache
U16, U32 = np.uint16, np.uint32
HAS_BFLOAT16 = not config.CPU_NAME and binding.get_host_cpu_features().get("avx512bf16", False)
# Sums may be reordered for vector units; NaN and infinity are preserved.
JIT = {"parallel": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


def compiled(function):
    """The function as machine code, cached on disk where a folder is writable."""
    try:
        return njit(cache=True, **JIT)(function)
    except RuntimeError:  # neither this file's folder nor the home folder is writable
        return njit(**JIT)(function)


@intrinsic
def pointer(typing_context, address):
    """A memory address as the pointer that carray takes."""
    return types.voidptr(types.uint64), lambda context, builder, signature, arguments: builder.inttoptr(
        arguments[0], context.get_value_type(types.voidptr)
    )


class BFloat16(ir.Type):
    """The type's name in LLVM, which llvmlite does not know."""

    def _to_string(self):
        return "bfloat"


@intrinsic
def bfloat16_bits(typing_context, value):
    """A float32 rounded to bfloat16, ties to even, as uint16, by the CPU's instruction."""
    return types.uint16(types.float32), lambda context, builder, signature, arguments: builder.bitcast(
        builder.fptrunc(arguments[0], BFloat16()), ir.IntType(16)
    )


def as_float(stored):
    """float32 of a stored value: a float32, or the bits of a bfloat16, which are the upper half of a float32's."""


@overload(as_float)
def _as_float(stored):
    if isinstance(stored, types.Integer):
        return lambda stored: U32(U32(stored) << U32(16)).view(np.float32)
    return lambda stored: stored


def store(row, column, value):
    """Store a float32; rounded to bfloat16, ties to even, where the row has bits of bfloat16."""


@overload(store)
def _store(row, column, value):
    if not isinstance(row.dtype, types.Integer):

        def store_float32(row, column, value):
            row[column] = value

        return store_float32

    def store_by_instruction(row, column, value):
        row[column] = bfloat16_bits(value)

    def store_bfloat16(row, column, value):
        bits = np.float32(value).view(np.uint32)
        odd = U32(U32(bits >> U32(16)) & U32(1))
        row[column] = U16(U32(U32(bits + U32(0x7FFF)) + odd) >> U32(16)) if value == value else U16(0x7FC0)

    return store_by_instruction if HAS_BFLOAT16 else store_bfloat16

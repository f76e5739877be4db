"""Batch normalisation and ReLU over channels-last arrays, forward and back, in one pass over memory each, for the local CPU.

    y = min(max(gamma (x - mean) / sqrt(variance + epsilon) + beta, low), high)       per channel, the last axis

The bounds low and high are 0 and infinity for ReLU, 0 and 6 for ReLU6, and infinite where no activation follows.

The channels of x may lie in several arrays, as a dense block makes them: they are read in place and never concatenated,
and the mean and variance of each are computed once. Values are float32 or bfloat16; sums are float32, over 32 fixed slices of
the rows, so that results do not depend on the number of threads. This module does not import TensorFlow; fused.py uses it.

Source: Ioffe and Szegedy 2015, arXiv 1502.03167; Pleiss et al. 2017, arXiv 1707.06990, on dense blocks without copies.
"""

import itertools
import math

import numpy as np
from numba import carray, prange  # compiles loops for the processor at hand

from bones.networks.kernels.numba_support import BLOCK, SLICES, as_float, compiled, pointer, store

RELU = (0.0, math.inf)  # bounds of y
ROW = 128  # values; neighbouring pixels of fewer channels are computed as one row of at least so many: vectors need long rows

# ---------------------------------------------------------------------------------------------------------------------
# Functions for fused.py


@np.errstate(all="ignore")  # NaN and infinity propagate; training reports them
def normalise(epsilon, gamma, beta, mean, variance, *parts, bounds=RELU):
    """Batch normalisation and ReLU.

    Args:
        gamma, beta: (channels,) float32.
        mean, variance: (known,) float32, of the first channels: of all, or of all but the last part's, which are computed.
        parts: arrays (..., some channels), float32 or bfloat16, with the channels in order.
        bounds: (low, high), between which y is clipped.
    Returns: [y, mean, variance]: (..., channels) like the parts, and (channels,) twice. The variance divides by n.
    """
    channels, known = len(gamma), len(mean)
    y = empty([(*parts[0].shape[:-1], channels)], parts[0].dtype)[0]
    whole_mean, whole_variance = np.empty((2, channels), np.float32)
    whole_mean[:known], whole_variance[:known] = mean, variance
    if known < channels:
        whole_mean[known:], whole_variance[known:] = moments(parts[-1])
    pixels = pixels_in_row(parts)
    affine_map = np.tile(affine(epsilon, gamma, beta, whole_mean, whole_variance), pixels)
    scale_clip(addresses(parts), starts(parts, pixels), *affine_map, *np.float32(bounds), as_rows(y, pixels))
    return [y, whole_mean, whole_variance]


@np.errstate(all="ignore")
def normalise_back(epsilon, known, count, dy, d_mean, d_variance, gamma, beta, mean, variance, *arrays, bounds=RELU):
    """Gradients of `normalise`.

    Args:
        known: how many means were given.
        count: how many parts.
        dy, d_mean, d_variance: gradients of its results.
        mean, variance: its results.
        arrays: the parts; and, if other layers read them too, the gradients of those, to be added.
        bounds: of `normalise`.
    Returns: [d_gamma, d_beta, d_mean, d_variance, *d_parts], the third and fourth (known,).
    """
    parts, others = arrays[:count], arrays[count:]
    scale, shift = affine(epsilon, gamma, beta, mean, variance)
    d_parts = empty([part.shape for part in parts], dy.dtype)
    pixels = pixels_in_row(parts)
    slices = np.zeros((2, SLICES, pixels * len(gamma)), np.float32)
    places = addresses(parts), addresses(d_parts), addresses(others) if others else None
    affine_map = np.tile((scale, shift), pixels)
    scale_clip_gradient(*places, starts(parts, pixels), *affine_map, *np.float32(bounds), as_rows(dy, pixels), *slices)
    sums, products = slices.sum(1).reshape(2, pixels, -1).sum(1)
    deviation = np.sqrt(variance + np.float64(epsilon))
    products -= mean * sums  # of dy and x - mean
    d_gamma = np.float32(products / deviation)
    d_mean = np.float32(d_mean - scale * sums)
    d_variance = np.float32(d_variance - 0.5 * scale * products / deviation**2)
    if known < len(gamma):
        n, pixels = len(as_rows(parts[-1])), pixels_in_row(parts[-1:])
        slope = 2 * d_variance[known:] / n
        affine_map = np.tile((slope, d_mean[known:] / n - slope * mean[known:]), pixels)
        add_affine(as_rows(parts[-1], pixels), *affine_map, as_rows(d_parts[-1], pixels))
    return [d_gamma, sums, d_mean[:known], d_variance[:known], *d_parts]


def moments(x):
    """Mean and variance of each channel of x, (..., channels): (channels,) float32 each."""
    pixels = pixels_in_row([x])
    rows = as_rows(x, pixels)
    slices = np.zeros((2, SLICES, rows.shape[1]), np.float32)
    sum_powers(rows, *slices)
    mean, square = slices.sum(1) / np.float32(len(rows))
    first = rows[0] if rows.dtype == np.float32 else (rows[0].astype(np.uint32) << 16).view(np.float32)
    means, variances = (mean + first).reshape(pixels, -1), np.maximum(square - mean**2, 0).reshape(pixels, -1)
    return means.mean(0), (variances + (means - means.mean(0)) ** 2).mean(0)


def affine(epsilon, gamma, beta, mean, variance):
    """(scale, shift), (channels,) float32 each, such that scale x + shift is x normalised."""
    scale = gamma / np.sqrt(variance + np.float64(epsilon))
    return np.float32(scale), np.float32(beta - mean * scale)


def pixels_in_row(parts):
    """How many neighbouring pixels are computed as one row: several where one array has few channels, see ROW."""
    if len(parts) > 1:
        return 1
    pixels, channels = as_rows(parts[0]).shape
    return math.gcd(pixels, 2 ** math.ceil(math.log2(max(1, ROW / channels))))  # a power of two divides most sizes


def as_rows(x, pixels=1):
    """(rows, pixels x channels) of an array, bfloat16 as its bits."""
    flat = x.reshape(-1, pixels * x.shape[-1])
    return flat.view(np.uint16) if x.itemsize == 2 else flat


def addresses(arrays):
    """(k,) uint64 memory addresses."""
    return np.array([array.__array_interface__["data"][0] for array in arrays], np.uint64)


def starts(parts, pixels=1):
    """(k + 1,) columns at which the parts start, and the end of the last."""
    return np.cumsum([0, *(pixels * part.shape[-1] for part in parts)])


def empty(shapes, dtype):
    """Uninitialised arrays in one memory block, aligned to 64 bytes: TensorFlow uses such arrays without a copy."""
    sizes = [math.prod(shape) * dtype.itemsize for shape in shapes]
    firsts = [0, *itertools.accumulate(-(-size // 64) * 64 for size in sizes)]
    memory = np.empty(firsts[-1] + 64, np.uint8)
    memory = memory[-memory.__array_interface__["data"][0] % 64 :]
    return [
        memory[first : first + size].view(dtype).reshape(shape)
        for first, size, shape in zip(firsts[:-1], sizes, shapes, strict=True)
    ]


@compiled
def sum_powers(x, sums, squares):
    """Per column, sums of x - x[0] and of its square over slices of the rows: two arrays (slices, channels), zeros before."""
    rows, channels = x.shape
    for part in prange(SLICES):
        total, square = sums[part], squares[part]
        for i in range(part * rows // SLICES, (part + 1) * rows // SLICES):
            for j in range(channels):
                value = as_float(x[i, j]) - as_float(x[0, j])  # keeps precision where the mean is far from 0
                total[j] += value
                square[j] += value * value


@compiled
def scale_clip(addresses, starts, scale, shift, low, high, y):
    """y = min(max(scale x + shift, low), high), where the columns starts[k] to starts[k + 1] of x lie at addresses[k]."""
    rows = y.shape[0]
    for part in prange(SLICES):
        end = (part + 1) * rows // SLICES
        for first in range(part * rows // SLICES, end, BLOCK):
            for k in range(len(addresses)):
                start, width = starts[k], starts[k + 1] - starts[k]
                x = carray(pointer(addresses[k]), (rows, width), y.dtype)
                factor, offset = scale[start : start + width], shift[start : start + width]
                for i in range(first, min(first + BLOCK, end)):
                    row, out = x[i], y[i, start : start + width]
                    for j in range(width):
                        value = as_float(row[j]) * factor[j] + offset[j]
                        store(out, j, low if value < low else high if value > high else value)  # NaN stays


@compiled
def scale_clip_gradient(addresses, back_addresses, other_addresses, starts, scale, shift, low, high, dy, sums, products):
    """dx = scale dy where low < scale x + shift < high, plus others; per column, sums of dy and dy x there over row slices."""
    rows = dy.shape[0]
    for part in prange(SLICES):
        end = (part + 1) * rows // SLICES
        for first in range(part * rows // SLICES, end, BLOCK):
            for k in range(len(addresses)):
                start, width = starts[k], starts[k + 1] - starts[k]
                x = carray(pointer(addresses[k]), (rows, width), dy.dtype)
                dx = carray(pointer(back_addresses[k]), (rows, width), dy.dtype)
                if other_addresses is not None:  # decided when compiled
                    others = carray(pointer(other_addresses[k]), (rows, width), dy.dtype)
                total, product = sums[part, start : start + width], products[part, start : start + width]
                factor, offset = scale[start : start + width], shift[start : start + width]
                for i in range(first, min(first + BLOCK, end)):
                    row, above, out = x[i], dy[i, start : start + width], dx[i]
                    for j in range(width):
                        value = as_float(row[j])
                        before = value * factor[j] + offset[j]
                        gradient = as_float(above[j]) if (before > low) & (before < high) else np.float32(0)
                        total[j] += gradient
                        product[j] += gradient * value
                        down = gradient * factor[j]
                        if other_addresses is not None:
                            down += as_float(others[i, j])
                        store(out, j, down)


@compiled
def add_affine(x, slope, offset, dx):
    """dx += slope x + offset."""
    rows, channels = x.shape
    for part in prange(SLICES):
        for i in range(part * rows // SLICES, (part + 1) * rows // SLICES):
            for j in range(channels):
                store(dx[i], j, as_float(dx[i, j]) + as_float(x[i, j]) * slope[j] + offset[j])

"""The faster layers and Adam compute what Keras's own do: values, gradients, moving statistics."""

import platform
import subprocess
import sys

import keras
import ml_dtypes  # bfloat16 for NumPy; comes with TensorFlow
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from support import ROOT

from bones.networks import fused
from bones.networks.acceleration import accelerate
from bones.networks.applications import densenet169
from bones.networks.densenet_k12 import densenet169_k12
from bones.networks.kernels import batch_norm as kernels

RNG = np.random.default_rng(0)
PRECISIONS = [("float32", 1e-4), ("mixed_bfloat16", 3e-2)]


def two_norms():
    """Batch normalisations of other momentum and epsilon, without a scale, frozen, without a ReLU, and of flat features."""
    grey = keras.Input((9, 7, 3))
    x = grey
    for options in ({"momentum": 0.7}, {"epsilon": 1.001e-5}, {"scale": False}, {"trainable": False}):
        x = layers.BatchNormalization(**options)(layers.Conv2D(5, 3, padding="same")(x))
        x = layers.Activation("relu")(x)
    x = layers.Flatten()(layers.BatchNormalization()(x))
    return keras.Model(grey, layers.Dense(1)(layers.BatchNormalization(epsilon=1)(x)))


def dense_block():
    """Three layers of a dense block and a transition, as keras.applications builds them."""
    grey = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3)(grey)
    for _ in range(3):
        new = layers.Activation("relu")(layers.BatchNormalization(epsilon=1.001e-5)(x))
        new = layers.Conv2D(8, 1, use_bias=False)(new)
        new = layers.Activation("relu")(layers.BatchNormalization(epsilon=1.001e-5)(new))
        new = layers.Conv2D(4, 3, padding="same", use_bias=False)(new)
        x = layers.Concatenate()([x, new])
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    x = layers.AveragePooling2D(2)(layers.Conv2D(5, 1, use_bias=False)(x))
    return keras.Model(grey, layers.Dense(1, activation="sigmoid", dtype="float32")(layers.Flatten()(x)))


def branches():
    """Concatenations whose parts are used otherwise, too, and of three tensors."""
    grey = keras.Input((6, 6, 4))
    x = layers.Activation("relu")(layers.BatchNormalization()(grey))
    y = layers.Concatenate()([grey, x])
    z = layers.Concatenate()([x, y, grey])
    y, z = (layers.Activation("relu")(layers.BatchNormalization()(part)) for part in (y, z))
    z = layers.AveragePooling2D(2)(layers.Concatenate()([z, y]))
    return keras.Model(grey, layers.Dense(1)(layers.Flatten()(z)))


def twins():
    """Two batch normalisations that take the same dense features."""
    grey = keras.Input((6, 6, 6))
    x = layers.Activation("relu")(layers.BatchNormalization()(grey))
    x = layers.Concatenate()([grey, layers.Conv2D(4, 3, padding="same")(x)])
    both = [layers.Activation("relu")(layers.BatchNormalization()(x)) for _ in range(2)]
    return keras.Model(grey, layers.Dense(1)(layers.Flatten()(layers.Add()(both))))


def inverted_residuals():
    """Blocks of EfficientNet-Lite: batch normalisation before ReLU6, before nothing, and in inference mode."""
    grey = keras.Input((8, 8, 6))
    x = grey
    for trainable in (True, False):
        inputs = x
        for layer in (layers.Conv2D(24, 1, use_bias=False), layers.DepthwiseConv2D(3, padding="same", use_bias=False)):
            x = layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-3, trainable=trainable)(layer(x)))
        x = layers.BatchNormalization(epsilon=1e-3, trainable=trainable)(layers.Conv2D(6, 1, use_bias=False)(x))
        x = layers.Add()([x, inputs])
    return keras.Model(grey, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))


def grouped():
    """A block of ConvNeXt, with a convolution of one group a channel, and another of fewer groups."""
    grey = keras.Input((8, 8, 6))
    x = layers.Conv2D(6, 5, padding="same", groups=6, bias_initializer="normal")(grey)
    x = layers.Dense(12, activation="gelu")(layers.LayerNormalization()(x))
    x = layers.Add()([layers.Dense(6)(x), grey])
    x = layers.Conv2D(6, 3, strides=2, groups=3, activation="relu")(x)
    return keras.Model(grey, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))


def preactivations():
    """Blocks of ResNetV2, whose first batch normalisation feeds a bypass, too."""
    grey = keras.Input((8, 8, 6))
    x = layers.Conv2D(8, 3, padding="same")(grey)
    for is_first in (True, False):
        ready = layers.Activation("relu")(layers.BatchNormalization()(x))
        new = layers.Conv2D(8, 3, padding="same")(layers.Conv2D(4, 1, use_bias=False)(ready))
        x = layers.Add()([layers.Conv2D(8, 1)(ready) if is_first else x, new])
    x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(grey, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))


def training_step(network, pixels, label):
    """(outputs, gradients, moving statistics) of one training step, as arrays."""

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            outputs = network(pixels, training=True)
            loss = keras.ops.mean(keras.ops.square(keras.ops.cast(outputs, "float32") - label))
        return outputs, tape.gradient(loss, [variable.value for variable in network.trainable_variables])

    outputs, gradients = step()
    return [np.asarray(part, "float32") for part in (outputs, *gradients, *network.non_trainable_variables)]


@pytest.fixture(autouse=True)
def same_draws(monkeypatch):
    """Each test draws the same numbers, whichever ran before it: some round further apart in bfloat16 than the tolerance."""
    monkeypatch.setitem(globals(), "RNG", np.random.default_rng(1))


@pytest.mark.parametrize("build", [two_norms, dense_block, branches, twins, inverted_residuals, grouped, preactivations])
@pytest.mark.parametrize(("precision", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("least_size", [0, 224], ids=["kernels", "one operation"])
def test_fused_layers_equal_the_stock_ones(build, precision, tolerance, least_size, monkeypatch):
    keras.config.set_dtype_policy("float32")
    exact = build()
    keras.config.set_dtype_policy(precision)
    monkeypatch.setattr(fused, "MIN_CHANNELS", 8)  # some parts of these narrow networks become one, too
    stock, quick = build(), build()
    fused.fuse(quick, least_size)
    assert any("call" in vars(layer) for layer in quick.layers), "nothing was fused"
    weights = [RNG.normal(size=weight.shape).astype("float32") ** 2 / 4 for weight in stock.get_weights()]
    for network in (exact, stock, quick):
        network.set_weights(weights)
    pixels = RNG.normal(size=(6, *stock.input_shape[1:])).astype("float32")
    label = RNG.normal(size=(6, 1)).astype("float32")
    inference = (np.asarray(network(pixels), "float32") for network in (quick, stock))
    np.testing.assert_allclose(*inference, atol=tolerance, rtol=tolerance)
    found, expected, true = (training_step(network, pixels, label) for network in (quick, stock, exact))
    largest = max(np.abs(part).max() for part in true)
    for part, other, value in zip(found, expected, true, strict=True):  # a gradient of 0 is all rounding
        # Keras's own gradients in bfloat16 are off by up to a tenth, depending on the processor.
        allowed = np.abs(other - value).max() + tolerance * max(np.abs(value).max(), largest / 20)
        np.testing.assert_allclose(part, value, rtol=0, atol=allowed)


def test_densenet_is_fused_whole():
    network = densenet169(32)
    fused.fuse(network, least_size=0)
    left = {type(layer).__name__ for layer in network.layers if "call" not in vars(layer)}
    norms = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    assert len(norms) == 169 and all("call" in vars(layer) for layer in norms)
    assert "Concatenate" not in left and "Activation" not in left


def test_a_fused_network_is_saved_as_a_stock_one(tmp_path):
    network = accelerate(densenet169_k12(32))
    network.save(tmp_path / "fused.h5")
    again = keras.models.load_model(tmp_path / "fused.h5", compile=False)
    assert again.get_config() == densenet169_k12(32).get_config()
    pixels = RNG.integers(0, 256, (3, 32, 32, 1)).astype("uint8")
    np.testing.assert_allclose(again.predict(pixels, verbose=0), network.predict(pixels, verbose=0), atol=1e-5)


def test_adam_equals_keras():
    start = [RNG.normal(size=shape).astype("float32") for shape in ((3, 4), (5,))]
    gradients = [[RNG.normal(size=part.shape).astype("float32") * scale for part in start] for scale in (1, 1e-4, 30)]
    ends = []
    for kind in (keras.optimizers.Adam, fused.Adam):
        optimizer, variables = kind(keras.optimizers.schedules.CosineDecay(0.01, 5)), [keras.Variable(part) for part in start]
        for gradient in gradients:
            optimizer.apply(gradient, variables)
        ends.append([np.asarray(value) for value in (*variables, *optimizer.variables)])
    assert len(ends[0]) == len(ends[1])
    for found, expected in zip(*ends, strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-7)  # TensorFlow takes 1 - 0.999 in float32


def test_statistics_keep_their_digits_far_from_0():
    x = RNG.normal(size=(4000, 1, 1, 5)) + 1000
    y, mean, variance = kernels.normalise(1e-3, *np.ones((2, 5), "float32"), *np.empty((2, 0), "float32"), x.astype("float32"))
    np.testing.assert_allclose(mean, x.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, x.var((0, 1, 2)), rtol=1e-3)
    assert y.min() == 0 and y.ctypes.data % 64 == 0


def test_not_a_number_comes_out_as_such():
    for dtype in (np.dtype("float32"), np.dtype(ml_dtypes.bfloat16)):
        x = np.ones((2, 3, 3, 40), dtype)
        x[0, 1, 1, 7], x[0, 1, 1, 20] = np.nan, np.inf
        y = kernels.normalise(1e-3, *np.ones((2, 40), "float32"), *np.empty((2, 0), "float32"), x)[0].astype("float32")
        assert np.isnan(y[..., [7, 20]]).all() and np.isfinite(np.delete(y, [7, 20], -1)).all()


def test_bfloat16_is_rounded_as_elsewhere():
    values = RNG.normal(size=(50, 1, 1, 64)).astype("float32")
    x = values.astype(ml_dtypes.bfloat16)
    scale, shift = np.float32(1 / np.sqrt(np.float64(np.float32(0.5)) + 0.5)), np.ones(64, "float32")
    y = kernels.normalise(0.5, np.ones(64, "float32"), shift, np.zeros(64, "float32"), np.full(64, 0.5, "float32"), x)[0]
    np.testing.assert_array_equal(y, np.maximum(x.astype("float32") * scale + shift, 0).astype(ml_dtypes.bfloat16))


KEEP = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def faults(size):
    libc.mallopt(-1, 128 << 10)  # as TensorFlow sets M_TRIM_THRESHOLD when it reads from a generator
    first, above = libc.malloc(size), libc.malloc(size)  # what is freed at the top goes back
    libc.free(first)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        place = libc.malloc(size)
        ctypes.memset(place, 1, size)
        libc.free(place)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
without = faults(8 << 20)
from bones.networks import fused
fused.keep_memory()
print(faults(8 << 20), without)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory")
def test_freed_memory_is_used_again():
    done = subprocess.run([sys.executable, "-c", KEEP], cwd=ROOT, capture_output=True, text=True, check=True)
    kept, without = map(int, done.stdout.split()[-2:])
    assert kept < without / 10


UNWRITABLE = """
import numpy as np
from numba.core import caching
caching.CacheImpl._locator_classes = []  # as where neither the repository nor the home folder can be written to
from bones.networks.kernels import batch_norm as kernels
print(kernels.moments(np.ones((4, 3), np.float32))[0])
"""


def test_kernels_do_without_a_folder_to_keep_them_in():
    done = subprocess.run([sys.executable, "-c", UNWRITABLE], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[1. 1. 1.]", done.stderr

"""Faster implementations of some layers and Adam for TensorFlow on a CPU; network, weights and files remain Keras's.

Keras computes batch normalisation in a dozen operations that each read and write whole feature maps: 60 % of a training step of
DenseNet-169. `fuse` replaces how the layers of one network compute, in this process, with equal results (docs/performance.md):

- Batch normalisation, with the ReLU or ReLU6 after it, is one pass over memory forward and one or two back
  (kernels/batch_norm.py). For small images it is TensorFlow's one operation.
- A dense block's features are not copied side by side for every layer, and the mean and variance of each are taken once.
- The kernel gradient of a 1 x 1 convolution is a matrix product, which oneDNN does faster. On x86 processors without AVX-512,
  the same holds for convolutions to few filters, as in a dense block, and input gradients are convolutions with the kernel
  turned round.
- A Conv2D with one group a channel, as in ConvNeXt, is TensorFlow's depthwise convolution: TensorFlow has no grouped one for a
  CPU, so Keras compiles each by XLA, which takes minutes, and computes it slowly.

This module needs TensorFlow; acceleration.accelerate imports it only with that backend.
"""

import ctypes
import functools
import itertools
import os
import sys

import keras
import tensorflow as tf
from keras import layers
from tensorflow.compat.v1.nn import fused_batch_norm

from bones.networks import graph
from bones.networks.graph import consumers, following_relu
from bones.system import machine

LEAST_SIZE = 224  # below, a kernel's call costs more than it saves (docs/performance.md)
MIN_CHANNELS = 128  # channels; below, a kernel takes twice the time a value
M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def is_single_device():
    """Whether networks are built for one device now: the operations here do not support replicas."""
    return not tf.distribute.has_strategy()


@functools.cache
def keep_memory():
    """Make glibc reuse the memory of freed tensors of up to 32 MB, its maximum.

    TensorFlow turns that off in the process, once, when it first reads from a generator, as `fit` and `predict` do: the system
    then allocates and clears new pages for every tensor, a fifth of a training step. So this reads from a generator first.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        next(iter(tf.data.Dataset.from_generator(lambda: [0], output_signature=tf.TensorSpec((), tf.int32))))
        mallopt(M_MMAP_THRESHOLD, 32 << 20)


def fuse(network, least_size=LEAST_SIZE):
    """Replace in place how a network's layers compute, before it is traced, with faster operations on a CPU.

    Args:
        network: keras.Model.
        least_size: side of the input, pixels, from which on kernels/batch_norm.py is used; below, it is TensorFlow's own
            operation.
    """
    if tf.config.list_physical_devices("GPU") or not is_single_device():
        return
    keep_memory()
    fuse_depthwise(network)
    for layer in graph.all_layers(network):
        if layer.compute_dtype not in ("float32", "bfloat16"):
            continue
        large = network.input_shape[1] >= least_size
        if isinstance(layer, layers.BatchNormalization):
            fuse_normalisation(layer, large)
        elif large and isinstance(layer, layers.Concatenate) and layer.axis in (-1, 3):
            layer.call = concatenate
        elif isinstance(layer, layers.Conv2D) and has_faster_gradients(layer):
            layer.call = functools.partial(convolve, layer)


def fuse_depthwise(network):
    """Replace how a network's grouped convolutions compute, where a group is one channel; other formats have this operation."""
    for layer in graph.all_layers(network):
        if isinstance(layer, layers.Conv2D) and is_depthwise(layer):
            layer.call = functools.partial(convolve_depthwise, layer)


def fuse_normalisation(layer, large):
    """Replace how a BatchNormalization layer computes; `large`: whether images are large enough for our kernels."""
    if large and is_fusable(layer):
        relu, bounds = following_relu(layer)
        layer.call = functools.partial(batch_norm_relu, layer, bounds, passes_on=len(consumers(layer.input)) > 1)
        if relu is not None:
            relu.call = lambda inputs: inputs  # the ReLU is already applied
    elif is_of_films(layer) and layer.scale and layer.center:
        layer.call = functools.partial(normalise_in_one_operation, layer)


def is_fusable(layer):
    """Whether `batch_norm_relu` can replace a BatchNormalization layer and the ReLU after it, if there is one."""
    return is_of_films(layer) and layer.center


def is_of_films(layer):
    """Whether a BatchNormalization layer normalises the channels, the last of four axes."""
    return layer.axis in (-1, 3) and layer.input.ndim == 4


def has_faster_gradients(layer):
    """Whether `convolution` can replace a Conv2D layer, and its gradients are faster here."""
    return is_plain(layer) and (layer.kernel_size == (1, 1) or has_slow_gradients(layer.compute_dtype))


def is_plain(layer):
    """Whether a Conv2D layer convolves with an odd kernel, keeps the size of its input, and does nothing else."""
    keeps_size = layer.kernel_size == (1, 1) or (layer.padding == "same" and all(side % 2 for side in layer.kernel_size))
    at_each_pixel = layer.strides == layer.dilation_rate == (1, 1) and layer.groups == 1
    is_linear = not layer.use_bias and layer.activation is keras.activations.linear
    return keeps_size and at_each_pixel and is_linear and layer.data_format == "channels_last"


def has_slow_gradients(dtype):
    """Whether oneDNN's gradients of convolutions are slower here than its convolutions and products (docs/performance.md).

    This depends on the processor's instruction sets alone, and not on a measurement, which could differ between two starts:
    the same run would then have other last digits.
    """
    return dtype == "float32" and machine.has_avx2_alone()


def is_depthwise(layer):
    """Whether a Conv2D layer has one filter for each channel of its input."""
    channels = layer.input.shape[-1]
    return layer.groups > 1 and layer.groups == channels == layer.filters and layer.data_format == "channels_last"


# ---------------------------------------------------------------------------------------------------------------------
# Computations of the layers


def concatenate(inputs):
    """Concatenated features with their parts as an attribute; no copy is made where only batch normalisation reads them."""
    whole = tf.concat(inputs, -1)
    first, *others = inputs
    if len(others) == 1:
        whole.first = first
        whole.parts = [*merge_narrow_parts(getattr(first, "parts", [first])), *others]  # the last has no moments yet
    return whole


def merge_narrow_parts(parts):
    """The parts, with the narrow ones at the end concatenated where together they are wide enough: kernels need long rows."""
    narrow = list(itertools.takewhile(lambda part: part.shape[-1] < MIN_CHANNELS, reversed(parts)))[::-1]
    if len(narrow) > 1 and sum(part.shape[-1] for part in narrow) >= MIN_CHANNELS:
        return [*parts[: -len(narrow)], tf.concat(narrow, -1)]
    return parts


def batch_norm_relu(layer, bounds, inputs, training=None, mask=None, passes_on=False):
    """The output of `layer`, a keras.layers.BatchNormalization, and the ReLU after it, which clips it between bounds.

    With `passes_on`, later layers read the parts of its input from its results: in the backward pass, each layer adds its
    gradient to that of later layers, and no operation has to sum dozens of gradients.
    """
    beta = tf.convert_to_tensor(layer.beta.value)
    gamma = tf.convert_to_tensor(layer.gamma.value) if layer.scale else tf.ones_like(beta)
    if not (training and layer.trainable):
        moving = (tf.convert_to_tensor(statistic.value) for statistic in (layer.moving_mean, layer.moving_variance))
        return normalise(layer.epsilon, bounds, False, gamma, beta, *moving, *getattr(inputs, "parts", [inputs]))[0]
    known = getattr(getattr(inputs, "first", None), "moments", None)
    parts = [inputs] if known is None else inputs.parts
    known = known or [tf.zeros(0)] * 2
    outputs, mean, variance, *passed = normalise(layer.epsilon, bounds, passes_on, gamma, beta, *known, *parts)
    inputs.moments, inputs.parts = (mean, variance), passed or parts
    update_moving(layer, mean, variance)
    return outputs


def normalise_in_one_operation(layer, inputs, training=None, mask=None):
    """The output of `layer`, a keras.layers.BatchNormalization over the last of four axes, by FusedBatchNormV3."""
    scale, centre = layer.gamma.value, layer.beta.value
    if not (training and layer.trainable):
        mean, variance = layer.moving_mean.value, layer.moving_variance.value
        return fused_batch_norm(inputs, scale, centre, mean, variance, layer.epsilon, is_training=False)[0]
    outputs, mean, variance = fused_batch_norm(inputs, scale, centre, epsilon=layer.epsilon)
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
    update_moving(layer, mean, variance * (count - 1) / count)  # it returns n / (n - 1) times the standard layer's
    return outputs


def update_moving(layer, mean, variance):
    """Update the moving statistics of a BatchNormalization layer with those of a batch."""
    for moving, new in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving * layer.momentum + new * (1 - layer.momentum))


def convolve(layer, inputs):
    """The output of `layer`, a keras.layers.Conv2D for which `is_plain` is true."""
    return convolution(inputs, tf.convert_to_tensor(layer.kernel.value))


def convolve_depthwise(layer, inputs):
    """The output of `layer`, a keras.layers.Conv2D for which `is_depthwise` is true; summed in float32."""
    kernel = tf.cast(tf.transpose(tf.convert_to_tensor(layer.kernel.value), (0, 1, 3, 2)), tf.float32)  # (..., channels, 1)
    strides, dtype = (1, *layer.strides, 1), inputs.dtype
    inputs = tf.cast(inputs, tf.float32)
    outputs = tf.nn.depthwise_conv2d(inputs, kernel, strides, layer.padding.upper(), dilations=layer.dilation_rate)
    if layer.use_bias:
        outputs += tf.cast(tf.convert_to_tensor(layer.bias.value), tf.float32)
    return layer.activation(tf.cast(outputs, dtype))


# ---------------------------------------------------------------------------------------------------------------------
# Operations with gradients


def normalise(epsilon, bounds, passes_on, *arguments):
    """See batch_norm.normalise. Returns: [y, mean, variance], and the parts if they are passed on."""
    kernels = compiled_kernels()

    @tf.custom_gradient
    def differentiable(gamma, beta, mean, variance, *parts):
        y = tf.TensorSpec([*parts[0].shape[:-1], gamma.shape[0]], parts[0].dtype)
        function = functools.partial(kernels.normalise, epsilon, bounds=bounds)
        results = call_kernel(function, [gamma, beta, mean, variance, *parts], [y, gamma, gamma])

        def gradient(dy, d_mean, d_variance, *d_passed):
            function = functools.partial(kernels.normalise_back, epsilon, mean.shape[0], len(parts), bounds=bounds)
            like = [gamma, beta, mean, variance, *parts]
            return call_kernel(function, [dy, d_mean, d_variance, gamma, beta, *results[1:], *parts, *d_passed], like)

        return [*results, *(tf.identity(part) for part in parts if passes_on)], gradient

    return differentiable(*arguments)


def compiled_kernels():
    """kernels/batch_norm.py, imported on use: importing Numba is slow, and small images do not need it."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads must not block a core that TensorFlow needs
    from bones.networks.kernels import batch_norm

    return batch_norm


def call_kernel(function, arguments, like):
    """The tensors that a function of batch_norm.py returns for others; `like` has tensors of their dtypes and static shapes."""
    outputs = tf.numpy_function(function, arguments, [tensor.dtype for tensor in like], stateful=False)
    for output, tensor in zip(outputs, like, strict=True):
        output.set_shape(tensor.shape)
    return outputs


@tf.custom_gradient
def convolution(x, kernel):
    """Convolution of x, (n, height, width, channels), with an odd kernel, (rows, columns, channels, filters), of equal size."""

    def gradient(dy):
        return input_gradient(x, kernel, dy), kernel_gradient(x, kernel, dy)

    return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient


def input_gradient(x, kernel, dy):
    """Gradient of `convolution` for x."""
    if has_slow_gradients(x.dtype):
        return tf.nn.conv2d(dy, tf.transpose(tf.reverse(kernel, (0, 1)), (0, 1, 3, 2)), 1, "SAME")
    dx = tf.nn.conv2d_transpose(dy, kernel, tf.shape(x), 1)
    dx.set_shape(x.shape)
    return dx


def kernel_gradient(x, kernel, dy):
    """Gradient of `convolution` for its kernel.

    It is the product of x and dy, with dy shifted by each offset of the kernel. Where filters are at most a quarter of the
    channels, these copies are small enough to be faster than oneDNN's.
    """
    rows, columns, channels, filters = kernel.shape
    if rows == columns == 1:
        return tf.matmul(as_matrix(x), as_matrix(dy), transpose_a=True)[None, None]
    if 4 * filters > channels:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=kernel.shape, out_backprop=dy, strides=[1, 1, 1, 1], padding="SAME"
        )
    products = tf.matmul(as_matrix(shifts(dy, rows, columns)), as_matrix(x), transpose_a=True)
    products = tf.reshape(products, (rows, columns, filters, channels))
    return tf.transpose(tf.reverse(products, (0, 1)), (0, 1, 3, 2))


def shifts(films, rows, columns):
    """Films, (n, height, width, channels), shifted by each offset of a kernel: (..., rows x columns x channels)."""
    shape = tf.shape(films)
    padded = tf.pad(films, ((0, 0), (rows // 2, rows // 2), (columns // 2, columns // 2), (0, 0)))
    offsets = itertools.product(range(rows), range(columns))
    return tf.concat([padded[:, row : row + shape[1], column : column + shape[2]] for row, column in offsets], -1)


def as_matrix(films):
    """(pixels of all films, channels)."""
    return tf.reshape(films, (-1, films.shape[-1]))


class Adam(keras.optimizers.Adam):
    """Keras's Adam with one operation a variable instead of a dozen.

    Source: Kingma and Ba 2015, arXiv 1412.6980; epsilon as in the text before section 2.1, as in Keras.
    """

    def _backend_update_step(self, gradients, variables, learning_rate):
        step = tf.cast(self.iterations + 1, tf.float32)
        self.powers = tf.pow(self.beta_1, step), tf.pow(self.beta_2, step)
        super()._backend_update_step(gradients, variables, learning_rate)

    def update_step(self, gradient, variable, learning_rate):
        place = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[place].value.handle,
            v=self._velocities[place].value.handle,
            beta1_power=self.powers[0],
            beta2_power=self.powers[1],
            lr=learning_rate,
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

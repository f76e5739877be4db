"""Networks of keras.applications with one grey input channel: DenseNet-169, a frozen InceptionV3, and any by its name.

A builder takes the side of the square input, a choice of weights, and settings of a recipe (see catalogue.build).
"""

import functools
import http.client
import urllib.error
import warnings

import keras
import numpy as np
from keras import layers, regularizers

from bones.networks.parts import load_weights, output_layer, pooled, standardise_layer
from bones.system.backend import is_out_of_memory
from bones.system.errors import BonesError, WeightsError, short_message

# Mean and standard deviation of ImageNet's colour channels on a 0-1 scale, which the DenseNet weights of keras.applications
# expect ("torch" mode of keras.applications.imagenet_utils.preprocess_input).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CAFFE_MEAN = (103.939, 116.779, 123.68)  # of blue, green and red on a 0-255 scale, which "caffe" mode subtracts


def densenet169(size, weights="none", standardise=False, dropout=0.0, pooling="avg"):
    """DenseNet-169 of keras.applications with one grey input channel; 12,644,545 parameters.

    The grey channel is repeated three times and scaled per copy as ImageNet's colours were, so that the first convolution
    keeps its published shape: ImageNet weights, a weights file and random weights all fit the same network.

    Args:
        size: side of the square input, pixels, at least 32.
        weights: "none", "imagenet", or the path of a weights file (see `assemble`).
        standardise: scale each view to mean 0 and standard deviation 1 in place of ImageNet's constants.
        dropout: share of features dropped before the output layer.
        pooling: "avg" or "avg_max", see `parts.pooled`.
    Source: Huang et al. 2017, arXiv 1608.06993; as MURA's baseline uses it, arXiv 1712.06957.
    """
    scale = [1 / (255 * std) for std in IMAGENET_STD]
    offset = [-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)]
    base = keras.applications.DenseNet169
    network = build("densenet169", base, size, weights, standardise, scale, offset, dropout, pooling)
    for layer in network.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # as in the authors' Torch code; with Keras's 0.99 statistics lag for hundreds of steps
    return network


def inception_v3(size, weights="none", standardise=False, dropout=0.3, pooling="avg"):
    """InceptionV3 as a fixed feature extractor with dropout and one trainable unit, the second system; 21,804,833 parameters.

    Args:
        size: side of the square input, pixels, at least 75.
        weights: "none", "imagenet", or the path of a weights file (see `assemble`). With "none" the frozen features are random.
        standardise, dropout, pooling: see `densenet169`; a constant scale otherwise.
    Source: Szegedy et al. 2016, arXiv 1512.00567.
    """
    base, scale, offset = keras.applications.InceptionV3, [1 / 127.5] * 3, [-1.0] * 3
    decay = regularizers.L2(1e-4)
    network = build("inception_v3", base, size, weights, standardise, scale, offset, dropout, pooling, decay)
    for layer in network.layers[:-1]:
        layer.trainable = False
    return network


def application(size, weights="none", standardise=False, dropout=0.0, pooling="avg", *, name, mode):
    """A network of keras.applications by its name, with one grey input channel.

    Args:
        size, weights, standardise, dropout, pooling: see `densenet169`.
        name: as keras.applications spells it.
        mode: the colours that its ImageNet weights expect, a key of `catalogue.APPLICATIONS`.
    """
    scale, offset = scaling(mode, standardise)
    colour = coloured(size, standardise, None if mode == "included" and not standardise else (scale, offset))
    return assemble(name, getattr(keras.applications, name), colour, weights, dropout, pooling)


def scaling(mode, standardise):
    """How a grey channel becomes the three that a network expects: c = grey * scale[c] + offset[c].

    Args:
        mode: "torch", ImageNet's mean 0 and standard deviation 1; "torch_inside", the same in place of the network's own
            scaling; "tf", -1 to 1; "caffe", blue, green and red without their means; "included", 0 to 255.
        standardise: grey has mean 0 and standard deviation 1 in place of 0 to 255, and becomes colours of ImageNet's mean and
            standard deviation.
    Returns: (scale, offset), a list of three values each.
    Source: keras.applications.imagenet_utils.preprocess_input.
    """
    mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
    scale, offset = {
        "torch": (1 / (255 * std), -mean / std),
        "torch_inside": (1 / (255 * std), -mean / std),
        "tf": (np.full(3, 1 / 127.5), np.full(3, -1.0)),
        "caffe": (np.ones(3), -np.array(CAFFE_MEAN)),
        "included": (np.ones(3), np.zeros(3)),
    }[mode]
    if standardise:
        mean, std = (mean[::-1], std[::-1]) if mode == "caffe" else (mean, std)
        scale, offset = 255 * std * scale, 255 * mean * scale + offset
    return scale.tolist(), offset.tolist()


def build(name, base_builder, size, weights, standardise, scale, offset, dropout, pooling, kernel_regularizer=None):
    """A network between a repeated grey channel and one sigmoid unit.

    Args:
        scale, offset: three values each; channel c becomes grey * scale[c] + offset[c] where views are not standardised.
        others: see `assemble` and `densenet169`.
    Raises: WeightsError, see `assemble`.
    """
    colour = coloured(size, standardise, None if standardise else (scale, offset))
    return assemble(name, base_builder, colour, weights, dropout, pooling, kernel_regularizer)


def coloured(size, standardise, scaled):
    """The input layer "grey", (n, size, size, 1), repeated as three channels.

    Args:
        standardise: scale each view to mean 0 and standard deviation 1.
        scaled: (scale, offset) of each channel after that, or None.
    Returns: symbolic tensor, (n, size, size, 3).
    """
    grey = keras.Input((size, size, 1), name="grey")
    shade = standardise_layer(grey) if standardise else grey
    colour = layers.Concatenate(name="repeat_grey")([shade, shade, shade])
    return layers.Rescaling(*scaled, name="scale")(colour) if scaled else colour


def assemble(name, base_builder, colour, weights, dropout, pooling, kernel_regularizer=None):
    """A network of keras.applications from a grey channel's colours to one sigmoid unit.

    Args:
        base_builder: builder of keras.applications, or one with its arguments.
        colour: of `coloured`.
        weights: "none" (random), "imagenet" (downloaded once by Keras), or the path of a file, see `parts.load_weights`.
        dropout, pooling: see `densenet169`.
    Raises: WeightsError when the weights cannot be downloaded or read, or do not fit, or the network cannot be built.
    """
    base = base_of(name, base_builder, colour, weights)
    scaled = without_scaling(base)
    name_layers(scaled)
    features = pooled(scaled.output, pooling)
    unit = output_layer(features, dropout, kernel_regularizer=kernel_regularizer)
    network = keras.Model(scaled.inputs[0], unit, name=name)
    if weights not in ("none", "imagenet"):
        network = load_weights(network, weights, base)
    return network if scaled is base else copy_of(network)


# ---------------------------------------------------------------------------------------------------------------------
# Networks of keras.applications without their top


def base_of(name, base_builder, colour, weights):
    """A network of keras.applications without its top. Raises: WeightsError, which says what failed."""
    build_base = functools.partial(base_builder, input_tensor=colour, include_top=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MobileNet's weights are of 224 px; without its top they fit every size
            return build_base(weights="imagenet" if weights == "imagenet" else None)
    except BonesError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise WeightsError(describe_failure(name, error, build_base, colour.shape[1], weights)) from None


def describe_failure(name, error, build_base, size, weights):
    """The message for an exception of a builder: a failed download, a damaged download, a missing package, or the size."""
    reason = short_message(error)
    if isinstance(error, ImportError):
        return f"{name} needs a package that is not installed ({reason}). Install it, or pass another --network."
    if weights == "imagenet" and is_failed_download(error):
        return (
            f"the ImageNet weights of {name} cannot be downloaded ({reason}).\n"
            "Expected network access, or the file in ~/.keras/models from an earlier download.\n"
            "Pass --weights none to start from random weights, or --weights FILE with a local file."
        )
    if weights == "imagenet" and can_build(build_base):
        return (
            f"the ImageNet weights of {name} cannot be read, or do not fit ({reason}).\n"
            "Remove its file from ~/.keras/models, so that it is downloaded again, or pass --weights none or --weights FILE."
        )
    return f"{name} cannot be built for views of {size} px ({reason}). Pass another --size or --network."


def is_failed_download(error):
    """Whether an exception is of a download: Keras raises a bare Exception for what urllib raises."""
    return type(error) is Exception or isinstance(
        error, (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
    )


def can_build(build_base):
    """Whether a network can be built with random weights."""
    try:
        build_base(weights=None)
    except Exception:  # each layer raises its own
        return False
    return True


def without_scaling(base):
    """A network without the layers that scale its input where one is a Normalization; another network as it is.

    A Normalization keeps its mean as a constant that tf2onnx does not find. EfficientNetB0 to B7 have it as weights, which it
    copies when Keras loads a file, but not when weights are set, as for a resumed run; and keras.applications adds a Rescaling
    to them for ImageNet's weights alone, so that the network would depend on where its weights come from. In each network
    these layers together are mode "torch".

    Returns: keras.Model that shares its layers with `base`, so that a file of weights for `base` fills both.
    """
    if not any(isinstance(layer, layers.Normalization) for layer in base.layers):
        return base
    kinds = (layers.Normalization, layers.Rescaling)
    dropped = {layer.name for layer in base.layers if isinstance(layer, kinds) and layer.name != "scale"}

    def call(layer, *inputs, **options):
        return inputs[0] if layer.name in dropped else layer(*inputs, **options)

    return keras.models.clone_model(base, call_function=call, clone_function=lambda layer: layer)


def copy_of(network):
    """A network of the same layers and weights, which shares none of them."""
    copy = keras.Model.from_config(network.get_config())
    copy.set_weights(network.get_weights())
    return copy


def name_layers(base):
    """Name layers and functions of keras.ops by position where they have names from Keras's counter in the process."""
    for place, layer in enumerate(base.operations):
        kind = type(layer).__name__.lower()
        if layer.name.replace("_", "").startswith(kind):
            layer.name = f"layer{place:03d}_{kind}"

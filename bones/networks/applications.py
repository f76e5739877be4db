"""Networks of keras.applications with one grey input channel: DenseNet-169, and a frozen InceptionV3.

A builder takes the side of the square input, a choice of weights, and settings of a recipe (see catalogue.build).
"""

import keras
from keras import layers, regularizers

from bones.networks.parts import load_weights, output_layer, pooled, standardise_layer
from bones.system.errors import WeightsError, short_message

# Mean and standard deviation of ImageNet's colour channels on a 0-1 scale, which the DenseNet weights of keras.applications
# expect ("torch" mode of keras.applications.imagenet_utils.preprocess_input).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def densenet169(size, weights="none", standardise=False, dropout=0.0, pooling="avg"):
    """DenseNet-169 of keras.applications with one grey input channel; 12,644,545 parameters.

    The grey channel is repeated three times and scaled per copy as ImageNet's colours were, so that the first convolution
    keeps its published shape: ImageNet weights, a weights file and random weights all fit the same network.

    Args:
        size: side of the square input, pixels, at least 32.
        weights: "none", "imagenet", or the path of a weights file (see `build`).
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
        weights: "none", "imagenet", or the path of a weights file (see `build`). With "none" the frozen features are random.
        standardise, dropout, pooling: see `densenet169`; a constant scale otherwise.
    Source: Szegedy et al. 2016, arXiv 1512.00567.
    """
    base, scale, offset = keras.applications.InceptionV3, [1 / 127.5] * 3, [-1.0] * 3
    decay = regularizers.L2(1e-4)
    network = build("inception_v3", base, size, weights, standardise, scale, offset, dropout, pooling, decay)
    for layer in network.layers[:-1]:
        layer.trainable = False
    return network


def build(name, base_builder, size, weights, standardise, scale, offset, dropout, pooling, kernel_regularizer=None):
    """A network of keras.applications between a repeated grey channel and one sigmoid unit.

    Args:
        base_builder: builder of keras.applications, or one with its arguments.
        weights: "none" (random), "imagenet" (downloaded once by Keras), or the path of a file, see `parts.load_weights`.
        standardise, dropout, pooling: see `densenet169`.
        scale, offset: three values each; channel c becomes grey * scale[c] + offset[c] where views are not standardised.
    Raises: WeightsError when the weights cannot be downloaded or read, or do not fit.
    """
    grey = keras.Input((size, size, 1), name="grey")
    shade = standardise_layer(grey) if standardise else grey
    colour = layers.Concatenate(name="repeat_grey")([shade, shade, shade])  # (n, size, size, 3)
    if not standardise:
        colour = layers.Rescaling(scale, offset, name="scale")(colour)
    try:
        base = base_builder(input_tensor=colour, include_top=False, weights="imagenet" if weights == "imagenet" else None)
    except WeightsError:
        raise
    except Exception as error:  # Keras raises a bare Exception when a download fails
        raise WeightsError(
            f"the ImageNet weights of {name} cannot be downloaded ({short_message(error)}).\n"
            "Expected network access, or the file in ~/.keras/models from an earlier download.\n"
            "Pass --weights none to start from random weights, or --weights FILE with a local file."
        ) from None
    name_layers(base)
    features = pooled(base.output, pooling)
    network = keras.Model(grey, output_layer(features, dropout, kernel_regularizer=kernel_regularizer), name=name)
    return network if weights in ("none", "imagenet") else load_weights(network, weights, base)


def name_layers(base):
    """Name layers by position where keras.applications leaves names to Keras's counter of all layers in the process."""
    for place, layer in enumerate(base.layers):
        kind = type(layer).__name__.lower()
        if layer.name.replace("_", "").startswith(kind):
            layer.name = f"layer{place:03d}_{kind}"

"""Parts that network builders share: standardisation, pooling, the output layer, stochastic depth, and weights from a file."""

import contextlib
import json
from pathlib import Path

import h5py  # reads weights files
import keras
from keras import layers

from bones.networks import weights_files
from bones.networks.catalogue import NETWORKS
from bones.networks.saved import network_file
from bones.system.errors import WeightsError, short_message
from bones.system.files import printable


def standardise_layer(grey):
    """Each view with mean 0 and standard deviation 1, in float32; a constant view becomes 0."""
    # Not LayerNormalization: of its three axes, a .h5 file restores only the last.
    return layers.GroupNormalization(1, center=False, scale=False, dtype="float32", name="standardise")(grey)


def pooled(x, pooling):
    """One vector a view from its last features, (n, rows, columns, channels).

    Args:
        pooling: "avg", their mean over the positions, or "avg_max", the mean and beside it the maximum.
    """
    mean = layers.GlobalAveragePooling2D(name="avg_pool")(x)
    if pooling == "avg":
        return mean
    return layers.Concatenate(name="avg_max_pool")([mean, layers.GlobalMaxPooling2D(name="max_pool")(x)])


def output_layer(x, dropout, **regularizers):
    """The probability of "abnormal" from pooled features, in float32."""
    x = layers.Dropout(dropout, name="dropout")(x) if dropout else x
    return layers.Dense(1, activation="sigmoid", dtype="float32", name="probability", **regularizers)(x)


def with_stochastic_depth(network, rate):
    """The same network with stochastic depth: while it trains, each layer of its dense blocks is left out for some views.

    A dense block has no residual sums, so the features that the layer would append become 0, and are scaled by 1 / (1 - rate)
    where they stay: a standard Dropout layer with one draw a view.

    Args:
        network: keras.Model with dense blocks.
        rate: share of the views for which a layer is left out.
    Source: Huang et al. 2016, arXiv 1603.09382, which leaves out layers of a residual network for a whole batch.
    """

    def call(layer, inputs, **options):
        if isinstance(layer, layers.Concatenate) and len(inputs) == 2:
            features, new = inputs
            drop = layers.Dropout(rate, noise_shape=(None, 1, 1, 1), name=f"{layer.name}_depth")
            inputs = [features, drop(new)]
        return layer(inputs, **options)

    deep = keras.models.clone_model(network, call_function=call, clone_function=copy_layer)
    deep.set_weights(network.get_weights())
    return deep


def copy_layer(layer):
    """A new layer of the same configuration."""
    return type(layer).from_config(layer.get_config())


def load_weights(network, path, base=None):
    """Load the weights in a file into `network`: of the whole network, or of all but its output layer.

    Args:
        network: keras.Model to fill, in place.
        path: file of Keras 2 or 3 (.h5, .keras, .weights.h5) or, for a DenseNet of keras.applications, of torchvision or timm
            (.pth, .safetensors); or a run folder, which means its best network.
        base: the part of `network` below its pooling; None where its layers but the last are meant.
    Returns: network.
    Raises: WeightsError naming the file when it is missing, not a weights file, or of another network.
    """
    path = weights_file(path)
    try:
        weights_files.load(network, base.layers if base else network.layers[:-1], path)
    except Exception as error:  # h5py, zipfile and json each raise their own
        found = saved_name(path)
        if found in NETWORKS and found != network.name:
            advice = "Pass the --network that the weights are of, or other weights."
            raise WeightsError(f"{path} contains {found}, not {network.name}. {advice}") from None
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(
            f"{path} does not contain weights for {network.name} ({printable(short_message(error))}).\n"
            "Expected a complete file of Keras, as best.h5 of a run, or of a DenseNet of torchvision or timm."
        ) from None
    return network


def saved_name(path):
    """Name of the network in a .h5 file of a whole model; None where it has none."""
    with contextlib.suppress(Exception), h5py.File(path) as file:  # not HDF5, or without a configuration
        return str(json.loads(file.attrs["model_config"])["config"]["name"])


def weights_file(path):
    """The file of a path of weights: of a run folder its best network. Raises: WeightsError when it is missing."""
    path = network_file(path, "best.h5") if Path(path).is_dir() else Path(path)
    if not path.is_file():
        takes = "none, imagenet, the path of a .h5, .keras, .pth or .safetensors file, or a run folder"
        raise WeightsError(f"{path}: no such weights file; --weights takes {takes}.")
    return path

"""Parts that network builders share: standardisation, pooling, the output layer, stochastic depth, and weights from a file."""

import contextlib
import json
from pathlib import Path

import h5py  # reads weights files, which Keras writes as HDF5
import keras
from keras import layers

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
    """Load the weights in a file into `network`: of the whole network, or of its base alone.

    Args:
        network: keras.Model to fill, in place.
        path: .h5 or .keras file of a whole model, a .weights.h5 or keras.applications weights file, or a run folder, which
            means its best.h5.
        base: the part of `network` that a keras.applications weights file fills.
    Returns: network.
    Raises: WeightsError naming the file when it is missing, not a weights file, or of another network.
    """
    path = weights_file(path)
    try:
        if is_whole_model(path):
            network.set_weights(keras.models.load_model(path, compile=False, safe_mode=True).get_weights())
        else:
            (network if path.name.endswith(".weights.h5") or base is None else base).load_weights(path)
    except Exception as error:  # h5py, zipfile and Keras each raise their own
        found = saved_name(path)
        if found not in (None, network.name):
            advice = "Pass the --network that the weights are of, or other weights."
            raise WeightsError(f"{path} contains {printable(found)}, not {network.name}. {advice}") from None
        raise WeightsError(
            f"{path} does not contain weights for {network.name} ({short_message(error)}).\n"
            f"Expected a whole {network.name} saved by mura.py (best.h5), or the weights of its base from keras.applications."
        ) from None
    return network


def saved_name(path):
    """Name of the network in a .h5 file of a whole model; None where it has none."""
    with contextlib.suppress(Exception), h5py.File(path) as file:  # not HDF5, or without a configuration
        return json.loads(file.attrs["model_config"])["config"]["name"]


def weights_file(path):
    """The file of a path of weights: of a run folder its best network. Raises: WeightsError when it is missing."""
    path = network_file(path, "best.h5") if Path(path).is_dir() else Path(path)
    if not path.is_file():
        takes = "none, imagenet, the path of a .h5 or .keras file, or a run folder"
        raise WeightsError(f"{path}: no such weights file; --weights takes {takes}.")
    return path


def is_whole_model(path):
    """Whether a file contains a model's architecture as well as its weights."""
    if path.suffix == ".keras":
        return True
    with h5py.File(path) as file:
        return "model_config" in file.attrs

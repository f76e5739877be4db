"""The layers of a network that training does not change: which they are, and their output, computed once."""

import math

import keras
import numpy as np
from keras import layers

from bones.networks import graph
from bones.networks.acceleration import accelerate
from bones.networks.batches import outputs
from bones.networks.catalogue import NETWORKS
from bones.system.errors import WeightsError

LARGEST = 1 << 30  # bytes of features that are kept in memory


def freeze(network, blocks, normalisation=False):
    """Keep the first blocks of a network, with all before them, as they are; their batch normalisation in inference mode.

    Args:
        blocks: how many.
        normalisation: whether to do so with the batch normalisation of all layers.
    Raises: WeightsError when the network has fewer blocks.
    """
    ends = NETWORKS[network.name].blocks
    if blocks and not ends:
        raise WeightsError(
            f"frozen={blocks}: the blocks of {network.name} are not listed. Pass --set frozen=0, or a --network with blocks: "
            f"{', '.join(name for name, entry in NETWORKS.items() if entry.blocks)}."
        )
    if blocks > len(ends):
        raise WeightsError(f"{network.name} has {len(ends)} blocks; pass --set frozen={len(ends)} or less, not {blocks}.")
    if blocks:
        last = network.layers.index(network.get_layer(ends[blocks - 1]))
        for layer in network.layers[: last + 1]:
            layer.trainable = False
    for layer in graph.all_layers(network) if normalisation else ():
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def split(network):
    """The constant part of a network, and the part that training changes.

    Args:
        network: keras.Model from one input to one output.
    Returns: (below, above), keras.Models of the same layers, with above(below(x)) = network(x); None where there is no
        constant part.
    """
    cut = last_constant(network)
    if cut is None:
        return None
    return keras.Model(network.input, cut), keras.Model(cut, network.output, name=network.name)


def last_constant(network):
    """The output of the last operation that all paths pass and up to which none is trainable or random.

    Returns: symbolic tensor; None where no operation up to there has weights.
    """
    found, has_weights = None, False
    for operation, output, is_passed in graph.steps(network):
        if getattr(operation, "trainable_weights", None) or isinstance(operation, layers.Dropout):
            break
        has_weights |= bool(getattr(operation, "weights", None))
        if is_passed and has_weights:
            found = output
    return found


def can_store(below, count):
    """Whether the output of a constant part for so many views is small enough to keep in memory."""
    return 4 * math.prod(below.output_shape[1:]) * count <= LARGEST


def features(below, pixels):
    """The output of a part of a network for each view, (n, ...) float32, without dropout."""
    return outputs(below, pixels).astype(np.float32)


def pooled_features(network, pixels):
    """The input of a network's output layer for each view, (n, features) float32, without dropout."""
    return features(accelerate(keras.Model(network.input, network.layers[-1].input, name=network.name)), pixels)

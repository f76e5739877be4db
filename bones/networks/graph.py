"""Connections between layers and variables of Keras: the only file that uses Keras's private names.

Another version of Keras may rename them. The one exception is fused.Adam, which is a subclass of Keras's.
"""

import math

import keras
from keras import layers


def all_layers(network):
    """All layers of a network, including nested ones."""
    return network._flatten_layers()


def source(tensor):
    """The layer that outputs a symbolic tensor."""
    return tensor._keras_history.operation


def consumers(tensor):
    """The layers that have a symbolic tensor as input, each once."""
    return list(dict.fromkeys(node.operation for node in source(tensor)._outbound_nodes))


def steps(network):
    """The operations of a network from one input to one output, in an order in which each follows those that it reads.

    Returns: a list of (operation, its output, whether every path from input to output passes it). An operation is a layer, a
        nested network, or a function of keras.ops.
    """
    by_depth = network._nodes_by_depth
    nodes = [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]
    places = {node: place for place, node in enumerate(nodes)}
    last_reader, reach = list(range(len(nodes))), 0
    for place, node in enumerate(nodes):
        for parent in node.parent_nodes:
            last_reader[places[parent]] = place
    found = []
    for place, node in enumerate(nodes):
        # A path that does not pass it would have a connection from an earlier operation to a later one.
        found.append((node.operation, node.outputs[0], reach <= place))
        reach = max(reach, last_reader[place])
    return found


def following_relu(layer):
    """The ReLU that is the only consumer of a layer's output, and the (low, high) between which it clips.

    Returns: (an Activation or ReLU layer, bounds), or (None, infinite bounds).
    """
    behind = consumers(layer.output)
    only = behind[0] if len(behind) == 1 else None
    if isinstance(only, layers.Activation) and only.activation is keras.activations.relu:
        high = None
    elif isinstance(only, layers.ReLU) and only.negative_slope == only.threshold == 0:
        high = only.max_value
    else:
        return None, (-math.inf, math.inf)
    return only, (0.0, math.inf if high is None else float(high))


def averaged_variables(optimizer):
    """[(variable, its moving average)] of an optimizer with moving averages."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # LossScaleOptimizer of float16
    return list(zip(inner._trainable_variables, inner._model_variables_moving_average, strict=True))

"""What layers and variables of Keras hang together: the one file that uses its private names, and short for that reason.

Another version of Keras may rename them; fused.Adam, which is a subclass of Keras's, is the one exception.
"""

import keras
from keras import layers


def all_layers(network):
    """Every layer of a network, those inside other layers too."""
    return network._flatten_layers()


def source(tensor):
    """The layer that gives a symbolic tensor."""
    return tensor._keras_history.operation


def consumers(tensor):
    """The layers that take a symbolic tensor."""
    return [node.operation for node in source(tensor)._outbound_nodes]


def following_relu(layer):
    """The Activation layer that alone takes a layer's output, if it is a ReLU; else None."""
    behind = consumers(layer.output)
    if len(behind) == 1 and isinstance(behind[0], layers.Activation) and behind[0].activation is keras.activations.relu:
        return behind[0]
    return None


def averaged_variables(optimizer):
    """[(variable, its moving average)] of an optimizer that keeps such."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # float16's scales the loss
    return list(zip(inner._trainable_variables, inner._model_variables_moving_average, strict=True))

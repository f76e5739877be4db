"""How a network computes faster, and otherwise the same: on a CPU of TensorFlow, on OpenVINO, on several devices."""

import functools

import keras
from keras import layers

from bones.networks import graph


def synchronise(network):
    """Have batch normalisation take its statistics over the views of all devices in place of each device's own.

    On JAX it does so by itself: there a batch is one array, wherever its parts lie.
    """
    if keras.backend.backend() == "tensorflow":
        for layer in graph.all_layers(network):
            if isinstance(layer, layers.BatchNormalization):
                layer.synchronized = True
                layer.get_config = functools.partial(without_synchronisation, layer.get_config)


def without_synchronisation(get_config):
    """A layer's configuration without the word of other devices, which would not open on other backends."""
    return {**get_config(), "synchronized": False}


def accelerate(network):
    """Let a network compute faster where this repository knows how.

    On TensorFlow, on a CPU, its layers compute with fused.py from then on; the network stays what it is, and so do its files.
    On OpenVINO, which only scores, it is rebuilt with channels in front. Results are equal (tests/networks/test_fused.py,
    tests/networks/test_openvino.py). Other backends and GPUs keep the stock layers.

    Args:
        network: keras.Model, not yet traced.
    Returns: the keras.Model to use, of the same inputs, outputs and weights.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from bones.networks import fused

        fused.fuse(network)
    return channels_first(network) if backend == "openvino" else network


def channels_first(network):
    """The same network in float32 with channels before rows and columns.

    OpenVINO computes so, and transposes around each layer otherwise, which takes nine tenths of its time. Keras keeps kernels
    in one form whatever the order, so the weights are the same. OpenVINO itself uses bfloat16 where the processor has it.
    """
    config = float32_config(network)
    for layer in config["layers"]:
        options = layer["config"]
        layer.pop("build_config", None)  # shapes of the other order
        if "data_format" in options:
            options["data_format"] = "channels_first"
        if layer["class_name"] in ("BatchNormalization", "Concatenate", "GroupNormalization"):
            options["axis"] = 1
        if layer["class_name"] == "Rescaling" and isinstance(options["scale"], list):  # a value a channel
            options |= {name: [[[value]] for value in options[name]] for name in ("scale", "offset")}
        if layer["class_name"] == "InputLayer":
            _, height, width, channels = options["batch_shape"]
            options["batch_shape"] = (None, channels, height, width)
    turned = keras.Model.from_config(config)
    turned.set_weights(network.get_weights())
    grey = keras.Input(network.input_shape[1:], name="grey")
    return keras.Model(grey, turned(layers.Permute((3, 1, 2))(grey)), name=network.name)


def float32_config(network):
    """What `keras.Model.from_config` makes the same network of, computing in float32 whatever it was trained in."""
    config = network.get_config()
    for layer in config["layers"]:
        layer["config"]["dtype"] = "float32"
    return config


def in_float32(network):
    """A copy of a network that computes in float32, with stock layers."""
    exact = keras.Model.from_config(float32_config(network))
    exact.set_weights(network.get_weights())
    return exact


def adam(learning_rate, **options):
    """Keras's Adam with its options, on one device of TensorFlow as one operation a variable (fused.py)."""
    if keras.backend.backend() == "tensorflow":
        from bones.networks import fused

        if fused.is_single_device():
            return fused.Adam(learning_rate, name="adam", **options)
    return keras.optimizers.Adam(learning_rate, **options)

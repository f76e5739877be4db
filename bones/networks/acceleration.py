"""Faster computation of the same networks: with TensorFlow on a CPU, with OpenVINO, and on several devices."""

import functools

import keras
from keras import layers

from bones.networks import graph

# Layers with data_format or an axis that `channels_first` changes, and layers that treat each value alike.
TURNABLE = {
    *("InputLayer", "Rescaling", "Conv2D", "DepthwiseConv2D", "SeparableConv2D", "ZeroPadding2D", "Cropping2D"),
    *("MaxPooling2D", "AveragePooling2D", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "BatchNormalization"),
    *("GroupNormalization", "Concatenate", "Activation", "ReLU", "Dropout", "Add", "Multiply"),
}


def synchronise(network):
    """Make batch normalisation compute its statistics over the views of all devices in place of each device's own.

    JAX does so already: there a batch is one array, sharded over the devices.
    """
    if keras.backend.backend() == "tensorflow":
        for layer in graph.all_layers(network):
            if isinstance(layer, layers.BatchNormalization):
                layer.synchronized = True
                layer.get_config = functools.partial(without_synchronisation, layer.get_config)


def without_synchronisation(get_config):
    """A layer's configuration with synchronized=False, since other backends do not load a synchronized layer."""
    return {**get_config(), "synchronized": False}


def accelerate(network):
    """Accelerate a network where this repository supports it.

    With TensorFlow on a CPU, its layers compute with fused.py from then on; the network and its files do not change. With
    OpenVINO, which only predicts, it is rebuilt with channels first, where all its layers exist in that order. Results are
    equal (tests/networks/test_fused.py, tests/networks/test_openvino.py). Other backends and GPUs use the standard layers.

    Args:
        network: keras.Model, not yet traced.
    Returns: the keras.Model to use, of the same inputs, outputs and weights.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        from bones.networks import fused

        fused.fuse(network)
    if backend != "openvino":
        return network
    return channels_first(network) if can_turn(network) else in_its_precision(network, network.inputs, network.outputs[0])


def can_turn(network):
    """Whether each layer of a network exists with channels before rows and columns, or has no channels."""
    return all(
        type(layer).__name__ in TURNABLE or (isinstance(layer, layers.Dense) and layer.input.ndim == 2)
        for layer, _, _ in graph.steps(network)
    )


def channels_first(network):
    """The same network in float32 with channels before rows and columns.

    OpenVINO computes in this order, and otherwise transposes around each layer, which takes nine tenths of its time. Keras
    stores kernels in one form for both orders, so the weights are the same. A network that was trained in bfloat16 is computed
    in bfloat16 where the CPU has it, and any other in float32.
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
    return in_its_precision(network, grey, turned(layers.Permute((3, 1, 2))(grey)))


def in_its_precision(network, inputs, outputs):
    """A model from symbolic inputs to outputs, which OpenVINO computes in float32 where all layers of a network do."""
    is_float32 = all(layer.compute_dtype == "float32" for layer in graph.all_layers(network))
    return (Float32Model if is_float32 else keras.Model)(inputs, outputs, name=network.name)


class Float32Model(keras.Model):
    """A model that OpenVINO computes in float32, also on a CPU with bfloat16, where OpenVINO's default is bfloat16."""

    def _get_compiled_model(self, data):
        import openvino

        default = openvino.compile_model  # Keras 3.15 calls it without a configuration.
        openvino.compile_model = functools.partial(default, config={"INFERENCE_PRECISION_HINT": "f32"})
        try:
            return super()._get_compiled_model(data)
        finally:
            openvino.compile_model = default


def float32_config(network):
    """A network's configuration for `keras.Model.from_config`, with float32 in place of the dtype it was trained in."""
    return in_dtype(network.get_config(), "float32")


def in_dtype(config, dtype):
    """A network's configuration with another dtype of each layer, including those of nested networks."""
    for layer in config["layers"]:
        if "layers" in layer["config"]:
            in_dtype(layer["config"], dtype)
        if "dtype" in layer["config"]:  # a function of keras.ops has none
            layer["config"]["dtype"] = dtype
    return config


def in_float32(network):
    """A copy of a network that computes in float32, with standard layers."""
    exact = keras.Model.from_config(float32_config(network))
    exact.set_weights(network.get_weights())
    return exact


def adam(learning_rate, **options):
    """Keras's Adam with its options; with TensorFlow on one device, as one operation a variable (fused.py)."""
    if keras.backend.backend() == "tensorflow":
        from bones.networks import fused

        if fused.is_single_device():
            return fused.Adam(learning_rate, name="adam", **options)
    return keras.optimizers.Adam(learning_rate, **options)

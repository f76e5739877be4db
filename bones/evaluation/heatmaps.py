"""Heat maps: the evidence for "abnormal" at each position of a view.

Two maps are drawn. The class activation map is exact: the mean of its values is the logit. But it is coarse (10 x 10 cells at
320 px), and the evidence need not be located at its cell: the receptive field of DenseNet's last features is the whole image.
LayerCAM uses features of higher resolution, and locates injuries on phantoms that the first map does not (docs/heatmaps.md).
"""

import functools
import sys

import keras
import numpy as np
from keras import layers

from bones.networks import graph
from bones.networks.acceleration import accelerate, in_float32
from bones.networks.batches import outputs
from bones.system.errors import HeatmapError

FINE = 24  # minimum cells per side of LayerCAM's map: at 320 px the features of 40 x 40, at 128 px of 32 x 32
BATCH = 16  # views at a time when computing gradients


def class_activation(network):
    """Build a network whose output is its class activation map: the last features weighted by the final unit.

    map = sum_k w_k feature_k + b. Average pooling and the unit are both linear, so the mean of the map is the logit.

    Args:
        network: keras.Model from (n, size, size, 1) that ends in GlobalAveragePooling2D, Dropout or nothing, and one unit.
    Returns: keras.Model from the same input to (n, rows, columns), of Keras's own layers, or None if it ends differently.
    Source: Zhou et al. 2016, arXiv 1512.04150.
    """
    unit = network.layers[-1]
    before = unit.input
    while isinstance(graph.source(before), layers.Dropout):
        before = graph.source(before).input
    pool = graph.source(before)
    if not isinstance(pool, layers.GlobalAveragePooling2D):
        return None
    kernel, bias = unit.get_weights()  # (features, 1), (1,)
    weigh = layers.Conv2D(1, 1, dtype="float32", name="class_activation")
    share = weigh(pool.input)  # (n, rows, columns, 1)
    weigh.set_weights([kernel[None, None], bias])
    whole = layers.Reshape(share.shape[1:3], dtype="float32", name="map")(share)
    return keras.Model(network.input, whole, name=network.name)


def grad_cam(network, pixels):
    """Grad-CAM of any network that ends in one unit: its last features weighted by the mean gradient of the logit.

    map = rows * columns * relu(sum_k a_k feature_k), a_k the mean of d logit / d feature_k over the map. With this factor
    it equals `class_activation`, except for the bias and the relu.

    Args:
        network: keras.Model.
        pixels: (n, size, size, 1).
    Returns: (n, rows, columns) float32.
    Source: Selvaraju et al. 2017, arXiv 1610.02391.
    """

    def weigh(features, gradient):
        rows, columns = features.shape[1:3]
        return rows * columns * np.maximum((gradient.mean((1, 2), keepdims=True) * features).sum(-1), 0)

    return by_gradient(network, features_with_places(network)[-1], pixels, weigh)


def layer_cam(network, pixels):
    """LayerCAM of the deepest features with at least FINE cells per side, each weighted by its own positive gradient.

    map = sum_k feature_k relu(d logit / d feature_k): the first-order decrease of the logit without the evidence there.

    Args, returns: as `grad_cam`.
    Source: Jiang et al. 2021, doi:10.1109/TIP.2021.3089943.
    """
    return by_gradient(
        network, fine_features(network), pixels, lambda features, gradient: (features * np.maximum(gradient, 0)).sum(-1)
    )


def fine_features(network):
    """The features of LayerCAM: the deepest with at least FINE cells per side, else the finest.

    Returns: symbolic tensor, or None where only the last features are passed by all paths and they have fewer cells: Grad-CAM,
        or class activation, has their map.
    """
    found = features_with_places(network)
    fine = [features for features in found if features.shape[1] >= FINE]
    if fine:
        return fine[-1]
    finest = max(found, key=lambda features: features.shape[1])
    return finest if finest.shape[1] > found[-1].shape[1] else None


def features_with_places(network):
    """Outputs with rows and columns that every path from input to output passes, in order, from the first weights on.

    Others cannot be used: the gradient of the logit along a bypass is not theirs. Padding is left out, because its cells extend
    beyond the image.

    Raises: HeatmapError when there are none.
    """
    found, has_weights = [], False
    for operation, output, is_passed in graph.steps(network):
        has_weights |= bool(getattr(operation, "weights", None))
        if has_weights and is_passed and output.ndim == 4 and not isinstance(operation, layers.ZeroPadding2D):
            found.append(output)
    if not found:
        raise HeatmapError(
            f"{network.name} has no layer with rows and columns that all its paths pass, so heat maps cannot be drawn."
        )
    return found


def by_gradient(network, output, pixels, weigh):
    """Compute maps from features within a network and d logit / d features, each (views, rows, columns, features).

    Args:
        output: symbolic tensor that every path from input to output passes.
        weigh: f(features, gradient), both float32 -> maps.
    """
    unit, logit = network.layers[-1], layers.Dense(1, dtype="float32", name="logit")
    head, base = keras.Model(output, logit(unit.input)), keras.Model(network.input, output)
    logit.set_weights(unit.get_weights())
    maps = []
    for start in range(0, len(pixels), BATCH):
        features = base(keras.ops.convert_to_tensor(pixels[start : start + BATCH], "float32"), training=False)
        parts = (
            keras.ops.convert_to_numpy(keras.ops.cast(part, "float32")) for part in (features, gradient_of(head, features))
        )
        maps.append(weigh(*parts))
    return np.concatenate(maps)


def gradient_of(head, features):
    """d sum(head(features)) / d features on TensorFlow, JAX or PyTorch."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(features)
            total = tf.reduce_sum(head(features, training=False))
        return tape.gradient(total, features)
    if backend == "jax":
        import jax

        weights = [variable.value for variable in head.trainable_variables], [v.value for v in head.non_trainable_variables]
        return jax.grad(lambda inputs: head.stateless_call(*weights, inputs, training=False)[0].sum())(features)
    features = features.detach().requires_grad_()
    head(features, training=False).sum().backward()
    return features.grad


def has_gradients():
    """Whether the current backend has gradients."""
    return keras.backend.backend() != "openvino"


def map_function(network, batch_size=32):
    """Return the function that computes the heat maps of a network.

    Args:
        network: keras.Model as saved, before networks.acceleration.accelerate.
        batch_size: views at a time for class activation.
    Returns: f((n, size, size, 1) uint8) -> {kind of map: (n, rows, columns) float32}. The kinds are "class activation", or
        "Grad-CAM" if the network does not support it, and "LayerCAM", except on OpenVINO, which has no gradients, and, which is
        said, where the network has bypasses around all its finer features.
    Raises: HeatmapError if no kind is available.
    """
    activation, plain = class_activation(network), in_float32(network)
    kinds = {}
    if activation is not None:
        activation = accelerate(activation)
        kinds["class activation"] = functools.partial(outputs, activation, batch_size=batch_size)
    elif has_gradients():
        kinds["Grad-CAM"] = functools.partial(grad_cam, plain)
    else:
        raise HeatmapError(
            f"KERAS_BACKEND is openvino, which has no gradients, and {network.name} needs them for heat maps: it does not end "
            "in global average pooling and one unit. Set KERAS_BACKEND=tensorflow."
        )
    if has_gradients() and fine_features(plain) is not None:
        kinds["LayerCAM"] = functools.partial(layer_cam, plain)
    elif has_gradients():
        about = "paths around all its features but the last, so LayerCAM is not drawn"
        print(f"{network.name} has {about}; {' and '.join(kinds)} is.", file=sys.stderr)
    return lambda pixels: {kind: find(pixels) for kind, find in kinds.items()}

"""Where a network looked: maps of what speaks for "abnormal" at each place of a view, laid over the film.

A map's values are shares of the logit: their mean over the map is the network's logit, before the temperature. A network that
ends in global average pooling and one unit says so by itself (class activation map, exact, on every backend); for others
gradients stand in (Grad-CAM; TensorFlow, JAX and PyTorch).
"""

import warnings

import keras
import matplotlib
import numpy as np
from keras import layers
from matplotlib.figure import Figure
from PIL import Image  # resizes maps

import bootstrap
import data_loader
import networks
import scores

COLOURS = matplotlib.colormaps["inferno"]  # of even steps to the eye, also for those who see red and green as one
LEAST_TOP = 4.0  # of the colour scale, in units of the logit: else noise on a normal film would glow as a fracture does


class HeatmapError(Exception):
    """A network or data that no map can be had for; the message says what was expected."""


# ---------------------------------------------------------------------------------------------------------------------
# Maps


def class_activation(network):
    """The network whose output is its class activation map: the last features weighted by the final unit.

    map = sum_k w_k feature_k + b. Average pooling and the unit are both linear, so the mean of the map is the logit.

    Args:
        network: keras.Model from (n, size, size, 1) that ends in GlobalAveragePooling2D, Dropout or nothing, and one unit.
    Returns: keras.Model from the same input to (n, rows, columns), of stock layers, or None where it ends in another way.
    Source: Zhou et al. 2016, arXiv 1512.04150.
    """
    unit = network.layers[-1]
    before = unit.input
    while isinstance(before._keras_history.operation, layers.Dropout):
        before = before._keras_history.operation.input
    pool = before._keras_history.operation
    if not isinstance(pool, layers.GlobalAveragePooling2D):
        return None
    kernel, bias = unit.get_weights()  # (features, 1), (1,)
    weigh = layers.Conv2D(1, 1, dtype="float32", name="class_activation")
    share = weigh(pool.input)  # (n, rows, columns, 1)
    weigh.set_weights([kernel[None, None], bias])
    whole = layers.Reshape(share.shape[1:3], dtype="float32", name="map")(share)
    return keras.Model(network.input, whole, name=network.name)


def grad_cam(network, pixels):
    """Maps of any network that ends in one unit: the last features weighted by the mean gradient of the logit.

    map = rows * columns * relu(sum_k a_k feature_k), a_k the mean of d logit / d feature_k over the map. The factor makes it
    agree with `class_activation`, but for the bias and the cut at 0.

    Args:
        pixels: (n, size, size, 1).
    Returns: (n, rows, columns) float32.
    Source: Selvaraju et al. 2017, arXiv 1610.02391.
    """
    unit = network.layers[-1]
    last = [layer.output for layer in network.layers if len(layer.output.shape) == 4]
    if not last:
        raise HeatmapError(f"{network.name} has no layer with rows and columns, so it has no place to show.")
    logit = layers.Dense(1, dtype="float32", name="logit")
    head = keras.Model(last[-1], logit(unit.input))
    logit.set_weights(unit.get_weights())
    features = keras.Model(network.input, last[-1])(keras.ops.convert_to_tensor(pixels, "float32"), training=False)
    gradient = keras.ops.convert_to_numpy(gradient_of(head, features)).astype(np.float32)
    features = keras.ops.convert_to_numpy(features).astype(np.float32)
    rows, columns = features.shape[1:3]
    return rows * columns * np.maximum((gradient.mean((1, 2), keepdims=True) * features).sum(-1), 0)


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


def check_gradients(network):
    """Raise HeatmapError where the backend at work has no gradients."""
    if keras.backend.backend() == "openvino":
        raise HeatmapError(
            f"KERAS_BACKEND is openvino, which has no gradients, and {network.name} needs them for heat maps: it does not end "
            "in global average pooling and one unit. Set KERAS_BACKEND=tensorflow."
        )


def mapper(network):
    """The function from pixels to maps for a network: class activation where it can be had, Grad-CAM elsewhere.

    Args:
        network: keras.Model as it was saved, before networks.speed_up.
    Returns: f(pixels, (n, size, size, 1) uint8) -> (n, rows, columns) float32.
    Raises: HeatmapError where it takes gradients and the backend has none.
    """
    activation = class_activation(network)
    if activation is None:
        check_gradients(network)
        return lambda pixels: np.concatenate([grad_cam(network, pixels[[place]]) for place in range(len(pixels))])
    activation = networks.speed_up(activation)
    return lambda pixels: data_loader.run_through(activation, pixels)


def on_film(values, width, height, resize):
    """A map in the frame of the film that `images.fit_square` brought to the square which the map covers.

    Args:
        values: (rows, columns) float.
        width, height: of the film, pixels.
        resize: "pad" or "stretch", as for fit_square.
    Returns: (height, width) float32, linear between the middles of the map's cells.
    """
    rows, columns = values.shape
    side = max(width, height)
    share_x, share_y = (width / side, height / side) if resize == "pad" else (1, 1)  # of the square that the film covers
    left, top = columns * (1 - share_x) / 2, rows * (1 - share_y) / 2
    box = (left, top, columns - left, rows - top)
    whole = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR, box=box))


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def overlay(film, values, top, resize):
    """A film under its map: clear where nothing speaks for "abnormal", the stronger the more does.

    Args:
        film: PIL.Image of mode L.
        values: (rows, columns) map.
        top: value of the last colour.
    Returns: (height, width, 3) uint8.
    """
    share = np.clip(on_film(values, *film.size, resize) / top, 0, 1)[..., None]
    colours = COLOURS(share[..., 0])[..., :3]
    cover = 0.75 * np.minimum(1, 2 * share)  # whole colours from half of the scale on; the bone shows through all of them
    grey = np.asarray(film, np.float32)[..., None] / 255
    return np.uint8(255 * ((1 - cover) * grey + cover * colours) + 0.5)


def scale_top(maps):
    """The last colour's value for the maps of one study: the greatest of them, but no less than LEAST_TOP."""
    return max(LEAST_TOP, max(float(values.max()) for values in maps))


def panel(title, films, captions, maps, resize):
    """The views of one study, each beside itself with its map over it, and the scale of the maps.

    Args:
        title: text above it, of one or several lines.
        films: PIL images of mode L.
        captions: one text a film.
        maps: (rows, columns) each.
        resize: the run's.
    Returns: matplotlib.figure.Figure.
    """
    pairs = min(2, len(films))  # side by side
    rows, top = -(-len(films) // pairs), scale_top(maps)
    figure = Figure(figsize=(5.6 * pairs + 1.2, 3.6 * rows + 0.8), dpi=110, layout="constrained")
    places = figure.subplots(rows, 2 * pairs, squeeze=False).reshape(-1, 2)
    for axes in places.ravel():
        axes.set_axis_off()
        axes.set_anchor("N")
    for (plain, covered), film, caption, values in zip(places, films, captions, maps, strict=False):
        plain.imshow(film, cmap="gray", vmin=0, vmax=255)
        covered.imshow(overlay(film, values, top, resize))
        plain.set_title(caption, fontsize=11, loc="left", parse_math=False)
        for axes in (plain, covered):  # a frame, or a white film would have no edge
            axes.set_axis_on()
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_color("grey")
    colours = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, top), COLOURS)
    bar = figure.colorbar(colours, ax=list(places.ravel()), panchor=False, shrink=0.8, pad=0.02, aspect=30)
    bar.set_label('speaks for "abnormal"\n(share of the logit)', fontsize=11)
    figure.suptitle(title, fontsize=13, parse_math=False)
    return figure


def save(figure, file):
    """Write a figure as .png, whole or not at all."""
    partial = file.with_name(f".partial-{file.name}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in another script; it is drawn as boxes
        figure.savefig(partial, format="png")
    partial.replace(file)


# ---------------------------------------------------------------------------------------------------------------------
# Do maps point at what is abnormal? On phantoms one knows.


def peak(values, width, height, resize):
    """Place of a map's maximum on the film, (x, y) as shares of its sides; the middle of it where it is flat."""
    whole = on_film(values, width, height, resize)
    y, x = np.argwhere(whole == whole.max()).mean(0) + 0.5
    return x / width, y / height


def pointing(views, peaks, boxes):
    """How often a map's maximum lies inside the box around what is abnormal: the pointing game.

    Args:
        views: one row a view, with patient.
        peaks: (n, 2), as `peak` gives them.
        boxes: (n, 4), left, top, right, bottom as shares of the film's sides.
    Returns: {"hits": {"value", "low", "high"}, "other_films": float, "gain": {as hits}, "area": float, "middle": float}:
        the share of hits with its 95 % interval over patients; the share of hits of the same maxima in other films' boxes,
        which a map gets that knows where injuries lie in general; the difference of the two; the share of a film that its box
        covers; and the share of boxes around the film's middle.
    Source: Zhang et al. 2018, doi:10.1007/s11263-017-1059-x.
    """
    x, y = np.asarray(peaks).T
    left, top, right, bottom = np.asarray(boxes).T
    inside = (x[:, None] >= left) & (x[:, None] < right) & (y[:, None] >= top) & (y[:, None] < bottom)  # (maps, boxes)
    hit, count = np.diag(inside).astype(float), len(x)
    by_chance = (inside.sum(1) - hit) / max(1, count - 1)

    def statistics(weight):
        total = weight.sum(1)
        return {"hits": weight @ hit / total, "gain": weight @ (hit - by_chance) / total}

    found = bootstrap.intervals(statistics, views["patient"])
    return {
        "hits": scores.with_interval(hit.mean(), found["hits"]),
        "gain": scores.with_interval((hit - by_chance).mean(), found["gain"]),
        "other_films": by_chance.mean(),
        "area": ((right - left) * (bottom - top)).mean(),
        "middle": ((left <= 0.5) & (right > 0.5) & (top <= 0.5) & (bottom > 0.5)).mean(),
    }

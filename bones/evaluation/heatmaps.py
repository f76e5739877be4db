"""Where a network looked: maps of what speaks for "abnormal" at each place of a view, laid over the film.

Two maps, because neither does alone. The class activation map says exactly what the network adds up: the mean of its values is
the logit. But its cells are few (10 x 10 at 320 px), and what one stands for need not lie under it: DenseNet's last features
see the whole film. LayerCAM goes back to features of small cells, and on phantoms it points at the injury where the first does
not (docs/heatmaps.md).
"""

import functools
import warnings

import keras
import matplotlib
import numpy as np
from keras import layers
from matplotlib.figure import Figure
from PIL import Image  # resizes maps

from bones.networks import graph
from bones.networks.acceleration import in_float32, speed_up
from bones.networks.predict import run_through
from bones.scores import intervals
from bones.scores.report import with_interval
from bones.system.errors import HeatmapError
from bones.system.files import whole_file

COLOURS = matplotlib.colormaps["inferno"]  # of even steps to the eye, also for those who see red and green as one
FINE = 24  # cells a side of LayerCAM's map, at least: at 320 px the features of 40 x 40, at 128 px of 32 x 32
PADDING = (layers.InputLayer, layers.ZeroPadding2D)
BATCH = 16  # views at a time where gradients are taken
LEAST_TOP = 4.0  # of the colour scale, in units of the logit: else noise on a normal film would glow as a fracture does


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
    """Maps of any network that ends in one unit: its last features weighted by the mean gradient of the logit.

    map = rows * columns * relu(sum_k a_k feature_k), a_k the mean of d logit / d feature_k over the map. The factor makes it
    agree with `class_activation`, but for the bias and the cut at 0.

    Args:
        network: keras.Model.
        pixels: (n, size, size, 1).
    Returns: (n, rows, columns) float32.
    Source: Selvaraju et al. 2017, arXiv 1610.02391.
    """

    def weigh(features, gradient):
        rows, columns = features.shape[1:3]
        return rows * columns * np.maximum((gradient.mean((1, 2), keepdims=True) * features).sum(-1), 0)

    return by_gradient(network, layers_with_places(network)[-1], pixels, weigh)


def layer_cam(network, pixels):
    """Maps of the deepest features that have FINE cells or more a side, each weighted by its own gradient where it is positive.

    map = sum_k feature_k relu(d logit / d feature_k): what the logit would lose, to first order, without what is seen there.

    Args, returns: as `grad_cam`.
    Source: Jiang et al. 2021, doi:10.1109/TIP.2021.3089943.
    """
    places = layers_with_places(network)
    fine = [layer for layer in places if layer.output.shape[1] >= FINE]
    layer = fine[-1] if fine else max(places, key=lambda layer: layer.output.shape[1])
    return by_gradient(network, layer, pixels, lambda features, gradient: (features * np.maximum(gradient, 0)).sum(-1))


def layers_with_places(network):
    """The layers that give rows and columns of features, in order; but for padding, whose cells lie beyond the film."""
    found = [layer for layer in network.layers if len(layer.output.shape) == 4 and not isinstance(layer, PADDING)]
    if not found:
        raise HeatmapError(f"{network.name} has no layer with rows and columns, so it has no place to show.")
    return found


def by_gradient(network, layer, pixels, weigh):
    """Maps from a layer's features and d logit / d features, each (views, rows, columns, features) float32."""
    unit, logit = network.layers[-1], layers.Dense(1, dtype="float32", name="logit")
    head, base = keras.Model(layer.output, logit(unit.input)), keras.Model(network.input, layer.output)
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
    """Whether the backend at work has gradients."""
    return keras.backend.backend() != "openvino"


def mapper(network, batch_size=32):
    """The function from pixels to the maps of a network.

    Args:
        network: keras.Model as it was saved, before networks.speed_up.
        batch_size: views that it is given at a time for class activation.
    Returns: f((n, size, size, 1) uint8) -> {name of a kind of map: (n, rows, columns) float32}. "class activation", or
        "Grad-CAM" where it cannot be had; and "LayerCAM", but on OpenVINO, which has no gradients.
    Raises: HeatmapError where no kind can be had.
    """
    activation, plain = class_activation(network), in_float32(network)
    kinds = {}
    if activation is not None:
        activation = speed_up(activation)
        kinds["class activation"] = functools.partial(run_through, activation, batch_size=batch_size)
    elif has_gradients():
        kinds["Grad-CAM"] = functools.partial(grad_cam, plain)
    else:
        raise HeatmapError(
            f"KERAS_BACKEND is openvino, which has no gradients, and {network.name} needs them for heat maps: it does not end "
            "in global average pooling and one unit. Set KERAS_BACKEND=tensorflow."
        )
    if has_gradients():
        kinds["LayerCAM"] = functools.partial(layer_cam, plain)
    return lambda pixels: {kind: find(pixels) for kind, find in kinds.items()}


def on_film(values, width, height, resize):
    """A map in the frame of the film that `images.fit_square` brought to the square which the map covers.

    Args:
        values: (rows, columns) float.
        width, height: of the film, pixels.
        resize: "pad" or "stretch", as for fit_square.
    Returns: (height, width) float32, linear between the middles of the map's cells.
    """
    rows, columns = values.shape
    share_x, share_y = film_share(width, height, resize)
    left, top = columns * (1 - share_x) / 2, rows * (1 - share_y) / 2
    box = (left, top, columns - left, rows - top)
    whole = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR, box=box))


def film_share(width, height, resize):
    """Shares of the square's width and height that a film covers, in its middle."""
    side = max(width, height)
    return (width / side, height / side) if resize == "pad" else (1, 1)


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


def scale_tops(maps):
    """The last colour's value for each kind of map of one study.

    Args:
        maps: {kind: (n, rows, columns)}.
    Returns: {kind: float}: the greatest value; of those in units of the logit, no less than LEAST_TOP.
    """
    return {kind: max(float(values.max()), 1e-9 if kind == "LayerCAM" else LEAST_TOP) for kind, values in maps.items()}


def describe_scale(tops):
    """What the colours from 0 to 1 stand for, a line a kind of map."""
    lines = ["what speaks for abnormal; without colour: nothing"]
    for kind, top in tops.items():
        lines.append(f"{kind}: 1 is " + ("the greatest of this study" if kind == "LayerCAM" else f"{top:.1f} in the logit"))
    return "\n".join(lines)


def panel(title, films, captions, maps, resize):
    """The views of one study, each beside itself under its maps, and the scale of the maps.

    Args:
        title: text above it, of one or several lines.
        films: n PIL images of mode L.
        captions: one text a film.
        maps: {kind: (n, rows, columns)}.
        resize: the run's.
    Returns: matplotlib.figure.Figure.
    """
    tops, columns = scale_tops(maps), 1 + len(maps)
    figure = Figure(figsize=(3.4 * columns + 1.6, 3.6 * len(films) + 0.8), dpi=110, layout="constrained")
    places = figure.subplots(len(films), columns, squeeze=False)
    for axes in places.ravel():
        axes.set(xticks=[], yticks=[], anchor="N")
        axes.spines[:].set_color("grey")  # a frame, or a white film would have no edge
    for place, (row, film, caption) in enumerate(zip(places, films, captions, strict=True)):
        row[0].imshow(film, cmap="gray", vmin=0, vmax=255)
        row[0].set_title(caption, fontsize=11, loc="left", parse_math=False)
        for axes, (kind, values) in zip(row[1:], maps.items(), strict=True):
            axes.imshow(overlay(film, values[place], tops[kind], resize))
            axes.set_title(kind, fontsize=11, loc="left")
    colours = matplotlib.cm.ScalarMappable(cmap=COLOURS)
    bar = figure.colorbar(colours, ax=places, panchor=False, shrink=min(1, 2 / len(films)), aspect=30)
    bar.set_label(describe_scale(tops), fontsize=10)
    figure.suptitle(title, fontsize=13, parse_math=False)
    return figure


def save(figure, file):
    """Write a figure as .png, whole or not at all."""
    with whole_file(file) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in another script; it is drawn as boxes
        figure.savefig(partial, format="png")


# ---------------------------------------------------------------------------------------------------------------------
# Do maps point at what is abnormal? On phantoms one knows.


def peak(values, width, height, resize):
    """Middle of the cell on the film where a map is greatest, (x, y) as shares of the film's sides; the mean of several."""
    x, y = (
        ((np.arange(cells) + 0.5) / cells - 0.5) / share + 0.5  # below 0 and above 1 lies what was padded
        for cells, share in zip(values.shape[::-1], film_share(width, height, resize), strict=True)
    )
    on_it = ((y >= 0) & (y < 1))[:, None] & (x >= 0) & (x < 1)
    rows, columns = np.nonzero(np.where(on_it, values, -np.inf) == values.max(where=on_it, initial=-np.inf))
    return x[columns].mean(), y[rows].mean()


def pointing(views, peaks, boxes):
    """How often a map's maximum lies inside the box around what is abnormal: the pointing game.

    Args:
        views: one row a view, with patient.
        peaks: (n, 2), as `peak` gives them.
        boxes: (n, 4), left, top, right, bottom as shares of the film's sides.
    Returns: {"hits": {"value", "low", "high"}, "other_films": float, "gain": {as hits}, "area": float, "middle": float}:
        the share of hits with its 95 % interval over patients; the share of hits of the same maxima in other films' boxes, as
        a map gets that knows where injuries lie in general; the difference of the two; the share of a film that its box covers;
        and the share of boxes around the film's middle.
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

    found = intervals.intervals(statistics, views["patient"])
    return {
        "hits": with_interval(hit.mean(), found["hits"]),
        "gain": with_interval((hit - by_chance).mean(), found["gain"]),
        "other_films": by_chance.mean(),
        "area": ((right - left) * (bottom - top)).mean(),
        "middle": ((left <= 0.5) & (right > 0.5) & (top <= 0.5) & (bottom > 0.5)).mean(),
    }

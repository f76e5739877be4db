"""Maps say what the network says, lie where they belong on the film, and point at what is abnormal."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image
from support import ROOT, as_if_trained
from tiny import tiny

from bones.data import images
from bones.evaluation import heatmaps as heatmap
from bones.evaluation import overlays, pointing
from bones.networks.acceleration import speed_up
from bones.networks.applications import densenet169, inception_v3
from bones.networks.batches import predict
from bones.networks.densenet_k12 import densenet169_k12
from bones.system.errors import HeatmapError

RNG = np.random.default_rng(0)
START = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def seeded():
    """The same weights and films whichever tests run before."""
    keras.utils.set_random_seed(0)
    RNG.bit_generator.state = START


def blocks(count, size, seed=0):
    """(count, size, size, 1) uint8 views of large random blocks: they differ in more than noise."""
    cells = np.random.default_rng(seed).uniform(0, np.linspace(60, 255, count)[:, None, None], (count, 4, 4))
    return np.stack([np.asarray(Image.fromarray(np.uint8(view)).resize((size, size), 0)) for view in cells])[..., None]


def logit(probability):
    probability = np.asarray(probability, np.float64)
    return np.log(probability / (1 - probability))


def says(network, pixels):
    """What a network gives for some views, without the tens of seconds that compiling a deep one takes."""
    return keras.ops.convert_to_numpy(network(pixels, training=False)).astype(np.float32)


def calm(network, spread=3.0):
    """The network with batch statistics of its own, and a final unit that brings the logits of `blocks` to about +-spread."""
    rng, pixels = np.random.default_rng(1), blocks(8, network.input_shape[1])
    for layer in network.layers:  # else so deep a random network says the same of all views
        layer.trainable = True
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.0
    network(pixels, training=True)
    unit = network.layers[-1]
    pooled = says(keras.Model(network.input, unit.input), pixels).astype(np.float64)
    kernel = rng.normal(size=(pooled.shape[1], 1))
    middle = pooled.mean(0)[:, None]
    kernel -= middle * (middle.T @ kernel) / (middle.T @ middle)  # logits about the bias, so that maps have both signs
    kernel *= spread / np.std(pooled @ kernel)
    unit.set_weights([kernel, np.array([0.7])])
    return network


def coarse(network, pixels):
    """The first kind of map: class activation, or Grad-CAM."""
    return next(iter(heatmap.mapper(network)(pixels).values()))


def small(size=32):
    """Three convolutions, average pooling, dropout and one unit: class activation applies."""
    grey = keras.Input((size, size, 1), name="grey")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(grey)
    for filters in (8, 12):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(grey, layers.Dense(1, activation="sigmoid", dtype="float32")(x), name="small")


# Class activation

NETWORKS = [
    (densenet169, 64, {}),
    pytest.param(densenet169, 64, {"standardise": True, "dropout": 0.2}, marks=pytest.mark.slow),
    pytest.param(densenet169_k12, 32, {}, marks=pytest.mark.slow),
    pytest.param(inception_v3, 75, {}, marks=pytest.mark.slow),
    (small, 32, {}),
]


@pytest.mark.parametrize(("build", "size", "options"), NETWORKS)
def test_mean_of_the_class_activation_map_is_the_logit(build, size, options):
    network = calm(as_if_trained(build(size, **options), RNG))
    pixels = blocks(5, size, seed=2)
    maps = says(heatmap.class_activation(network), pixels)
    expected = logit(says(network, pixels)[:, 0])
    assert np.ptp(expected) > 0.5, "the network says the same of all views"
    np.testing.assert_allclose(maps.mean((1, 2)), expected, atol=2e-3)
    side = size // 32 if build is densenet169 else maps.shape[1]
    assert maps.shape == (5, side, side) and maps.dtype == np.float32
    # The probabilities come from the same network after its layers have been sped up for the maps, and stay what they were.
    np.testing.assert_allclose(coarse(network, pixels), maps, atol=2e-3)
    np.testing.assert_allclose(logit(predict(speed_up(network), pixels)), expected, atol=2e-3)


@pytest.mark.slow
def test_maps_of_a_network_of_kernels(monkeypatch):
    """From 224 px on fused.py computes by kernels of its own; the maps are the same."""
    from bones.networks import fused

    monkeypatch.setattr(fused.fuse, "__defaults__", (0,))
    network = calm(as_if_trained(densenet169(32), RNG))
    pixels = blocks(3, 32, seed=2)
    expected = says(heatmap.class_activation(network), pixels)
    np.testing.assert_allclose(coarse(network, pixels), expected, atol=5e-3)
    assert any("call" in vars(layer) for layer in network.layers), "nothing was fused"
    probability = predict(speed_up(network), pixels)
    np.testing.assert_allclose(logit(probability), expected.mean((1, 2)), atol=5e-3)


@pytest.mark.parametrize("build", [small, pytest.param(densenet169, marks=pytest.mark.slow)])
def test_mean_of_the_map_is_the_logit_in_bfloat16(build):
    keras.config.set_dtype_policy("mixed_bfloat16")
    network = calm(as_if_trained(build(64), RNG))
    pixels = blocks(5, 64, seed=2)
    maps = coarse(network, pixels)
    assert maps.dtype == np.float32
    expected = logit(says(network, pixels)[:, 0])
    assert np.ptp(expected) > 0.5
    # Pooled features are rounded to 8 bits before the final unit takes them, the map's are not.
    features, kernel = keras.Model(network.input, network.layers[-1].input), network.layers[-1].get_weights()[0]
    rounding = np.abs(says(features, pixels)) @ np.abs(kernel)[:, 0] / 256
    assert (np.abs(maps.mean((1, 2)) - expected) <= rounding + 1e-3).all()


def test_what_ends_in_another_way_has_no_class_activation():
    assert heatmap.class_activation(tiny(32)) is None
    grey = keras.Input((16, 16, 1))
    flat = layers.Flatten()(layers.Conv2D(3, 3)(grey))
    assert heatmap.class_activation(keras.Model(grey, layers.Dense(1, activation="sigmoid")(flat))) is None


# Grad-CAM


def test_grad_cam_is_the_positive_part_of_class_activation_without_its_bias():
    network = calm(small())
    pixels = blocks(6, 32, seed=3)
    bias = network.layers[-1].get_weights()[1][0]
    whole = says(heatmap.class_activation(network), pixels)
    found = heatmap.grad_cam(network, pixels)
    assert (found > 0).any() and (found == 0).any()
    np.testing.assert_allclose(found, np.maximum(whole - bias, 0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("standardise", [False, True])
def test_other_networks_get_grad_cam(standardise):
    """The tiny network ends in the maximum over the map; the gradients are taken by finite differences in NumPy."""
    network = calm(tiny(48, standardise=standardise))
    pixels = blocks(3, 48, seed=4)
    found = coarse(network, pixels)
    features = says(keras.Model(network.input, network.get_layer("relu2").output), pixels).astype(np.float64)
    kernel, bias = (weight.astype(np.float64) for weight in network.layers[-1].get_weights())
    rows, columns, channels = features.shape[1:]
    assert found.shape == (3, rows, columns) and rows == 5

    def say(values):
        return values.max((0, 1)) @ kernel[:, 0] + bias[0]

    for values, shown in zip(features, found, strict=True):
        gradient = np.zeros_like(values)
        for place in np.ndindex(rows, columns, channels):
            step = np.zeros_like(values)
            step[place] = 1e-6
            gradient[place] = (say(values + step) - say(values - step)) / 2e-6
        weighted = np.zeros((rows, columns))
        for channel in range(channels):
            weighted += gradient[..., channel].mean() * values[..., channel]
        np.testing.assert_allclose(shown, rows * columns * np.maximum(weighted, 0), rtol=1e-3, atol=1e-4)
    assert found.max() > 0.01


def test_a_network_without_places_has_no_map():
    grey = keras.Input((8, 8, 1))
    x = layers.Dense(1, activation="sigmoid")(layers.Dense(3)(layers.Flatten()(layers.Reshape((64,))(grey))))
    network = keras.Model(grey, x, name="flat")
    with pytest.raises(HeatmapError, match="flat has no layer with rows and columns"):
        heatmap.mapper(network)(blocks(1, 8))


# Other backends

MAP = """
import sys, keras, numpy as np
from bones.evaluation import heatmaps as heatmap
pixels = np.load(sys.argv[1])
for name in sys.argv[2:]:
    network = keras.models.load_model(name, compile=False)
    for kind, values in heatmap.mapper(network)(pixels).items():
        np.save(f"{name}.{kind}.npy", values)
    if keras.backend.backend() != "openvino":
        np.save(name + ".gradients.npy", heatmap.grad_cam(network, pixels))
"""


def maps_of_backend(backend, pixels, **named):
    """Run MAP on files of networks in another process. Returns: the finished process."""
    np.save("pixels.npy", pixels)
    for name, network in named.items():
        network.save(f"{name}.h5")
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MAP, "pixels.npy", *(f"{name}.h5" for name in named)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def skip_without(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_draw_the_same_maps(backend, in_tmp):
    skip_without(backend)
    averaging, greatest = calm(small()), calm(tiny(32))
    pixels = blocks(3, 32, seed=4)
    done = maps_of_backend(backend, pixels, averaging=averaging, greatest=greatest)
    assert done.returncode == 0, done.stderr
    for name, network in (("averaging", averaging), ("greatest", greatest)):
        for kind, expected in heatmap.mapper(network)(pixels).items():
            assert np.ptp(expected) > 0.01
            np.testing.assert_allclose(np.load(f"{name}.h5.{kind}.npy"), expected, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(np.load(f"{name}.h5.gradients.npy"), heatmap.grad_cam(network, pixels), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("build", [small, pytest.param(densenet169_k12, marks=pytest.mark.slow)])
def test_openvino_draws_the_same_class_activation(build, in_tmp):
    skip_without("openvino")
    network, pixels = calm(as_if_trained(build(64), RNG)), blocks(5, 64, seed=4)
    done = maps_of_backend("openvino", pixels, network=network)
    assert done.returncode == 0, done.stderr
    expected, found = coarse(network, pixels), np.load("network.h5.class activation.npy")
    assert not Path("network.h5.LayerCAM.npy").exists(), "there are no gradients"
    # It computes in bfloat16 where the processor has it.
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.995
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


def test_openvino_has_no_gradients_and_says_so(trained, phantoms, in_tmp):
    skip_without("openvino")
    environment = os.environ | {"KERAS_BACKEND": "openvino"}
    study = str(next((phantoms / "valid" / "XR_HUMERUS").glob("*/*")))
    script = [sys.executable, str(ROOT / "model_test.py"), str(trained)]
    for more in ([study, "--heatmap", "maps"], ["--pointing"]):
        done = subprocess.run([*script, *more], env=environment, capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        message = [line for line in done.stderr.splitlines() if line.startswith("model_test.py: ")]
        assert (
            len(message) == 1 and "openvino, which has no gradients" in message[0] and "KERAS_BACKEND=tensorflow" in message[0]
        )
    assert list(Path("maps").iterdir()) == [] and not (trained / "pointing.json").exists()


# Back on the film

SHAPES = [(200, 200), (301, 157), (157, 301), (64, 48), (97, 640), (33, 20), (1200, 801)]


@pytest.mark.parametrize("resize", ["pad", "stretch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_hot_cell_lies_where_its_part_of_the_film_does(shape, resize):
    width, height = shape
    for row, column in ((0, 0), (5, 2), (3, 3), (9, 9), (4, 7)):
        values = np.full((10, 10), -1.0)
        values[row, column] = 2.0
        found = overlays.on_film(values, width, height, resize)
        assert found.shape == (height, width) and found.dtype == np.float32
        # Where each pixel's middle lies in the square, reckoned here from what padding and squeezing mean.
        side = max(width, height)
        across, down = (side, side) if resize == "pad" else (width, height)
        x = (np.arange(width) + 0.5 + (across - width) / 2) / across * 10
        y = (np.arange(height) + 0.5 + (down - height) / 2) / down * 10
        weight_x, weight_y = (np.clip(1 - np.abs(edge(place) - (cell + 0.5)), 0, 1) for place, cell in ((x, column), (y, row)))
        np.testing.assert_allclose(found, -1 + 3 * weight_y[:, None] * weight_x, atol=2e-4)


def edge(place):
    """Places in a map of ten cells, those beyond the middle of an outer cell brought there: nothing lies further out."""
    return np.clip(place, 0.5, 9.5)


@pytest.mark.parametrize("resize", ["pad", "stretch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_go_back_the_way_that_films_came(shape, resize):
    """A spot on a film, brought to the square as scoring does; the square itself as map shows the spot where it was."""
    width, height, size = *shape, 64
    for share_x, share_y in ((0.2, 0.3), (0.5, 0.5), (0.85, 0.1), (0.1, 0.9)):
        x, y = share_x * width, share_y * height
        columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
        radius = max(width, height) / 20
        # Round on the square: a spot that is squeezed to less than a cell has no place.
        radius_x, radius_y = (radius, radius) if resize == "pad" else (width / 20, height / 20)
        film = 255 * np.exp(-((columns - x) ** 2) / radius_x**2 - ((rows - y) ** 2)[:, None] / radius_y**2)
        square = images.fit_square(Image.fromarray(film.astype(np.uint8)), size, resize)
        found_x, found_y = pointing.peak(square.astype(float), width, height, resize)
        # Within a cell of the square, which the brightest of a spot's cells may be off by, and the rounding of the padding.
        step_x, step_y = (max(shape) / size,) * 2 if resize == "pad" else (width / size, height / size)
        assert abs(found_x * width - x) <= step_x + 1 and abs(found_y * height - y) <= step_y + 1


def test_the_peak_of_a_flat_map_is_the_middle():
    assert pointing.peak(np.zeros((7, 7)), 30, 50, "pad") == pytest.approx((0.5, 0.5))
    values = np.zeros((4, 4))
    values[0, 3] = 1
    x, y = pointing.peak(values, 400, 400, "pad")
    assert 0.85 < x < 1 and 0 < y < 0.15, "the corner's own cell"


# Pictures


def test_overlay_is_clear_where_nothing_speaks_for_abnormal():
    film = Image.fromarray(RNG.integers(0, 256, (90, 60)).astype(np.uint8))
    values = np.full((6, 6), -0.5)
    values[:, 3:] = 8.0
    picture = overlays.overlay(film, values, 8.0, "stretch")
    assert picture.shape == (90, 60, 3) and picture.dtype == np.uint8
    grey = np.asarray(film)
    np.testing.assert_array_equal(picture[:, :25], np.repeat(grey[:, :25, None], 3, 2))
    # On the right the last colour covers three quarters of the film.
    expected = 0.25 * grey[:, 35:, None] + 0.75 * 255 * np.array(overlays.COLOURS(1.0)[:3])
    np.testing.assert_allclose(picture[:, 35:], expected, atol=1)
    np.testing.assert_array_equal(overlays.overlay(film, 0 * values, 4.0, "pad"), np.repeat(grey[..., None], 3, 2))


def test_the_scale_ends_at_the_greatest_value_but_not_below_the_least_top():
    low, high = np.array([[[-9.0, 1.0]], [[2.0, 0.5]]]), np.array([[[-9.0, 1.0]], [[17.5, 0.5]]])
    assert overlays.scale_tops({"class activation": low, "LayerCAM": low}) == {
        "class activation": overlays.LEAST_TOP,
        "LayerCAM": 2.0,
    }
    assert overlays.scale_tops({"Grad-CAM": high, "LayerCAM": high}) == {"Grad-CAM": 17.5, "LayerCAM": 17.5}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_panel_shows_each_film_beside_its_map_undistorted(count, in_tmp):
    shapes = [(400, 300), (200, 330), (700, 250), (90, 90), (33, 700), (300, 301), (640, 480)][:count]
    films = [Image.fromarray(RNG.integers(0, 256, shape[::-1]).astype(np.uint8)) for shape in shapes]
    captions = [f"image{number}.png: 0.{number}" for number in range(count)]
    maps = {"class activation": RNG.normal(size=(count, 5, 5)), "LayerCAM": RNG.normal(size=(count, 32, 32))}
    maps["class activation"][-1, 2, 2] = 11.0
    tops = {"class activation": 11.0, "LayerCAM": maps["LayerCAM"].max()}
    figure = overlays.panel("a $\\title of\ntwo lines", films, captions, maps, "pad")
    overlays.save(figure, Path("panel.png"))
    assert [path.name for path in Path().glob("*panel*")] == ["panel.png"]
    with Image.open("panel.png") as picture:
        drawn = np.asarray(picture.convert("RGB"))
    assert figure._suptitle.get_text() == "a $\\title of\ntwo lines"
    (bar,) = [axes for axes in figure.axes if axes.get_ylabel()]
    assert "class activation: 1 is 11.0 in the logit" in bar.get_ylabel() and bar.get_ylim() == (0, 1)
    shown = [axes for axes in figure.axes if axes.images]
    rows = [shown[place : place + 3] for place in range(0, 3 * count, 3)]
    assert len(shown) == 3 * count and [row[0].get_title(loc="left") for row in rows] == captions
    for place, (row, film) in enumerate(zip(rows, films, strict=True)):
        np.testing.assert_array_equal(row[0].images[0].get_array(), np.asarray(film))
        for axes, (kind, values) in zip(row[1:], maps.items(), strict=True):
            assert axes.get_title(loc="left") == kind
            expected = overlays.overlay(film, values[place], tops[kind], "pad")
            np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1)
        for axes in row:
            box = axes.get_window_extent()
            assert box.width / box.height == pytest.approx(film.width / film.height, rel=0.02), "distorted"
            assert min(box.x0, box.y0) >= 0 and box.x1 <= drawn.shape[1] and box.y1 <= drawn.shape[0]
            assert max(box.width, box.height) > 150, "too small to see"
        heights = [axes.get_window_extent().y1 for axes in row]
        assert np.ptp(heights) < 1, "films of a row start at one height"
    boxes = [axes.get_window_extent() for axes in shown] + [figure._suptitle.get_window_extent(), bar.get_window_extent()]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])


# The pointing game


def test_pointing_counts_hits():
    views = pd.DataFrame({"patient": ["a", "a", "b", "c"]})
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.4, 0.4, 0.6, 0.6], [0.8, 0.0, 1.0, 0.1]])
    peaks = [(0.1, 0.1), (0.45, 0.45), (0.5, 0.5), (1.0, 0.05)]  # in; out; in; on the edge, which is out
    found = pointing.pointing(views, peaks, boxes)
    assert found["hits"]["value"] == 0.5
    # In others' boxes: none; the first and the third of three; the second of three; none.
    assert found["other_films"] == pytest.approx((0 + 2 / 3 + 1 / 3 + 0) / 4)
    assert found["gain"]["value"] == pytest.approx(0.5 - 0.25)
    assert found["area"] == pytest.approx((0.25 + 0.25 + 0.04 + 0.02) / 4) and found["middle"] == 0.5


def test_pointing_by_loops():
    count = 60
    patient = RNG.integers(0, 40, count)
    corner = RNG.uniform(0, 0.7, (count, 2))
    boxes = np.hstack([corner, corner + RNG.uniform(0.1, 0.3, (count, 2))])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    peaks = np.clip(middle + RNG.normal(0, 0.1, (count, 2)), 0, 0.999)

    def inside(peak, box):
        return box[0] <= peak[0] < box[2] and box[1] <= peak[1] < box[3]

    hits = sum(inside(peaks[place], boxes[place]) for place in range(count)) / count
    others = [inside(peaks[one], boxes[other]) for one in range(count) for other in range(count) if one != other]
    found = pointing.pointing(pd.DataFrame({"patient": patient}), peaks, boxes)
    assert found["hits"]["value"] == pytest.approx(hits) and 0.3 < hits < 1
    assert found["other_films"] == pytest.approx(np.mean(others))
    assert found["gain"]["value"] == pytest.approx(hits - np.mean(others))
    for name in ("hits", "gain"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    # The interval of a share is about as wide as the normal approximation's over patients.
    totals = pd.DataFrame({"patient": patient, "hit": [inside(*pair) for pair in zip(peaks, boxes, strict=True)]})
    by_patient = totals.groupby("patient")["hit"].agg(["sum", "size"])
    error = np.sqrt(((by_patient["sum"] - hits * by_patient["size"]) ** 2).sum()) / count
    assert found["hits"]["high"] - found["hits"]["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)


# A network that has learned where to look


def drawn_fractures(count, seed):
    """(pixels, label, boxes) of 64 px: a bright bone at a random place and angle, in half of them with a dark gap across it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] + 0.5
    pixels, label, boxes = np.zeros((count, 64, 64, 1), np.uint8), np.arange(count) % 2, np.full((count, 4), np.nan)
    for place in range(count):
        turn, (middle_x, middle_y) = rng.uniform(0, np.pi), rng.uniform(14, 50, 2)
        along = np.cos(turn) * (x - middle_x) + np.sin(turn) * (y - middle_y)
        across = np.cos(turn) * (y - middle_y) - np.sin(turn) * (x - middle_x)
        bone = np.abs(across) < 5
        film = 60 + 110 * bone + rng.normal(0, 12, (64, 64))
        if label[place]:
            film[bone & (np.abs(along) < 2.5)] -= 90
            boxes[place] = np.array([middle_x - 7, middle_y - 7, middle_x + 7, middle_y + 7]) / 64
        pixels[place, ..., 0] = np.clip(film, 0, 255)
    return pixels, label, boxes


def test_a_trained_network_points_at_what_it_has_learned():
    keras.utils.set_random_seed(0)
    grey = keras.Input((64, 64, 1), name="grey")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(grey)
    for filters, strides in ((12, 2), (16, 2), (24, 1), (32, 2)):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.GlobalAveragePooling2D()(x)
    network = keras.Model(grey, layers.Dense(1, activation="sigmoid")(x), name="points")
    pixels, label, _ = drawn_fractures(640, seed=0)
    network.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy")
    untrained = keras.models.clone_model(network)
    network.fit(pixels, label, batch_size=32, epochs=8, verbose=0)
    pixels, label, boxes = drawn_fractures(160, seed=1)
    called = predict(network, pixels) > 0.5
    assert (called == label).mean() > 0.85, "it has not learned the task"
    abnormal = np.flatnonzero(label)
    views = pd.DataFrame({"patient": abnormal})

    def play(network):
        kinds = heatmap.mapper(network)(pixels[abnormal])
        assert {kind: maps.shape[1:] for kind, maps in kinds.items()} == {"class activation": (8, 8), "LayerCAM": (32, 32)}
        return {
            kind: pointing.pointing(views, [pointing.peak(one, 64, 64, "pad") for one in maps], boxes[abnormal])
            for kind, maps in kinds.items()
        }

    by_chance = play(untrained)
    for kind, found in play(network).items():
        assert found["hits"]["value"] > 0.6 and found["other_films"] < 0.25, kind
        assert found["gain"]["low"] > 0.3, "what the maps know of this very film"
        assert abs(found["area"] - (14 / 64) ** 2) < 1e-6
        assert by_chance[kind]["hits"]["high"] < found["hits"]["low"]


def test_layer_cam_weighs_each_place_by_its_own_gradient():
    """Of a network of one convolution, d logit / d feature is the final unit's weight by the number of places, everywhere."""
    grey = keras.Input((32, 32, 1), name="grey")
    x = layers.Conv2D(5, 3, padding="same", activation="relu")(layers.Rescaling(1 / 255)(grey))
    network = keras.Model(grey, layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(x)), name="plain")
    pixels = blocks(3, 32, seed=6)
    features = says(keras.Model(network.input, x), pixels)
    weights = network.layers[-1].get_weights()[0][:, 0] / 32**2
    assert (weights > 0).any() and (weights < 0).any()
    np.testing.assert_allclose(heatmap.layer_cam(network, pixels), features @ np.maximum(weights, 0), rtol=1e-4, atol=1e-7)


def test_one_view_alone():
    found = pointing.pointing(pd.DataFrame({"patient": ["a"]}), [(0.5, 0.5)], np.array([[0.4, 0.4, 0.6, 0.6]]))
    assert found["hits"] == {"value": 1.0, "low": None, "high": None} and found["other_films"] == 0

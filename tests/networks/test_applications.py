"""DenseNet-169 and Inception v3: equality with keras.applications, and ImageNet weights."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from bones.networks.applications import densenet169, inception_v3
from bones.system.errors import WeightsError


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(keras.applications.DenseNet169 without its top, file of its weights as keras.applications publishes them)."""
    base = keras.applications.DenseNet169(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    path = tmp_path_factory.mktemp("weights") / "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, base)
    return base, path


def test_densenet169_is_the_published_network(published):
    base, path = published
    network = densenet169(64, str(path))
    assert network.count_params() == 12_644_545
    grey = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 1)).astype("uint8")
    colour = keras.applications.densenet.preprocess_input(np.repeat(grey, 3, axis=-1).astype("float32"))
    features = base.predict(colour, verbose=0)
    kernel, bias = network.get_layer("probability").get_weights()
    expected = 1 / (1 + np.exp(-(features @ kernel + bias)))
    found = network.predict(grey, verbose=0)
    assert found.dtype == np.float32 and found.shape == (3, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_imagenet_weights_go_through_keras_download(published, monkeypatch):
    base, path = published
    asked = []

    def get_file(name, url, **_):
        asked.append(url)
        return str(path)

    monkeypatch.setattr("keras.src.applications.densenet.file_utils.get_file", get_file)
    network = densenet169(64, "imagenet")
    assert len(asked) == 1 and asked[0].endswith("densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5")
    np.testing.assert_array_equal(
        network.get_layer("conv1_conv").get_weights()[0], base.get_layer("conv1_conv").get_weights()[0]
    )


def test_no_download_is_told(monkeypatch):
    def get_file(name, url, **_):
        raise Exception(f"URL fetch failure on {url}")

    monkeypatch.setattr("keras.src.applications.densenet.file_utils.get_file", get_file)
    with pytest.raises(WeightsError, match="--weights none"):
        densenet169(64, "imagenet")


def test_inception_trains_one_unit():
    network = inception_v3(75)
    assert network.count_params() == 21_804_833
    assert [tuple(variable.shape) for variable in network.trainable_weights] == [(2048, 1), (1,)]
    assert network.get_layer("probability").kernel_regularizer.l2 == pytest.approx(1e-4)
    assert network.get_layer("dropout").rate == pytest.approx(0.3)
    grey = np.array([0, 255], "float32")[:, None, None, None] * np.ones((1, 4, 4, 3), "float32")
    np.testing.assert_allclose(network.get_layer("scale")(grey)[:, 0, 0, 0], [-1, 1], atol=1e-6)
    names = [layer.name for layer in network.layers]
    assert names == [layer.name for layer in inception_v3(75).layers], "names hang on what was built before"

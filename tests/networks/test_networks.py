"""Parameter counts, equality with keras.applications, and where weights come from."""

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from bones.networks import catalogue
from bones.networks.applications import densenet169, inception_v3
from bones.networks.densenet_k12 import densenet169_k12
from bones.system.errors import WeightsError

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """(keras.applications.DenseNet169 without its top, file of its weights as keras.applications publishes them)."""
    base = keras.applications.DenseNet169(include_top=False, weights=None, input_shape=(64, 64, 3), pooling="avg")
    path = tmp_path_factory.mktemp("weights") / "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, base)
    return base, path


def grey_views(size):
    return RNG.integers(0, 256, (3, size, size, 1)).astype("uint8")


def test_densenet169_is_the_published_network(published):
    base, path = published
    network = densenet169(64, str(path))
    assert network.count_params() == 12_644_545
    grey = grey_views(64)
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


def test_narrow_network():
    network = densenet169_k12(32)
    assert network.count_params() == 1_219_385
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 1 + 3 + 2 * (6 + 12 + 32 + 32)
    assert all(layer.kernel_regularizer.l2 == pytest.approx(1e-4) for layer in convolutions)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert all(layer.gamma_regularizer and layer.beta_regularizer for layer in norms)
    assert {layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)} == {0.2}
    assert network.predict(grey_views(32), verbose=0).shape == (3, 1)
    with pytest.raises(WeightsError, match="no ImageNet weights"):
        catalogue.build("densenet169_k12", 32, "imagenet")


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


def test_a_whole_saved_network_is_a_weights_file(tmp_path):
    first = densenet169_k12(32)
    first.save(tmp_path / "best.h5")
    second = densenet169_k12(48, str(tmp_path / "best.h5"))  # weights do not hang on the size
    for before, after in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    with pytest.raises(WeightsError, match=r"best\.h5 does not hold weights for inception_v3"):
        inception_v3(75, str(tmp_path / "best.h5"))


def test_weights_faults(tmp_path):
    (tmp_path / "noise.h5").write_bytes(b"noise")
    with pytest.raises(WeightsError, match=r"noise\.h5 does not hold weights"):
        densenet169_k12(32, str(tmp_path / "noise.h5"))
    with pytest.raises(WeightsError, match="no such weights file"):
        densenet169_k12(32, str(tmp_path / "absent.h5"))
    with pytest.raises(WeightsError, match="takes views of 32 px or more"):
        catalogue.build("densenet169", 16)

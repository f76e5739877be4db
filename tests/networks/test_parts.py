"""What builders of networks share: standardised views, stochastic depth, and weights from files."""

import keras
import numpy as np
import pytest
from support import as_if_trained
from tiny import tiny

from bones.networks import catalogue
from bones.networks.applications import inception_v3
from bones.networks.densenet_k12 import densenet169_k12
from bones.networks.parts import with_stochastic_depth
from bones.system.errors import WeightsError


def test_standardised_views_tell_nothing_of_exposure(tmp_path):
    keras.utils.set_random_seed(0)
    network = as_if_trained(tiny(32, standardise=True), np.random.default_rng(1))
    blocks = np.random.default_rng(0).integers(0, 100, (4, 4, 4, 1))
    views = np.kron(blocks, np.ones((1, 8, 8, 1))).astype(np.float32)  # differ in more than their noise
    expected = np.asarray(network(views))
    assert np.ptp(expected) > 0.005
    np.testing.assert_allclose(network(views * 2 + 50), expected, atol=1e-4)
    network.save(tmp_path / "best.h5")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "best.h5", compile=False)(views), expected, atol=1e-5)
    assert np.isfinite(np.asarray(network(np.full((1, 32, 32, 1), 255, np.uint8)))).all()


def test_stochastic_depth_leaves_layers_out_in_training_alone(tmp_path):
    network = densenet169_k12(32)
    deep = with_stochastic_depth(network, 0.5)
    views = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 1)).astype(np.uint8)
    np.testing.assert_allclose(deep(views), network(views), atol=1e-6)
    drops = [layer for layer in deep.layers if layer.name.endswith("_depth")]
    assert len(drops) == 6 + 12 + 32 + 32
    ones = np.asarray(drops[0](np.ones((1000, 1, 1, 3), np.float32), training=True))
    assert set(np.unique(ones)) == {0.0, 2.0} and (ones.std(-1) == 0).all() and 0.4 < ones.mean() / 2 < 0.6
    deep.save(tmp_path / "deep.h5")
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "deep.h5", compile=False)(views), network(views), atol=1e-6)


def test_a_whole_saved_network_is_a_weights_file(tmp_path):
    first = densenet169_k12(32)
    first.save(tmp_path / "best.h5")
    second = densenet169_k12(48, str(tmp_path / "best.h5"))  # weights do not hang on the size
    for before, after in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    with pytest.raises(WeightsError, match=r"best\.h5 contains densenet169_k12, not inception_v3\. Pass the --network"):
        inception_v3(75, str(tmp_path / "best.h5"))


def test_weights_faults(tmp_path):
    (tmp_path / "noise.h5").write_bytes(b"noise")
    with pytest.raises(WeightsError, match=r"noise\.h5 does not contain weights"):
        densenet169_k12(32, str(tmp_path / "noise.h5"))
    with pytest.raises(WeightsError, match="no such weights file"):
        densenet169_k12(32, str(tmp_path / "absent.h5"))
    with pytest.raises(WeightsError, match="takes views of 32 px or more"):
        catalogue.build("densenet169", 16)

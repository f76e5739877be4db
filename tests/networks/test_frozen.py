"""Frozen layers: which they are, that training leaves them, and that their output computed once changes nothing."""

import keras
import numpy as np
import pytest
from keras import layers
from support import as_if_trained
from tiny import tiny

from bones.networks import catalogue, frozen
from bones.networks.batches import predict
from bones.system.errors import WeightsError

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 1), np.uint8)


@pytest.fixture
def lite():
    keras.utils.set_random_seed(0)
    return as_if_trained(catalogue.build("efficientnet_lite0", 64, "none"), np.random.default_rng(0))


@pytest.mark.parametrize(("blocks", "left"), [(0, 149), (5, 104), (16, 5)])
def test_blocks_are_frozen_from_the_input_on(blocks, left, lite):
    """The head convolution, its normalisation and the output layer are behind all blocks."""
    frozen.freeze(lite, blocks)
    assert len(lite.trainable_weights) == left


def test_more_blocks_than_there_are(lite):
    with pytest.raises(WeightsError, match="has 16 blocks; pass --set frozen=16 or less, not 17"):
        frozen.freeze(lite, 17)


def test_normalisation_alone(lite):
    frozen.freeze(lite, 0, normalisation=True)
    for layer in lite.layers:
        assert layer.trainable != isinstance(layer, layers.BatchNormalization)


@pytest.mark.parametrize("blocks", [1, 2, 5, 9, 16])
def test_a_split_network_computes_the_same(blocks, lite):
    expected = predict(lite, PIXELS)
    frozen.freeze(lite, blocks)
    below, above = frozen.split(lite)
    assert not below.trainable_weights and len(above.trainable_weights) == len(lite.trainable_weights)
    np.testing.assert_allclose(predict(above, frozen.features(below, PIXELS)), expected, atol=1e-6)


def test_what_is_random_or_trained_is_not_constant():
    assert frozen.split(tiny(32)) is None
    network = tiny(32, dropout=0.1)
    for layer in network.layers[:-1]:
        layer.trainable = False
    below, above = frozen.split(network)
    assert isinstance(above.layers[1], layers.Dropout), "dropout is drawn anew at each step"
    assert below.output_shape == (None, 16)


def test_training_leaves_frozen_blocks_as_they_are(lite):
    """One step, of the whole network and of the part above alone, gives the same weights."""
    frozen.freeze(lite, 5, normalisation=True)
    other = catalogue.build("efficientnet_lite0", 64, "none")
    frozen.freeze(other, 5, normalisation=True)
    other.set_weights(lite.get_weights())
    before = [variable.numpy() for variable in lite.non_trainable_variables]
    below, above = frozen.split(other)
    label = np.array([[0], [1], [1], [0], [1], [0]], np.float32)
    for network, inputs in ((lite, PIXELS.astype("float32")), (above, frozen.features(below, PIXELS))):
        network.compile(keras.optimizers.SGD(0.1), "binary_crossentropy")
        network.train_on_batch(inputs, label)
    for variable, value in zip(lite.non_trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    for one, two in zip(lite.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, atol=2e-5)


def test_memory_of_stored_features(lite):
    frozen.freeze(lite, 5)
    below, _ = frozen.split(lite)
    side = below.output_shape[1]
    most = frozen.LARGEST // (4 * side * side * below.output_shape[-1])
    assert frozen.can_store(below, most) and not frozen.can_store(below, most + 1)

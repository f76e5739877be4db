"""The narrow DenseNet: its layers, regularizers and count of parameters."""

import keras
import numpy as np
import pytest

from bones.networks import catalogue
from bones.networks.densenet_k12 import densenet169_k12
from bones.system.errors import WeightsError


def test_narrow_network():
    network = densenet169_k12(32)
    assert network.count_params() == 1_219_385
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(convolutions) == 1 + 3 + 2 * (6 + 12 + 32 + 32)
    assert all(layer.kernel_regularizer.l2 == pytest.approx(1e-4) for layer in convolutions)
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert all(layer.gamma_regularizer and layer.beta_regularizer for layer in norms)
    assert {layer.rate for layer in network.layers if isinstance(layer, keras.layers.Dropout)} == {0.2}
    assert network.predict(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 1)).astype("uint8"), verbose=0).shape == (3, 1)
    with pytest.raises(WeightsError, match="no ImageNet weights"):
        catalogue.build("densenet169_k12", 32, "imagenet")

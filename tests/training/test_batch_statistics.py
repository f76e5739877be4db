"""Statistics taken again are the averages over batches, equal on every backend, and nothing else of the network changes."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers
from support import ROOT
from tiny import tiny

from bones.data.pixels import Rows
from bones.networks import fused
from bones.networks.batches import predict
from bones.training import batch_statistics


def rows(count, size=32, seed=0):
    views = np.random.default_rng(seed).integers(0, 256, (count, size, size, 1)).astype(np.uint8)
    return Rows(views, np.arange(count))


def all_of(pixels):
    return pixels[np.arange(len(pixels))]


def array(variable):
    """A copy of its value."""
    return keras.ops.convert_to_numpy(variable).copy()


def statistics(network):
    norms = [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]
    return [array(value) for layer in norms for value in (layer.moving_mean, layer.moving_variance)]


def test_after_one_batch_scoring_is_what_training_computed():
    network, pixels = tiny(32), rows(32)
    network.get_layer("dropout").rate = 0.0  # for the expectation; statistics are taken without dropout anyway
    expected = np.array(network(all_of(pixels), training=True))
    before = predict(network, pixels)
    batch_statistics.Averager(network).estimate(pixels)
    found = predict(network, pixels)
    assert np.abs(before - expected[:, 0]).max() > 0.01
    np.testing.assert_allclose(found, expected[:, 0], atol=1e-5)


def test_they_are_means_over_batches_and_forget_what_was():
    network, pixels = tiny(32), rows(96)
    averager = batch_statistics.Averager(network)
    averager.estimate(rows(64, seed=1))
    averager.estimate(pixels)
    features = np.array(network.get_layer("conv0")(network.get_layer("scale")(all_of(pixels))))
    batches = features.reshape(3, -1, features.shape[-1])
    np.testing.assert_allclose(statistics(network)[0], batches.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(statistics(network)[1], batches.var(1).mean(0), rtol=1e-4)


def test_nothing_else_changes():
    network = tiny(32)
    config, pixels = network.get_config(), rows(32)
    others = [variable for variable in network.variables if not variable.path.split("/")[-1].startswith("moving")]
    before = [array(variable) for variable in others]
    batch_statistics.Averager(network).estimate(pixels)
    assert all((array(variable) == value).all() for variable, value in zip(others, before, strict=True))
    assert network.get_config() == config and network.get_layer("bn0").momentum == 0.8
    moved = statistics(network)
    predict(network, pixels)
    assert all((one == other).all() for one, other in zip(statistics(network), moved, strict=True))


def test_frozen_layers_keep_theirs():
    network = tiny(32)
    network.get_layer("bn1").trainable = False
    before = statistics(network)
    batch_statistics.Averager(network).estimate(rows(32))
    same = [(one == other).all() for one, other in zip(statistics(network), before, strict=True)]
    assert same == [False, False, True, True, False, False]


@pytest.mark.parametrize("least_size", [0, 224])
def test_fused_layers_take_the_same(least_size):
    stock = tiny(32)
    quick = tiny(32)
    quick.set_weights(stock.get_weights())
    fused.fuse(quick, least_size)
    for network in (stock, quick):
        batch_statistics.Averager(network).estimate(rows(64))
    for one, other in zip(statistics(quick), statistics(stock), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def test_callback_draws_by_epoch_and_seed():
    taken = []
    callback = batch_statistics.BatchStatistics(tiny(32), rows(100), views=64, seed=3)
    callback.averager.estimate = lambda pixels: taken.append(pixels.rows.tolist())
    for epoch in (0, 1, 0):
        callback.on_epoch_end(epoch)
    assert taken[0] == taken[2] != taken[1] and len(set(taken[0])) == 64


TAKE = """
import sys, keras, numpy as np
from bones.data.pixels import Rows
from bones.training import batch_statistics
network = keras.models.load_model(sys.argv[1], compile=False)
pixels = np.load(sys.argv[2])
batch_statistics.Averager(network).estimate(Rows(pixels, np.arange(len(pixels))))
network.save(sys.argv[3])
"""


@pytest.mark.parametrize("backend", [pytest.param("jax", marks=pytest.mark.slow), "torch"])
def test_other_backends_take_the_same(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: it is no part of requirements.txt")
    network, pixels = tiny(32), rows(64)
    network.save(tmp_path / "before.h5")
    np.save(tmp_path / "pixels.npy", all_of(pixels))
    arguments = [tmp_path / "before.h5", tmp_path / "pixels.npy", tmp_path / "after.h5"]
    environment = os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    subprocess.run([sys.executable, "-c", TAKE, *map(str, arguments)], env=environment, check=True)
    batch_statistics.Averager(network).estimate(pixels)
    after = keras.models.load_model(tmp_path / "after.h5", compile=False)
    for one, other in zip(statistics(after), statistics(network), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)

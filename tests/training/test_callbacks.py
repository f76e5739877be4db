"""Averaged weights after an epoch, and the stop at probabilities that are no numbers."""

import time

import keras
import numpy as np
import pytest
from small_training import options, small

from bones.data.pixels import Rows
from bones.runs import checkpoints
from bones.runs.data import Part
from bones.runs.folder import RunFolder
from bones.training import callbacks
from bones.training import trainer as training


def test_averaged_weights_are_put_in_after_an_epoch_and_out_before_the_next():
    network = small()
    trainer = training.build_trainer(network, options(ema=0.75), steps_an_epoch=4)
    kernel = next(variable for variable in network.trainable_variables if variable.name == "kernel")
    steps, ends = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(np.array(keras.ops.convert_to_numpy(kernel)))

        def on_epoch_end(self, epoch, logs=None):
            ends.append(np.array(keras.ops.convert_to_numpy(kernel)))

    views = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 1)).astype(np.uint8)
    label = (np.arange(32) % 2).astype(np.float32)[:, None]
    trainer.fit(views, label, batch_size=8, epochs=2, verbose=0, callbacks=[callbacks.AveragedWeights(False), Watch()])
    average = steps[0]
    for weights in steps[1:4]:
        average = 0.75 * average + 0.25 * weights
    np.testing.assert_allclose(ends[0], average, rtol=1e-4, atol=1e-6)
    assert np.abs(ends[0] - steps[3]).max() > 1e-3
    assert np.abs(steps[4] - steps[3]).max() < 0.15, "the second epoch goes on from the weights, a step of Adam away"
    for weights in steps[4:]:
        average = 0.75 * average + 0.25 * weights
    np.testing.assert_allclose(ends[1], average, rtol=1e-4, atol=1e-6)


def test_nan_probabilities_stop_the_run(trained, phantoms):
    """Weights that overflow in an epoch's last step show in no loss."""
    network = checkpoints.load_network(RunFolder(trained))
    network.set_weights([np.full_like(weight, np.nan) for weight in network.get_weights()])
    pixels = Rows(np.zeros((4, 32, 32, 1), np.uint8), np.arange(4))
    tuning = Part(None, pixels, np.array([0, 1, 0, 1]), None)
    callback = callbacks.ScoreTuning(network, tuning, 4, options(batch_size=2))
    callback.start = time.perf_counter()
    with pytest.raises(FloatingPointError, match="a tuning probability is nan after epoch 3"):
        callback.on_epoch_end(2, {})


def test_the_tuning_loss_is_weighted():
    """Views of the rarer class count more, as in the training loss."""
    network = small()
    pixels = np.random.default_rng(0).integers(0, 3, (6, 16, 16, 1)).astype(np.uint8)  # far from probabilities of 0 and 1
    label, weight = np.array([0, 1, 0, 0, 0, 1]), np.array([0.1, 0.9, 0.1, 0.1, 0.1, 0.9], np.float32)
    losses = {}
    for name, given in (("weighted", weight), ("plain", None)):
        callback = callbacks.ScoreTuning(
            network, Part(None, Rows(pixels, np.arange(6)), label, given), 6, options(batch_size=2)
        )
        callback.start, callback.learning_rate = time.perf_counter(), 0.1
        logs = {}
        callback.on_epoch_end(0, logs)
        losses[name] = logs["val_loss"]
    probability = network.predict(pixels, verbose=0)[:, 0]
    each = -np.log(np.where(label == 1, probability, 1 - probability))
    assert losses["plain"] == pytest.approx(each.mean(), rel=1e-3)
    assert losses["weighted"] == pytest.approx((each * weight).mean(), rel=1e-3) != pytest.approx(losses["plain"], rel=1e-2)

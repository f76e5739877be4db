"""Batch normalisation statistics, re-estimated after each epoch on training views without augmentation: precise batch norm.

During training, the moving statistics follow augmented batches of 8, with delay and noise. Scored views are not augmented.
Therefore a sample of training views is passed through without augmentation in batches of 32, and each layer keeps the average
over these batches. Tuning scores and saved networks use these statistics; training steps do not.

tools/statistics_views.py measures how many views suffice.

Source: Wu and Johnson 2021, Rethinking "Batch" in BatchNorm, arXiv 2105.07576, section 3.
"""

import contextlib
import functools

import keras
import numpy as np
from keras import layers

from bones.data.pixels import Rows
from bones.networks import graph
from bones.networks.batches import predict

BATCH_SIZE = 32


class BatchStatistics(keras.callbacks.Callback):
    """Re-estimates the statistics at the end of each epoch; precedes the callbacks that score and save."""

    def __init__(self, network, pixels, views, seed):
        """
        Args:
            network: keras.Model whose trainable BatchNormalization layers are updated.
            pixels: Rows of the training views, (n, size, size, 1).
            views: number of views to use, sampled each epoch.
            seed: random seed, combined with the epoch, so that a resumed run samples the same views.
        """
        super().__init__()
        self.averager, self.pixels, self.views, self.seed = Averager(network), pixels, min(views, len(pixels)), seed

    def on_epoch_end(self, epoch, logs=None):
        drawn = np.random.default_rng([self.seed, epoch]).choice(len(self.pixels), self.views, replace=False)
        self.averager.estimate(Rows(self.pixels, np.sort(drawn)))


class Averager(keras.Model):
    """A network that, during prediction, averages each BatchNormalization layer's statistics over the batches."""

    def __init__(self, network):
        super().__init__(name="averager", dtype="float32")
        self.network = network
        self.norms = [
            layer for layer in graph.all_layers(network) if isinstance(layer, layers.BatchNormalization) and layer.trainable
        ]
        self.batches = self.add_weight(name="batches", initializer="zeros", trainable=False)

    def estimate(self, pixels):
        """Replace the statistics by the averages over some views, (n, size, size, 1) of 0 to 255."""
        if self.norms:
            self.batches.assign(0.0)
            predict(self, pixels, BATCH_SIZE)

    def call(self, pixels):
        self.batches.assign_add(1.0)
        # A moving average with momentum 0, 1/2, 2/3, 3/4... is the mean of all batches so far.
        with averaging_batches(self.norms, 1 - 1 / self.batches.value):
            return self.network(pixels, training=False)  # without dropout, as in scoring


@contextlib.contextmanager
def averaging_batches(norms, momentum):
    """BatchNormalization layers use and update batch statistics, although the network is in inference mode."""
    before = [(layer, layer.call, layer.momentum) for layer in norms]
    for layer in norms:
        layer.call = functools.partial(call_training, layer.call)
        layer.momentum = momentum
    try:
        yield
    finally:
        for layer, call, kept in before:
            layer.call, layer.momentum = call, kept


def call_training(call, inputs, training=None, mask=None):
    """Call a BatchNormalization layer in training mode."""
    return call(inputs, training=True, mask=mask)

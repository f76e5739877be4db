"""Callbacks other than saving: averaged weights, scores of the tuning views, and a stop when the loss is not finite."""

import time

import keras
import numpy as np

from bones.networks import graph
from bones.networks.batches import predict
from bones.scores.metrics import auroc, log_loss
from bones.scores.probabilities import decisions
from bones.system.errors import NotFiniteError
from bones.training import batch_statistics

NOT_A_NUMBER = (
    "{what} is {value} {place}. The networks in the run folder are from earlier epochs, if any.\n"
    "Try a lower --learning-rate or --precision float32, in a new run."
)


def weight_callbacks(network, pixels, options, done):
    """The recipe's callbacks that change the weights after an epoch, before they are scored and saved.

    Args:
        done: (epochs, steps of the next one) completed by a resumed run.
    """
    callbacks = []
    if options.ema:
        epochs, steps = done
        callbacks.append(AveragedWeights(averaged=epochs > 0 and not steps))  # the state saved after an epoch
    if options.statistics_views:
        callbacks.append(batch_statistics.BatchStatistics(network, pixels, options.statistics_views, options.seed))
    return callbacks


class AveragedWeights(keras.callbacks.Callback):
    """Replaces the weights by the optimizer's moving average after an epoch, and restores them before the next.

    Keras's SwapEMAWeights cannot resume from a state saved in between.
    """

    def __init__(self, averaged):
        super().__init__()
        self.averaged = averaged

    def on_epoch_begin(self, epoch, logs=None):
        if self.averaged:
            self.swap()

    def on_epoch_end(self, epoch, logs=None):
        self.swap()

    def swap(self):
        """Swap the weights and their average."""
        for weight, average in graph.averaged_variables(self.model.optimizer):
            kept = keras.ops.convert_to_numpy(weight)
            weight.assign(average)
            average.assign(kept)
        self.averaged = not self.averaged


class ScoreTuning(keras.callbacks.Callback):
    """Adds the tuning scores, time and learning rate to an epoch's log.

    The scores are those of model_test.py: the AUROC is exact, while Keras's metric uses 200 thresholds.
    """

    def __init__(self, network, tuning, num_train_views, options):
        super().__init__()
        self.network, self.tuning, self.num_train_views = network, tuning, num_train_views
        self.pixels = tuning.pixels  # or what the network has in place of them, see frozen.features
        self.how = {"batch_size": options.batch_size, "flip_averaging": options.flip_averaging}

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()
        self.learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def state(self):
        """State of a partial epoch for `restore`."""
        return {"seconds": time.perf_counter() - self.start, "learning_rate": self.learning_rate}

    def restore(self, begun):
        """Resume a partial epoch of a stopped run."""
        self.start -= begun["seconds"]
        self.learning_rate = begun["learning_rate"]

    def on_epoch_end(self, epoch, logs):
        training_seconds = time.perf_counter() - self.start
        probability = predict(self.network, self.pixels, **self.how)
        if not np.isfinite(probability).all():
            raise NotFiniteError(
                NOT_A_NUMBER.format(what="a tuning probability", value="nan", place=f"after epoch {epoch + 1}")
            )
        label = self.tuning.label
        # L2, also part of the training loss
        penalty = sum(float(keras.ops.convert_to_numpy(loss)) for loss in self.network.losses)
        logs["val_loss"] = log_loss(label, probability, self.tuning.weight) + penalty
        logs["val_accuracy"] = float(np.mean(decisions(probability, 0.5) == label))
        logs["val_auroc"] = auroc(label, probability)
        logs["learning_rate"] = self.learning_rate  # at the epoch's first step
        logs["seconds"] = time.perf_counter() - self.start
        logs["views_per_second"] = self.num_train_views / training_seconds


class StopOnFault(keras.callbacks.Callback):
    """Raises NotFiniteError when the loss is not finite."""

    def __init__(self, steps_done):
        super().__init__()
        self.steps_done = steps_done  # of the first epoch, before a resumed run continues

    def on_train_batch_end(self, batch, logs):
        if not np.isfinite(logs["loss"]):
            place = f"in epoch {self.epoch}, step {self.steps_done + batch + 1}"
            raise NotFiniteError(NOT_A_NUMBER.format(what="the loss", value=logs["loss"], place=place))

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_epoch_end(self, epoch, logs=None):
        self.steps_done = 0

"""What happens after an epoch and a step, beside saving: averaged weights, scores of the tuning views, a stop at a fault."""

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
    "{what} is {value} {place}. best.h5 and last.h5 are those of earlier epochs, if any.\n"
    "Try a lower --learning-rate or --precision float32, in a new run."
)


def weight_callbacks(network, pixels, options, done):
    """The callbacks that make of the weights after an epoch those that are scored and saved, as a recipe asks for.

    Args:
        done: (epochs, steps of the next one) that a resumed run's weights have behind them.
    """
    callbacks = []
    if options.ema:
        epochs, steps = done
        callbacks.append(AveragedWeights(averaged=epochs > 0 and not steps))  # as they are when an epoch's state is saved
    if options.statistics_views:
        callbacks.append(batch_statistics.BatchStatistics(network, pixels, options.statistics_views, options.seed))
    return callbacks


class AveragedWeights(keras.callbacks.Callback):
    """Puts the optimizer's moving average of the weights in their place after an epoch, and they back before the next.

    Keras's SwapEMAWeights does, too, but cannot go on from a state that was saved in between.
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
        """Exchange the weights and their average."""
        for weight, average in graph.averaged_variables(self.model.optimizer):
            kept = keras.ops.convert_to_numpy(weight)
            weight.assign(average)
            average.assign(kept)
        self.averaged = not self.averaged


class ScoreTuning(keras.callbacks.Callback):
    """Adds the tuning scores, time and learning rate to an epoch's log.

    The scores are model_test.py's: the AUROC is exact, where Keras's metric sums over 200 thresholds.
    """

    def __init__(self, network, tuning, num_train_views, options):
        super().__init__()
        self.network, self.tuning, self.num_train_views = network, tuning, num_train_views
        self.how = {"batch_size": options.batch_size, "flip_averaging": options.flip_averaging}

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()
        self.learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def state(self):
        """Of a begun epoch what `restore` needs."""
        return {"seconds": time.perf_counter() - self.start, "learning_rate": self.learning_rate}

    def restore(self, begun):
        """Go on with an epoch that a stopped run has begun."""
        self.start -= begun["seconds"]
        self.learning_rate = begun["learning_rate"]

    def on_epoch_end(self, epoch, logs):
        training_seconds = time.perf_counter() - self.start
        probability = predict(self.network, self.tuning.pixels, **self.how)
        if not np.isfinite(probability).all():
            raise NotFiniteError(
                NOT_A_NUMBER.format(what="a tuning probability", value="nan", place=f"after epoch {epoch + 1}")
            )
        label = self.tuning.label
        penalty = sum(
            float(keras.ops.convert_to_numpy(loss)) for loss in self.network.losses
        )  # L2, which the training loss holds too
        logs["val_loss"] = log_loss(label, probability, self.tuning.weight) + penalty
        logs["val_accuracy"] = float(np.mean(decisions(probability, 0.5) == label))
        logs["val_auroc"] = auroc(label, probability)
        logs["learning_rate"] = self.learning_rate  # of the epoch's first step
        logs["seconds"] = time.perf_counter() - self.start
        logs["views_per_second"] = self.num_train_views / training_seconds


class StopOnFault(keras.callbacks.Callback):
    """Raises NotFiniteError when the loss is no longer a number."""

    def __init__(self, steps_done):
        super().__init__()
        self.steps_done = steps_done  # of the first epoch, before a resumed run goes on

    def on_train_batch_end(self, batch, logs):
        if not np.isfinite(logs["loss"]):
            place = f"in epoch {self.epoch}, step {self.steps_done + batch + 1}"
            raise NotFiniteError(NOT_A_NUMBER.format(what="the loss", value=logs["loss"], place=place))

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_epoch_end(self, epoch, logs=None):
        self.steps_done = 0

"""What happens while a network trains: augmentation, optimizer and schedule, and what is scored after each epoch."""

import sys
import time

import keras
import numpy as np

from bones.networks import graph
from bones.networks.acceleration import adam, speed_up, synchronise
from bones.networks.batches import RestOfEpoch
from bones.networks.predict import predict
from bones.scores.metrics import auroc, log_loss
from bones.scores.probabilities import decisions
from bones.system import machine
from bones.training import batch_statistics

NOT_A_NUMBER = (
    "{what} is {value} {place}. best.h5 and last.h5 are those of earlier epochs, if any.\n"
    "Try a lower --learning-rate or --precision float32, in a new run."
)
# Steps that a JAX accelerator is given ahead, while Python prepares more; the loss is looked at, and Ctrl-C heeded, after them.
STEPS_A_CALL = 16


def build_trainer(network, options, steps_an_epoch):
    """The network behind its augmentation, compiled. The saved network has no augmentation, so scoring never sees it."""
    speed_up(network)
    if options["synchronised"]:
        synchronise(network)
    if options["l2"]:
        for variable in network.trainable_variables:
            if variable.name == "kernel":
                variable.regularizer = keras.regularizers.L2(options["l2"])
    pixels = keras.Input(network.input_shape[1:], name="pixels")
    x = pixels
    for layer in augmentation(options):
        x = layer(x)
    trainer = keras.Model(pixels, network(x), name="trainer")
    is_jax = keras.backend.backend() == "jax"
    trainer.compile(
        optimizer=optimizer(options, steps_an_epoch),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=options["label_smoothing"]),
        metrics=[of_majority(metric) for metric in (keras.metrics.BinaryAccuracy("accuracy"), keras.metrics.AUC(name="auroc"))],
        steps_per_execution=STEPS_A_CALL if is_jax and machine.has_accelerator() else 1,
        # TensorFlow's rotation does not compile under XLA, and on a CPU XLA is slower than the graph.
        jit_compile=is_jax,
    )
    # Variables that a first step makes would have TensorFlow trace it a second time, which doubles a minute: make them now.
    trainer.optimizer.build(trainer.trainable_variables)
    one = np.ones((1, 1), np.float32)
    trainer.compute_metrics(None, one, one, one)
    trainer.reset_metrics()
    # With a loss that is not built, Keras looks at a first batch, and on JAX goes on with the epoch that it then has begun.
    trainer.compute_loss(None, one, one, one)
    return trainer


def augmentation(options):
    """Keras's layers that change training views, those that a recipe asks for."""
    # In float32 also under mixed precision: bfloat16 cannot tell the columns of a 320 px image apart.
    moved, bright = {"fill_mode": "constant"}, {"value_range": (0, 255)}
    makers = {
        "flip": lambda on, **more: keras.layers.RandomFlip("horizontal", **more),
        "rotation": lambda degrees, **more: keras.layers.RandomRotation(degrees / 360, **moved, **more),
        "shift": lambda share, **more: keras.layers.RandomTranslation(share, share, **moved, **more),
        "zoom": lambda share, **more: keras.layers.RandomZoom(share, **moved, **more),
        "contrast": lambda share, **more: keras.layers.RandomContrast(share, **bright, **more),
        "brightness": lambda share, **more: keras.layers.RandomBrightness(share, **bright, **more),
        "erasing": lambda share, **more: keras.layers.RandomErasing((share, share), fill_value=0, **bright, **more),
    }
    used = [
        make(options[name], seed=options["seed"] + place, dtype="float32", name=name)  # one seed would turn as it flips
        for place, (name, make) in enumerate(makers.items())
        if options[name]
    ]
    if keras.backend.backend() == "jax":
        for layer in used:  # Keras says no for TensorFlow's sake, and would run every operation of a step by itself
            layer.supports_jit = True
    return used


def optimizer(options, steps_an_epoch):
    """Adam with a recipe's schedule; weight decay is of kernels alone, as is usual: not of biases and normalisation."""
    rate = SCHEDULES[options["schedule"]](options["learning_rate"], options["epochs"], steps_an_epoch)
    more = {"use_ema": True, "ema_momentum": options["ema"]} if options["ema"] else {}
    if options["accumulation"] > 1:
        more["gradient_accumulation_steps"] = options["accumulation"]
    made = adam(rate, weight_decay=options["weight_decay"] or None, **more)
    made.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    # At the end of `fit` Keras would put the average in the weights' place; AveragedWeights has done so.
    made.finalize_variable_values = lambda variables: None
    return made


def of_majority(metric):
    """A metric that takes the label of the heavier one of two mixed views."""
    update = metric.update_state
    metric.update_state = lambda label, probability, sample_weight=None: update(
        keras.ops.cast(label > 0.5, "float32"), probability, sample_weight
    )
    return metric


def constant(rate, epochs, steps_an_epoch):
    """The learning rate as given, all the way; also what a plateau starts from."""
    return rate


def cosine(rate, epochs, steps_an_epoch):
    """Half a cosine, step by step, from the rate to 0. Source: Loshchilov and Hutter 2017, arXiv 1608.03983, no restarts."""
    return keras.optimizers.schedules.CosineDecay(rate, epochs * steps_an_epoch)


def steps(rate, epochs, steps_an_epoch):
    """1/10, 1/50 and 1/100 of the rate from 25, 50 and 75 % of the epochs on: the first system's."""
    # Keras changes the rate one step after a boundary, so the boundary is the last step before the epoch.
    boundaries = [int(share * epochs) * steps_an_epoch - 1 for share in (0.25, 0.5, 0.75)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [rate, rate / 10, rate / 50, rate / 100])


# A schedule of a recipe: f(rate, epochs, steps an epoch) -> what Keras's optimizer takes. They hang on the step alone, so a
# resumed run needs no state of theirs; the plateau's, which hangs on the tuning loss, is in the resume state.
SCHEDULES = {"constant": constant, "cosine": cosine, "steps": steps, "plateau": constant}


def plateau():
    """Divides the learning rate by 10 after an epoch in which the tuning loss did not fall."""
    return keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=0)


def fit(trainer, batches, epochs, done, callbacks):
    """Train from `done`, the (epochs, steps of the next one) that are, to the last epoch."""
    verbosity = 1 if sys.stdout.isatty() else 2  # a moving bar on a screen, a line an epoch in a file
    how = {"callbacks": callbacks, "shuffle": False, "verbose": verbosity}
    epoch, steps = done
    if steps:
        batches.start_at(epoch + 1)
        trainer.fit(RestOfEpoch(batches, steps), initial_epoch=epoch, epochs=epoch + 1, **how)
        epoch += 1
    batches.start_at(epoch)  # `fit` begins with the next
    trainer.fit(batches, initial_epoch=epoch, epochs=epochs, **how)


def final_touches(network, pixels, options, done):
    """The callbacks that make of the weights after an epoch those that are scored and saved, as a recipe asks for.

    Args:
        done: (epochs, steps of the next one) that a resumed run's weights have behind them.
    """
    callbacks = []
    if options["ema"]:
        epochs, steps = done
        callbacks.append(AveragedWeights(averaged=epochs > 0 and not steps))  # as they are when an epoch's state is saved
    if options["statistics_views"]:
        callbacks.append(batch_statistics.BatchStatistics(network, pixels, options["statistics_views"], options["seed"]))
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
        self.how = {name: options[name] for name in ("batch_size", "flip_averaging")}

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()
        self.learning_rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def so_far(self):
        """Of a begun epoch what `go_on` needs."""
        return {"seconds": time.perf_counter() - self.start, "learning_rate": self.learning_rate}

    def go_on(self, begun):
        """Go on with an epoch that a stopped run has begun."""
        self.start -= begun["seconds"]
        self.learning_rate = begun["learning_rate"]

    def on_epoch_end(self, epoch, logs):
        training_seconds = time.perf_counter() - self.start
        probability = predict(self.network, self.tuning.pixels, **self.how)
        if not np.isfinite(probability).all():
            raise FloatingPointError(
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
    """Raises FloatingPointError when the loss is no longer a number."""

    def __init__(self, steps_done):
        super().__init__()
        self.steps_done = steps_done  # of the first epoch, before a resumed run goes on

    def on_train_batch_end(self, batch, logs):
        if not np.isfinite(logs["loss"]):
            place = f"in epoch {self.epoch}, step {self.steps_done + batch + 1}"
            raise FloatingPointError(NOT_A_NUMBER.format(what="the loss", value=logs["loss"], place=place))

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_epoch_end(self, epoch, logs=None):
        self.steps_done = 0

"""Training of a network: augmentation, optimizer and schedule, from the first epoch or a resumed one."""

import sys

import keras
import numpy as np

from bones.networks.acceleration import adam, synchronise
from bones.networks.batches import RestOfEpoch
from bones.system import machine

# Steps per call on a JAX accelerator, while Python prepares more; loss and Ctrl-C are checked after each call.
STEPS_PER_EXECUTION = 16


def build_trainer(network, options, steps_an_epoch):
    """The network preceded by augmentation, compiled. The saved network has no augmentation, so scoring does not apply it.

    Args:
        network: keras.Model that `accelerate` has changed.
    """
    if options.synchronised:
        synchronise(network)
    if options.l2:
        for variable in network.trainable_variables:
            if variable.name == "kernel":
                variable.regularizer = keras.regularizers.L2(options.l2)
    pixels = keras.Input(network.input_shape[1:], name="pixels")
    x = pixels
    for layer in augmentation(options):
        x = layer(x)
    trainer = keras.Model(pixels, network(x), name="trainer")
    is_jax = keras.backend.backend() == "jax"
    trainer.compile(
        optimizer=optimizer(options, steps_an_epoch),
        loss=keras.losses.BinaryCrossentropy(label_smoothing=options.label_smoothing),
        metrics=[
            with_hard_labels(metric) for metric in (keras.metrics.BinaryAccuracy("accuracy"), keras.metrics.AUC(name="auroc"))
        ],
        steps_per_execution=STEPS_PER_EXECUTION if is_jax and machine.has_accelerator() else 1,
        # TensorFlow's rotation does not compile under XLA, and on a CPU XLA is slower than the graph.
        jit_compile=is_jax,
    )
    # Variables created in the first step make TensorFlow trace it twice, which takes another minute: create them now.
    trainer.optimizer.build(trainer.trainable_variables)
    one = np.ones((1, 1), np.float32)
    trainer.compute_metrics(None, one, one, one)
    trainer.reset_metrics()
    # To build a loss, Keras reads a first batch, and on JAX continues with the epoch started by that: build it now.
    trainer.compute_loss(None, one, one, one)
    return trainer


def augmentation(options):
    """The recipe's Keras augmentation layers."""
    # In float32 also under mixed precision: bfloat16 cannot represent all column positions of a 320 px image.
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
        # With one seed, rotation and flip would be correlated.
        make(getattr(options, name), seed=options.seed + place, dtype="float32", name=name)
        for place, (name, make) in enumerate(makers.items())
        if getattr(options, name)
    ]
    if keras.backend.backend() == "jax":
        for layer in used:  # Keras sets False for TensorFlow, and would not compile the step
            layer.supports_jit = True
    return used


def optimizer(options, steps_an_epoch):
    """Adam with a recipe's schedule; weight decay applies to kernels only, as is usual, not to biases and normalisation."""
    rate = SCHEDULES[options.schedule](options.learning_rate, options.epochs, steps_an_epoch)
    more = {"use_ema": True, "ema_momentum": options.ema} if options.ema else {}
    if options.accumulation > 1:
        more["gradient_accumulation_steps"] = options.accumulation
    made = adam(rate, weight_decay=options.weight_decay or None, **more)
    made.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    # Keras would replace the weights by the average at the end of `fit`; callbacks.AveragedWeights has done so.
    made.finalize_variable_values = lambda variables: None
    return made


def with_hard_labels(metric):
    """A metric that uses the label with the larger share of two mixed views."""
    update = metric.update_state
    metric.update_state = lambda label, probability, sample_weight=None: update(
        keras.ops.cast(label > 0.5, "float32"), probability, sample_weight
    )
    return metric


def constant(rate, epochs, steps_an_epoch):
    """A constant learning rate; also the initial rate of a plateau."""
    return rate


def cosine(rate, epochs, steps_an_epoch):
    """Cosine decay per step, from the rate to 0. Source: Loshchilov and Hutter 2017, arXiv 1608.03983, without restarts."""
    return keras.optimizers.schedules.CosineDecay(rate, epochs * steps_an_epoch)


def steps(rate, epochs, steps_an_epoch):
    """1/10, 1/50 and 1/100 of the rate from 25, 50 and 75 % of the epochs, as in the first system."""
    # Keras changes the rate one step after a boundary, so the boundary is the last step before the epoch.
    boundaries = [int(share * epochs) * steps_an_epoch - 1 for share in (0.25, 0.5, 0.75)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, [rate, rate / 10, rate / 50, rate / 100])


# A schedule of a recipe: f(rate, epochs, steps per epoch) -> learning rate of a Keras optimizer. They depend only on the
# step, so they have no state to resume; the plateau's, which depends on the tuning loss, is in the resume state.
SCHEDULES = {"constant": constant, "cosine": cosine, "steps": steps, "plateau": constant}


def plateau():
    """Divides the learning rate by 10 after an epoch in which the tuning loss did not fall."""
    return keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=1, min_delta=0)


def fit(trainer, batches, epochs, done, callbacks):
    """Train to the last epoch from `done`, the completed (epochs, steps of the next one)."""
    verbosity = 1 if sys.stdout.isatty() else 2  # progress bar on a terminal, one line per epoch in a file
    how = {"callbacks": callbacks, "shuffle": False, "verbose": verbosity}
    epoch, steps = done
    if steps:
        batches.start_at(epoch + 1)
        trainer.fit(RestOfEpoch(batches, steps), initial_epoch=epoch, epochs=epoch + 1, **how)
        epoch += 1
    batches.start_at(epoch)  # `fit` starts with the next
    trainer.fit(batches, initial_epoch=epoch, epochs=epochs, **how)

"""Options that train without change to any view, and a network of one dense layer, for tests of single settings."""

import keras

from bones.runs import recipes


def options(**changes):
    """Options of a run that changes no view, with changes."""
    plain = {"flip": False, "rotation": 0.0, "schedule": "constant", "learning_rate": 0.1, "epochs": 1}
    return recipes.options("default", **plain | changes)


def small(size=16):
    """A network of one dense layer behind a normalisation."""
    grey = keras.Input((size, size, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Flatten()(grey))
    return keras.Model(grey, keras.layers.Dense(1, activation="sigmoid")(x))

"""A network that trains in seconds, and a way to run our scripts with it in a process of their own.

python tests/tiny.py mura.py --network tiny ...
"""

import runpy
import sys
from pathlib import Path

import keras
from keras import layers

from bones.networks.catalogue import NETWORKS, Entry
from bones.networks.parts import load_weights, standardise_layer


def tiny(size, weights="none", standardise=False, dropout=0.1, pooling="avg"):
    """Three convolutions with everything that a run must carry along: batch statistics, dropout's random state, L2 losses."""
    grey = keras.Input((size, size, 1), name="grey")
    x = standardise_layer(grey) if standardise else layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(grey)
    for place, filters in enumerate((8, 16, 16)):
        x = layers.Conv2D(filters, 3, strides=2, kernel_regularizer=keras.regularizers.L2(1e-4), name=f"conv{place}")(x)
        x = layers.BatchNormalization(momentum=0.8, name=f"bn{place}")(x)
        x = layers.Activation("relu", name=f"relu{place}")(x)
    x = layers.Dropout(dropout, name="dropout")(layers.GlobalMaxPooling2D(name="pool")(x))
    network = keras.Model(grey, layers.Dense(1, activation="sigmoid", dtype="float32", name="probability")(x), name="tiny")
    return network if weights == "none" else load_weights(network, weights)


NETWORKS["tiny"] = Entry("tiny:tiny", 8, ("relu0", "relu1"), is_tried=True)
TINY = ["--network", "tiny", "--weights", "none", "--size", "32", "--precision", "float32", "--set", "dropout=0.1"]

if __name__ == "__main__":
    script = Path(__file__).parent.parent / sys.argv[1]
    sys.argv = sys.argv[1:]
    runpy.run_path(str(script), run_name="__main__")

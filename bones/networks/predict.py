"""What a network gives for many views, on any backend and any number of devices."""

import keras
import numpy as np

from bones.data.pixels import Mirrored, Rows
from bones.networks.batches import Batches
from bones.system import collectives


def predict(network, pixels, batch_size=32, flip_averaging=False):
    """Probability of each view as the network gives it.

    Args:
        pixels: (n, size, size, 1) uint8.
        batch_size: views at a time; changes speed and memory, not the result.
        flip_averaging: take the mean of a view's probability and its mirror image's.
    Returns: (n,) float32.
    """
    sides = (Rows, Mirrored) if flip_averaging else (Rows,)
    return np.mean([run_through(network, pixels, batch_size, side)[:, 0] for side in sides], axis=0)


def run_through(network, pixels, batch_size=32, side=Rows):
    """What a network gives for each view, (n, ...) float32; `side`: Rows, or Mirrored to give it their mirror images."""
    count = len(pixels)
    shared = keras.distribution.distribution()  # JAX's devices each take a part of a batch
    parts = shared.num_model_replicas if shared else 1
    batch_size = -(-min(batch_size, count) // parts) * parts
    # The last view fills the last batch up: a batch of another size would have the backend compile the network again.
    full = np.minimum(np.arange(-(-count // batch_size) * batch_size), count - 1)
    batches = Batches(side(pixels, full), batch_size)
    with collectives.heard_by_all(network):
        found = network.predict(batches, verbose=0)[:count]
    batches.pixels = None  # TensorFlow keeps what it read from for as long as the process lives
    return found

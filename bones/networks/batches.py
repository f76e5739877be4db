"""Batches of views for `fit`, in an order that depends on seed and epoch alone, and for `predict`."""

import keras
import numpy as np

from bones.data.pixels import Mirrored, Rows
from bones.system import collectives, machine


class Batches(keras.utils.PyDataset):
    """Batches of (pixels, label, weight) for fit, or of (pixels,) for predict.

    Where several hosts train, a batch is this host's share of it (bones/system/collectives.py).

    The order of an epoch depends on the seed and the epoch alone: a resumed run gets the same batches as an uninterrupted one.
    A shuffled epoch has full batches only; the few remaining views are left out. A smaller batch would have poor statistics,
    and JAX would compile the network a second time for it.
    """

    def __init__(self, pixels, batch_size, label=None, weight=None, shuffle_seed=None, mixup=0.0, readers=2):
        """
        Args:
            pixels: (n, size, size, 1) uint8.
            batch_size: views a batch; where the order is kept, the last one may be smaller.
            label, weight: (n,) or None.
            shuffle_seed: None keeps the order.
            mixup: alpha; views and labels of a batch are mixed in pairs by shares drawn from Beta(alpha, alpha), the heavier
                one's first. 0: none. Source: Zhang et al. 2018, arXiv 1710.09412.
            readers: number of reader threads.
        """
        # Two reader threads by default: with one, TensorFlow autotunes the pipeline, and `fit` and `predict` end only when
        # its thread wakes up, up to a minute later (docs/performance.md).
        super().__init__(workers=readers)
        self.pixels, self.batch_size = pixels, batch_size
        self.label = None if label is None else np.asarray(label, np.float32)[:, None]
        self.weight = None if weight is None else np.asarray(weight, np.float32)
        self.shuffle_seed, self.mixup = shuffle_seed, mixup
        self.host = collectives.place()  # not available in reader threads
        self.start_at(0)

    def start_at(self, epoch):
        """Draw the order of an epoch; `fit` begins with the one after, because it ends one before it begins."""
        self.epoch, self.order = epoch, np.arange(len(self.pixels))
        if self.shuffle_seed is not None:
            np.random.default_rng([self.shuffle_seed, epoch]).shuffle(self.order)

    def on_epoch_end(self):
        self.start_at(self.epoch + 1)

    def __len__(self):
        if self.shuffle_seed is not None and len(self.pixels) >= self.batch_size:
            return len(self.pixels) // self.batch_size
        return -(-len(self.pixels) // self.batch_size)

    def __getitem__(self, index):
        places = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        own = collectives.share(len(places), *self.host)
        if not self.mixup:
            return self.read(places[own])
        mixed = self.mixed(self.read(places), np.random.default_rng([self.shuffle_seed, self.epoch, index]))
        return tuple(part[own] for part in mixed)

    def read(self, places):
        """Pixels and, where given, label and weight of some views."""
        return (self.pixels[places], *(part[places] for part in (self.label, self.weight) if part is not None))

    def mixed(self, parts, rng):
        """Each part of a batch, mixed with a permutation of itself."""
        count = len(parts[0])
        share, others = rng.beta(self.mixup, self.mixup, count).astype(np.float32), rng.permutation(count)
        share = np.maximum(share, 1 - share)
        mixed = []
        for part in parts:
            by = share.reshape(-1, *[1] * (part.ndim - 1))
            mix = by * part + (1 - by) * part[others]
            mixed.append(np.round(mix).astype(np.uint8) if part.dtype == np.uint8 else mix)
        return tuple(mixed)


class RestOfEpoch(keras.utils.PyDataset):
    """The remaining batches of an epoch after some steps."""

    def __init__(self, batches, steps):
        super().__init__(workers=batches.workers)
        self.batches, self.steps = batches, steps

    def __len__(self):
        return len(self.batches) - self.steps

    def __getitem__(self, index):
        return self.batches[self.steps + index]


def predict(network, pixels, batch_size=None, flip_averaging=False):
    """Probability of each view, the network's output.

    Args:
        pixels: (n, size, size, 1) uint8.
        batch_size: views a batch, see `outputs`.
        flip_averaging: average a view's probability with that of its mirror image.
    Returns: (n,) float32.
    """
    sides = (Rows, Mirrored) if flip_averaging else (Rows,)
    return np.mean([outputs(network, pixels, batch_size, side)[:, 0] for side in sides], axis=0)


def outputs(network, pixels, batch_size=None, side=Rows):
    """A network's outputs for each view, (n, ...) float32.

    Args:
        batch_size: views a batch; affects speed and memory, not the result. None: 8 on a processor, where larger batches need
            new memory for each layer, and 32 elsewhere.
        side: Rows, or Mirrored for their mirror images.
    """
    count, batch_size = len(pixels), batch_size or (32 if machine.has_accelerator() else 8)
    shared = keras.distribution.distribution()  # on JAX, each device gets a part of a batch
    parts = shared.num_model_replicas if shared else 1
    batch_size = -(-min(batch_size, count) // parts) * parts
    # The last batch is padded with the last view: for another batch size the backend would compile the network again.
    full = np.minimum(np.arange(-(-count // batch_size) * batch_size), count - 1)
    batches = Batches(side(pixels, full), batch_size)
    with collectives.replicated_predictions(network):
        found = network.predict(batches, verbose=0)[:count]
    batches.pixels = None  # TensorFlow keeps a reference to the data set until the process ends
    return found

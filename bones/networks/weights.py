"""Starting weights from a file."""

from pathlib import Path

import h5py  # reads weights files, which Keras writes as HDF5
import keras

from bones.system.errors import WeightsError


def load_weights(network, path, base=None):
    """Give `network` the weights in a file: of the whole network, or of its base alone.

    Args:
        network: keras.Model to fill, in place.
        path: .h5 or .keras file of a whole model, or a .weights.h5 or keras.applications weights file.
        base: the part of `network` that a keras.applications weights file fills.
    Returns: network.
    Raises: WeightsError naming the file when it is missing, no weights file, or of another network.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; --weights takes none, imagenet or the path of a .h5 or .keras file.")
    try:
        if is_whole_model(path):
            network.set_weights(keras.models.load_model(path, compile=False, safe_mode=True).get_weights())
        else:
            (network if path.name.endswith(".weights.h5") or base is None else base).load_weights(path)
    except Exception as error:  # h5py, zipfile and Keras each raise their own
        raise WeightsError(
            f"{path} does not hold weights for {network.name} ({(str(error) or type(error).__name__).splitlines()[0]}).\n"
            f"Expected a whole {network.name} saved by mura.py (best.h5), or the weights of its base from keras.applications."
        ) from None
    return network


def is_whole_model(path):
    """Whether a file holds a model's architecture beside its weights."""
    if path.suffix == ".keras":
        return True
    with h5py.File(path) as file:
        return "model_config" in file.attrs

"""Which file of a run holds a network: best.h5, or best.keras where .h5 does not hold it.

It is separate because the model card, which needs no Keras, and starting weights, which need no run, both name the file.
"""

from pathlib import Path

ENDINGS = (".h5", ".keras")  # in the order in which they are tried


def network_file(folder, name):
    """Path of a network in a run folder.

    Args:
        folder: path of a run folder.
        name: best.h5 or last.h5.
    Returns: the path of that name or, where it exists, the one that ends in .keras.
    """
    path = Path(folder) / name
    other = path.with_suffix(".keras")
    return other if other.is_file() and not path.is_file() else path

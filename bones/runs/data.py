"""The views of a run, the same each time they are asked for: those that it trains on, tunes with, and is scored on."""

from bones.data.pixels import load_pixels
from bones.data.splits import split_by_patient
from bones.data.views import find_views


def load_parts(options):
    """What a run trains on and what it keeps for tuning, the same each time it is asked for.

    Args:
        options: a run's: data, study_type, labels, size, resize, skip_unreadable, tuning_fraction and seed.
    Returns: ((views, Rows) of train, (views, Rows) of tuning, how many unreadable views were left out).
    Raises: DataError when the data is not as it should be.
    """
    views = find_views(options["data"], "train", options["study_type"], options["labels"])
    kept, pixels = load_pixels(views, options["size"], options["resize"], options["skip_unreadable"])
    train, tuning = split_by_patient(kept, options["tuning_fraction"], options["seed"])
    return (train, pixels.of(kept, train)), (tuning, pixels.of(kept, tuning)), len(views) - len(kept)

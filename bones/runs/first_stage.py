"""The run whose weights a training starts from: which patients stay in tuning, and which cannot be in tuning any more.

Otherwise epoch, threshold and temperature would be selected on patients whom the network has already been trained on.
"""

import dataclasses
from pathlib import Path

from bones.data.layouts import data_root
from bones.data.splits import split_by_patient
from bones.data.views import find_views, fingerprint, is_same
from bones.runs import record as records
from bones.system.errors import RunError
from bones.system.files import printable


@dataclasses.dataclass(frozen=True)
class FirstStage:
    """Patients of a run that another one starts from, as `printable` writes them; none where its data root is another."""

    folder: Path
    root: str  # its data root
    same_root: bool
    kept: tuple = ()  # its tuning patients
    seen: tuple = ()  # patients whom it, or the runs before it, may have been trained on
    types: tuple = ()  # study types that it, or the runs before it, were trained on


def find(options):
    """The FirstStage of a new training, or None where its weights are not of a run.

    Args:
        options: Options, whose weights may be a run folder or a file in one.
    Raises: RunError when the tuning patients of that run cannot be determined.
    """
    folder = next((place for place in (Path(options.weights), Path(options.weights).parent) if records.is_run(place)), None)
    if folder is None or options.weights in ("none", "imagenet"):
        return None
    record = records.read(folder)
    root = Path(record.data.root)
    if not root.is_dir() or data_root(root).resolve() != data_root(options.data).resolve():
        return FirstStage(folder, record.data.root, same_root=False)
    types = record.data.trained_types or record.options.study_type
    patients = set(map(printable, find_views(root, "train", types)["patient"]))
    kept = tuning_patients(folder, record)
    return FirstStage(folder, record.data.root, True, kept, tuple(sorted(patients - {*kept})), types)


def tuning_patients(folder, record):
    """The tuning patients of a run; for one of an earlier version, which does not record them, by splitting again."""
    if record.data.tuning_patients is not None:
        return record.data.tuning_patients
    options, root = record.options, record.data.root
    views = find_views(root, "train", options.study_type, options.labels)
    _, tuning = split_by_patient(views, options.tuning_fraction, options.seed)
    if not is_same(record.data.tuning, fingerprint(tuning, root)):
        raise RunError(
            f"{folder}/run.json does not record the tuning patients, and {root} is no longer the data that it was trained on.\n"
            "Expected the same files, so that its tuning patients stay out of training. Restore them, or train that run again."
        )
    return tuple(sorted(set(map(printable, tuning["patient"]))))

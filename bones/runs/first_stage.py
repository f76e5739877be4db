"""The run whose weights a training starts from: which patients stay in tuning, and which cannot be in tuning any more.

Otherwise epoch, threshold and temperature would be selected on patients whom the network has already been trained on.
"""

import dataclasses
import re
from pathlib import Path

from bones.data.roots import data_roots, in_root, names
from bones.data.splits import split_by_patient
from bones.data.table import root_of
from bones.data.views import find_patients, find_views, fingerprint, is_same
from bones.runs import record as records
from bones.system.errors import RunError
from bones.system.files import printable


@dataclasses.dataclass(frozen=True)
class FirstStage:
    """Patients of a run that another one starts from, as `printable` writes them; none where its data roots are others.

    They have the names that they have in the new run.
    """

    folder: Path
    roots: tuple  # its data roots
    same_root: bool  # whether the two have a data root in common
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
    common = roots_in_common(record.source, options.source)
    if not common:
        return FirstStage(folder, record.data.roots, same_root=False)
    types = record.data.trained_types or record.options.study_type
    here = {earlier: name for earlier, name, _ in common}
    kept = [(root_of(patient), patient.rpartition("/")[2]) for patient in tuning_patients(folder, record)]
    kept = {in_root(here[root], patient) for root, patient in kept if root in here}
    patients = {
        printable(in_root(name, patient)) for _, name, root in common for patient in find_patients(root, "train", types)
    }
    return FirstStage(folder, record.data.roots, True, tuple(sorted(kept)), tuple(sorted(patients - kept)), types)


def roots_in_common(earlier, now):
    """Data roots of an earlier run that a new one has, too: a list of (name in the earlier run, name in the new one, Root).

    Args: earlier, now: Sources.
    A root that is not where it was, as that of a run from another machine, is taken for one of the same folder name.
    """
    places = [place_of(dataclasses.replace(earlier, paths=(path,))) for path in earlier.paths]
    of_earlier = dict(zip(places, names(places), strict=True))
    # On another system, the separator of folders may be another.
    moved = {re.split(r"[\\/]", str(place))[-1]: name for place, name in of_earlier.items() if not place.exists()}
    found = [(name, root, root.path.resolve()) for name, root in data_roots(now).items()]
    found = [(of_earlier.get(place, moved.get(place.name)), name, root) for name, root, place in found]
    return [common for common in found if common[0] is not None]


def place_of(source):
    """The resolved Path of the root of a Source of one path; its path where that does not exist any more."""
    path = Path(source.paths[0])
    return data_roots(source)[""].path.resolve() if path.exists() else path


def tuning_patients(folder, record):
    """The tuning patients of a run; for one of an earlier version, which does not record them, by splitting again."""
    if record.data.tuning_patients is not None:
        return record.data.tuning_patients
    options, roots = record.options, record.data.roots
    views = find_views(record.source, "train", options.study_type, options.labels)
    _, tuning = split_by_patient(views, options.tuning_fraction, options.seed)
    if not is_same(record.data.tuning, fingerprint(tuning, record.source)):
        raise RunError(
            f"{folder}/run.json does not record the tuning patients, and {', '.join(roots)} is no longer the data that it was "
            "trained on.\nExpected the same files, so that its tuning patients stay out of training. "
            "Restore them, or train that run again."
        )
    return tuple(sorted(set(map(printable, tuning["patient"]))))

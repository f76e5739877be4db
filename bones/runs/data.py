"""The views of a run, the same at each call: training, tuning and scored views."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd

from bones.data.phantoms import sets as phantom
from bones.data.pixels import Rows, load_pixels
from bones.data.roots import data_roots, has_patients, with_split
from bones.data.source import Source
from bones.data.splits import class_weights, split_at, split_by_patient
from bones.data.views import check_both_classes, find_views, fingerprint, is_same
from bones.runs.record import Data
from bones.system.errors import DataError, FileError
from bones.system.files import printable


@dataclasses.dataclass
class Part:
    """The views of one split with the arrays that training needs."""

    views: pd.DataFrame
    pixels: Rows  # (n, size, size, 1) uint8
    label: np.ndarray  # (n,)
    weight: np.ndarray | None  # (n,) or None where all weights are equal


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which views of which data are scored; None means as in training."""

    split: str = "held-out"  # or "tuning"
    source: Source | None = None
    study_type: list | None = None
    labels: str | None = None
    skip_unreadable: bool = False

    @property
    def words(self):
        """The words of a command line that select the same views."""
        words = self.source.words if self.source else []
        words += ["--study-type", *self.study_type] if self.study_type else []
        words += ["--split", "tuning"] if self.split == "tuning" else []
        return words + (["--skip-unreadable"] if self.skip_unreadable else [])

    def of(self, record):
        """The Source of the selected views, for a run with this RunRecord.

        Raises: DataError when that of the training is not here and no other is given.
        """
        trained = record.source
        if self.source:
            # Rows without a split are training's where a training used them, and all scored otherwise.
            is_training = {*map(os.path.realpath, self.source.paths)} & {*map(os.path.realpath, trained.paths)}
            return self.source if is_training else dataclasses.replace(self.source, unsplit="held-out")
        check_here(trained, ", or name studies or images to classify")
        return trained


def check_here(source, otherwise=""):
    """Raise DataError when the data that a run was trained on are not where they were. Args: otherwise: further advice."""
    absent = [root for root in source.paths if not os.path.exists(root)]
    if absent:
        option = "--table FILE.csv" if source.layout == "table" else "--data ROOT"
        raise DataError(
            f"the run's training data are not here (no {', '.join(absent)}). Pass their place, or other data, as {option}"
            f"{otherwise}."
        )


def load_parts(source, options, tuning_patients=None, stage=None):
    """The training and tuning views of a run, the same at each call.

    Args:
        source: Source of the data: the options' own, or the same data at another place.
        options: Options of a run.
        tuning_patients: as run.json records them; None for a new run, and for one of an earlier version.
        stage: first_stage.FirstStage of a new run, or None.
    Returns: ((views, Rows) of train, (views, Rows) of tuning, number of unreadable views left out).
    Raises: DataError when the data is invalid.
    """
    views = find_views(source, "train", options.study_type, options.labels)
    kept, pixels = load_pixels(views, options.size, options.resize, options.skip_unreadable)
    if tuning_patients is not None:
        train, tuning = split_at(kept, named(kept, tuning_patients))
    else:
        fixed = [named(kept, names) for names in (stage.kept, stage.seen)] if stage else ()
        train, tuning = split_by_patient(kept, options.tuning_fraction, options.seed, *fixed)
    return (train, pixels.of(kept, train)), (tuning, pixels.of(kept, tuning)), len(views) - len(kept)


def named(views, recorded):
    """The patients of a table whose names, as `printable` writes them, run.json records."""
    recorded = set(recorded)
    return {patient for patient in views["patient"].unique() if printable(patient) in recorded}


def load_train_and_tuning(options, tuning_patients=None, stage=None):
    """(train, tuning, left_out): two Parts, and the number of unreadable views; see `load_parts`."""
    *parts, left_out = load_parts(options.source, options, tuning_patients, stage)
    weigh = class_weights if options.class_weighted else lambda views: None
    return *(Part(views, pixels, views["label"].to_numpy(), weigh(views)) for views, pixels in parts), left_out


def has_held_out(source):
    """Whether a data root, or one of several, contains held-out studies."""
    return bool(with_split(data_roots(source), "held-out"))


def load_held_out(source, options):
    """Decode the held-out views of a Source into the cache. Returns: (views found, views decoded, Rows).

    Raises: DataError when they are invalid.
    """
    views = find_views(source, "held-out", options.study_type, options.labels)
    return views, *load_pixels(views, options.size, options.resize, options.skip_unreadable)


def load_split(run, record, selection):
    """Views and pixels of the selected split, and the number of views left out.

    Args:
        run: RunFolder.
        record: its RunRecord.
        selection: Selection.
    Raises: DataError when they are invalid.
    """
    trained = record.options
    source = selection.of(record)
    labels = selection.labels or (None if selection.source else trained.labels)
    asked = {"study_type": tuple(selection.study_type or trained.study_type), "labels": labels}
    if selection.split == "tuning":  # split again as in training
        skip = selection.skip_unreadable or trained.skip_unreadable
        options = trained.changed(**asked, skip_unreadable=skip)
        _, (kept, pixels), left_out = load_parts(source, options, record.data.tuning_patients)
        advice = "Pass the data, study types and labels of the training, or leave out --split tuning."
        check_same(run, record, source.paths, "tuning", fingerprint(kept, source), advice)
    else:
        views, kept, pixels = load_held_out(source, trained.changed(**asked, skip_unreadable=selection.skip_unreadable))
        left_out = len(views) - len(kept)
        if selection.source:
            check_not_trained_on(run, trained.source, kept)
    check_both_classes(kept, f"the readable views of {', '.join(source.paths)}")
    return kept, pixels, left_out


def check_not_trained_on(run, source, views):
    """Raise DataError where some views are among a run's own training data. Args: source: of these, which may not be here."""
    if not all(map(os.path.exists, source.paths)):
        return
    try:
        trained = find_views(source, "train", ["all"])["path"]
    except (DataError, FileError):  # changed since the training
        return
    both = {*map(os.path.realpath, trained)} & {*map(os.path.realpath, views["path"])}
    if both:
        raise DataError(
            f"{len(both)} of the {len(views)} views are among those that {run.path} was trained on ({printable(min(both))}).\n"
            "Scores on them are not valid. Pass other data, or --split tuning with the training's own."
        )


def describe(options, train, tuning, left_out, stage=None):
    """The data of a run: its location, counts and hashes, the number of views left out, and its tuning patients."""
    kept, types = (stage.kept, stage.types) if stage else ((), ())
    return Data(
        roots=tuple(str(Path(root).absolute()) for root in options.data),  # absolute: a run may be scored from another folder
        phantom=phantom.describe(options.source),
        has_patients=has_patients(data_roots(options.source)),
        train=fingerprint(train.views, options.source),
        tuning=fingerprint(tuning.views, options.source),
        left_out=left_out,
        tuning_patients=tuple(sorted({*map(printable, tuning.views["patient"]), *kept})),
        trained_types=tuple(sorted({*train.views["study_type"], *types})),
    )


def check_same(run, record, roots, part, found, advice):
    """Raise DataError unless a part of the data has the fingerprint recorded in run.json.

    Args:
        part: "train" or "tuning".
        found: its current fingerprint.
        advice: what to do, the last sentence of the message.
    """
    recorded = getattr(record.data, part)
    if not is_same(recorded, found):
        raise DataError(
            f"{', '.join(roots)} is not the data that {run.path} was trained on.\n"
            f"Its {part} views were {recorded},\nnow {found}.\n{advice}"
        )

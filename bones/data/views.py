"""From a folder of studies to batches: a table of views, checked grey pixels in a cache on disk, and what fit is fed with.

views = find_views("MURA-v1.1", "train", ["XR_HUMERUS"])   one row a view; the currency of the whole repository
train, tuning = split_by_patient(views, 0.1, seed=0)       nobody is in both
train, pixels = load_pixels(train, 320, "pad")             (n, 320, 320, 1) uint8, mapped from disk, not loaded
batches = Batches(pixels, train["label"], batch_size=8)    what `model.fit` takes
"""

import argparse
import hashlib
import logging
import mmap
import os
import re
import shlex
import sys
from pathlib import Path

if __name__ == "__main__":
    from bones.system import backend
    from bones.system import scripts as interrupts

    interrupts.quit_at_once()
    backend.choose()

import filelock
import keras
import numpy as np
import pandas as pd
from PIL import Image  # pixels between arrays and files

from bones.data import check as data_check
from bones.data.images import fit_square, in_threads, read_grey
from bones.data.phantoms import sets as phantom
from bones.scores.metrics import STUDY
from bones.system import collectives
from bones.system import files as disk
from bones.system.errors import DataError, UnreadableImageError
from bones.system.files import printable

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".dcm"}
FOLDERS = {"train": "train", "held-out": "valid"}  # our word for a split: MURA's folder
LABELS = {"_negative": 0, "_positive": 1}
WORDS = {"0": 0, "1": 1, "negative": 0, "positive": 1}  # labels in a file of corrections
COLUMNS = ["path", "split", "study_type", "patient", "study", "view", "label"]
CACHE = Path("data/cache")
LET_GO = 256  # views that are decoded before their pixels leave this process's memory
SKIP_ADVICE = "\nUnpack them again, or pass --skip-unreadable; the run then records how many were left out."

# ---------------------------------------------------------------------------------------------------------------------
# Folders -> table of views


def find_views(root, split, study_types=("XR_HUMERUS",), labels=None):
    """One row a view of a split of a data root in MURA's layout.

    Args:
        root: folder that holds train/ and valid/, or whose only such subfolder does. Below them stand an optional XR_* level,
            patients, studies named *_positive or *_negative, and images (.png, .jpg, .jpeg, .dcm).
        split: "train" (MURA's train/) or "held-out" (MURA's valid/).
        study_types: XR_* names, or ["all"].
        labels: .csv of study paths and labels that override those of the folders' names, see `read_labels`.
    Returns: pandas.DataFrame with the columns path, split, study_type, patient, study, view, label (1 positive), sorted.
    Raises: DataError when the layout is not MURA's, the split is empty or has one class only, or a patient is in both splits.
    """
    root = data_root(root)
    folder = split_folder(root, split)
    views = walk(folder, split, study_types)
    if views.empty:
        raise DataError(
            f"{folder} holds no views of {' '.join(study_types)}.\n"
            "Expected patient*/study*_positive|negative/image*.png below it; unpack MURA again, or check --data."
        )
    if labels is not None:
        views = correct_labels(views, root, labels)
    check_both_classes(views, f"{folder} ({' '.join(study_types)})")
    check_patients_apart(root, split, study_types, views)
    return views


def survey(root, study_types=("all",), labels=None):
    """Every view of both splits that can be found, and every fault met on the way, where `find_views` stops at the first.

    Returns: (views, faults): a table like that of `find_views`, and a list of messages.
    Raises: DataError when the root holds neither train/ nor valid/.
    """
    root, faults = data_root(root), []

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except DataError as fault:
            faults.append(str(fault))
            return []

    tables = [walk(root / name, split, study_types, attempt) for split, name in FOLDERS.items() if (root / name).is_dir()]
    views = pd.concat(tables, ignore_index=True)
    return (views if labels is None else correct_labels(views, root, labels)), faults


def walk(folder, split, study_types, attempt=lambda function, *arguments: function(*arguments)):
    """Table of the views below a split's folder; `attempt` calls what may raise a DataError."""
    rows = []
    for study_type, type_folder in attempt(type_folders, folder, study_types):
        for patient in folders_without_images(type_folder, attempt):
            studies = folders_without_images(patient, attempt)
            if not studies:
                log.warning("%s holds no study folder", patient)
            for study in studies:
                place = (split, study_type, patient.name, study.name)
                rows += [(str(image), *place, image.name, label) for image, label in attempt(images_and_label, study)]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"label": int})  # also where there is no row


def data_root(path):
    """The folder at or just below `path` that holds train/ or valid/, as a Path.

    Raises: DataError when there is none, or when several below `path` do.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path} is no folder; a data root is the folder that MURA unpacks to, with train/ and valid/ in it.")
    candidates = [path]
    for _ in range(3):  # MURA-v1.1.zip unpacked by hand often ends up as MURA-v1.1/MURA-v1.1
        roots = [folder for folder in candidates if any((folder / name).is_dir() for name in FOLDERS.values())]
        if len(roots) > 1:
            names = ", ".join(str(folder) for folder in roots)
            raise DataError(f"{path} holds several data roots ({names}); pass one of them as --data.")
        if roots:
            return roots[0]
        candidates = [folder for candidate in candidates for folder in subfolders(candidate)]
    above = next((parent for parent in path.resolve().parents if (parent / "train").is_dir()), None)
    advice = f"Did you mean --data {above}?" if above else "Pass the folder that MURA unpacks to (MURA-v1.1) as --data."
    raise DataError(f"{path} holds neither train/ nor valid/, and no folder just below it does. {advice}")


def split_folder(root, split):
    """MURA's folder of a split."""
    folder = root / FOLDERS[split]
    if not folder.is_dir():
        there = ", ".join(sorted(entry.name for entry in root.iterdir())) or "nothing"
        raise DataError(
            f"{root} holds no {folder.name}/ folder, where the {split} studies stand (found: {there}).\n"
            f"Expected {root}/train and {root}/valid; unpack MURA again, or check --data."
        )
    return folder


def type_folders(folder, study_types):
    """[(study type, folder of its patients)] of a split; a split without the XR_* level is one folder of the type asked for."""
    found = {entry.name: entry for entry in subfolders(folder)}
    types = {name: entry for name, entry in found.items() if name.upper().startswith("XR_")}
    if not types:
        if len(study_types) > 1:
            raise DataError(f"{folder} has no XR_* folders, so all of it is of one study type; pass that one as --study-type.")
        only = study_types[0] if len(study_types) == 1 and study_types[0] != "all" else "XR_UNKNOWN"
        return [(only, folder)]
    if len(types) < len(found):
        others = ", ".join(name for name in found if name not in types)
        raise DataError(f"{folder} mixes XR_* folders with others ({others}); move the others out of it.")
    if "all" in study_types:
        return list(types.items())
    missing = [name for name in study_types if name not in types]
    if missing:
        raise DataError(
            f"{folder} holds no {' '.join(missing)}; it holds {', '.join(types)}.\n"
            "Pass one or more of them, or all, as --study-type."
        )
    return [(name, types[name]) for name in sorted(set(study_types))]


def is_stray(name):
    """Whether a file or folder is litter of a system or an archiver: ._image1.png, .DS_Store, Thumbs.db, __MACOSX."""
    return name.startswith(".") or name.lower() in {"thumbs.db", "desktop.ini", "ehthumbs.db", "__macosx"}


def in_order(folder):
    """Entries of a folder without strays, study2 before study10."""
    try:
        entries = [entry for entry in Path(folder).iterdir() if not is_stray(entry.name)]
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read: {error.strerror}. Give yourself leave to read it, or move it away."
        ) from None
    return sorted(
        entries, key=lambda entry: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", entry.name)]
    )


def subfolders(folder):
    """Folders directly inside a folder, in order."""
    return [entry for entry in in_order(folder) if entry.is_dir()]


def folders_without_images(folder, attempt):
    """Folders directly inside a folder of patients or studies; `attempt` calls what raises when there are images, too."""
    entries = attempt(in_order, folder)
    attempt(check_no_images, entries)
    return [entry for entry in entries if entry.is_dir()]


def check_no_images(entries):
    """Raise DataError when an image is among the entries of a folder of patients or studies, where it has no label."""
    for entry in entries:
        if entry.suffix.lower() in IMAGE_SUFFIXES and not entry.is_dir():
            raise DataError(
                f"{entry} lies outside of a study folder, so it has no label. Move it into one (study1_negative), or remove it."
            )


def images_and_label(study):
    """[(path, label)] of a study's images."""
    label = label_of(study)
    return [(image, label) for image in images_of(study)]


def images_of(study):
    """Paths of a study's images, in order; what is neither an image nor a stray is passed over with a warning.

    Raises: DataError when there is none.
    """
    entries = in_order(study)
    images = [entry for entry in entries if entry.suffix.lower() in IMAGE_SUFFIXES]
    for entry in entries:
        if entry not in images:
            log.warning("%s is no image (.png, .jpg, .jpeg, .dcm) and is passed over", entry)
    if not images:
        raise DataError(f"{study} holds no image; expected image1.png or the like. Unpack it again, or remove the folder.")
    return images


def label_of(study):
    """1 for a study folder named *_positive, 0 for *_negative; anything else is a DataError."""
    for suffix, label in LABELS.items():
        if study.name.endswith(suffix):
            return label
    raise DataError(
        f"{study}: the name of a study folder ends in _positive or _negative, which is its label; rename or remove it."
    )


def correct_labels(views, root, file):
    """The table with the labels of a file, see `read_labels`, for the studies that it names."""
    labels = read_labels(file, root)
    return views.assign(
        label=[labels.get(study, label) for study, label in zip(study_paths(views, root), views["label"], strict=True)]
    )


def study_paths(views, root):
    """Study folder of each view as a file of label corrections names it: valid/XR_HUMERUS/patient11185/study1_positive."""
    return [Path(path).parent.relative_to(root).as_posix() for path in views["path"]]


def folder_labels(views):
    """(n,) labels of the views by the names of their study folders."""
    return np.array([label_of(Path(study)) for study in views["study"]])


def read_labels(file, root):
    """Labels that override those of study folders' names.

    Args:
        file: .csv with the columns study and label, or without a header as MURA's own valid_labeled_studies.csv. A study is a
            path that holds train/ or valid/ and what follows; a label is 1, 0, positive or negative.
        root: data root that holds the studies.
    Returns: {"valid/XR_HUMERUS/patient11185/study1_positive": 0 or 1}.
    Raises: DataError when the file cannot be read, names what is no study of the root, or gives a study two labels.
    """
    form = "Expected the columns study and label, as in: valid/XR_HUMERUS/patient11185/study1_positive,0"
    try:  # blank lines are kept, for the numbers of lines
        rows = pd.read_csv(
            file, header=None, dtype=str, na_filter=False, skip_blank_lines=False, encoding_errors="surrogateescape"
        )
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}. {form}") from None
    except ValueError as error:  # pandas' parser errors are such
        raise DataError(f"{file} is no table ({error}). {form}") from None
    rows = rows[(rows != "").any(axis=1)]
    header = [name.strip().lower() for name in rows.iloc[0]] if len(rows) else []
    if "study" in header and "label" in header:
        rows = rows.iloc[1:, [header.index("study"), header.index("label")]]
    if len(rows.columns) != 2:
        raise DataError(f"{file} has {len(rows.columns)} columns and no header with study and label. {form}")
    labels = {}
    for line, study, word in rows.itertuples():
        where = f"{file}, line {line + 1}"
        key, label = study_key(study, root), WORDS.get(word.strip().lower())
        if key is None:
            raise DataError(f"{where}: {study[:200]!r} is no study folder of {root}. {form}")
        if label is None:
            raise DataError(f"{where}: {word!r} is no label; expected 1, 0, positive or negative.")
        if labels.setdefault(key, label) != label:
            raise DataError(f"{where}: {study} has another label further up; keep one of the two.")
    return labels


def study_key(path, root):
    """A study's path from train/ or valid/ on, or None where it names no study folder of a data root."""
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part]
    starts = [place for place, part in enumerate(parts) if part in FOLDERS.values()]
    if not starts or ".." in parts or not parts[-1].endswith(tuple(LABELS)):
        return None
    key = "/".join(parts[starts[-1] :])
    return key if os.path.isdir(root / key) else None  # pathlib's raises where a path is too long


def check_both_classes(views, where):
    """Raise DataError unless a table of views has both labels."""
    if views["label"].nunique() < 2:
        kind = "positive" if views["label"].iloc[0] else "negative"
        raise DataError(
            f"{where}: all {len(views)} views are {kind}. Learning and scoring need both classes: "
            "look for study folders named *_positive and *_negative, or take in more studies."
        )


def check_patients_apart(root, split, study_types, views):
    """Raise DataError when a patient of these study types stands in train/ and in valid/."""
    other = root / ({"train", "valid"} - {FOLDERS[split]}).pop()
    if not other.is_dir():
        return
    found = {entry.name for entry in subfolders(other)}
    wanted = found if "all" in study_types else found & set(study_types)
    folders = [other / name for name in wanted] if any(name.upper().startswith("XR_") for name in found) else [other]
    both = sorted({patient.name for folder in folders for patient in subfolders(folder)} & set(views["patient"]))
    if both:
        raise DataError(
            f"{len(both)} patients stand in both {root}/train and {root}/valid: {', '.join(both[:5])}"
            f"{', ...' if len(both) > 5 else ''}.\n"
            "A score on someone seen in training is worth nothing: remove them from one of the two."
        )


def split_by_patient(views, tuning_fraction, seed):
    """Take a share of the patients out of a table of views, for choosing epochs and thresholds.

    Patients are drawn evenly from groups of the same study types and label (positive when any of their studies is), so that
    both parts have about the same make-up. Nobody is in both.

    Args:
        views: table of `find_views`.
        tuning_fraction: share of patients, above 0 and below 1.
        seed: draws the patients; the same seed and table give the same split.
    Returns: (train, tuning), tables like `views`; `split` of the second reads "tuning".
    Raises: DataError when either part lacks a class.
    """
    patients = views.groupby("patient").agg(
        types=("study_type", lambda types: " ".join(sorted(set(types)))), label=("label", "max")
    )
    patients["order"] = np.random.default_rng(seed).permutation(len(patients))
    patients = patients.sort_values(["types", "label", "order"])
    # Systematic sampling: walking down the sorted patients, take one each time the running share passes a whole number.
    share = np.floor(np.arange(1, len(patients) + 1) * tuning_fraction + 0.5)
    chosen = patients.index[np.diff(share, prepend=0) > 0]
    is_tuning = views["patient"].isin(chosen)
    train, tuning = views[~is_tuning], views[is_tuning].assign(split="tuning")
    advice = f"of {len(patients)} patients, --tuning-fraction {tuning_fraction} leaves {len(chosen)} for tuning"
    for name, part in (("train", train), ("tuning", tuning)):
        if part["label"].nunique() < 2:
            raise DataError(
                f"The {name} part lacks a class or is empty ({advice}); change --tuning-fraction or take in more studies."
            )
    return train.reset_index(drop=True), tuning.reset_index(drop=True)


def fingerprint(views, root):
    """What a table of views holds, to tell two data sets apart: counts and a hash of relative paths and labels.

    Returns: dict with views, studies, patients, positive_views, bytes (of all image files) and sha256.
    """
    root = data_root(root)
    lines = [
        f"{Path(path).relative_to(root).as_posix()} {label}" for path, label in zip(views["path"], views["label"], strict=True)
    ]
    return {
        "views": len(views),
        "studies": len(views.drop_duplicates(STUDY)),
        "patients": views["patient"].nunique(),
        "positive_views": int(views["label"].sum()),
        "bytes": sum(os.path.getsize(path) for path in views["path"]),
        "sha256": hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest(),
    }


def is_same(recorded, found):
    """Whether two fingerprints are of the same data; one of an earlier version may say less."""
    return bool(recorded) and recorded == {name: found.get(name) for name in recorded}


# ---------------------------------------------------------------------------------------------------------------------
# Table of views -> pixels, decoded once


def load_pixels(views, size, resize, skip_unreadable=False, cache=CACHE, change=None):
    """Pixels of every view, decoded in parallel on first use and mapped from a cache file from then on.

    The cache file is named by a hash of every path, byte size and modification time, and of size and resize mode: a changed
    file or setting makes a new one, and the old one can be removed at any time.

    Args:
        views: table of `find_views`.
        size, resize: see `fit_square`.
        skip_unreadable: leave out views that do not decode, with their labels, instead of raising.
        cache: folder of the cache files, or None to decode into memory.
        change: f((height, width) uint8) -> the same, applied before resizing; only without a cache.
    Returns: (views, pixels): the table without what was left out, and (n, size, size, 1) uint8 in its order, read-only.
    Raises: DataError that lists every unreadable view with the reason.
    """
    if cache is None:
        pixels = np.zeros((len(views), size, size, 1), np.uint8)
        bad = decode_all(views["path"], size, resize, pixels, change)
    else:
        file = Path(cache) / f"{cache_key(views, size, resize)}.npy"
        pixels, bad = read_cache(file) or build_cache(views["path"], size, resize, file)
        if len(bad) and not skip_unreadable:
            file.unlink()  # the next run looks again: what was wrong may not show in a time or size (permissions)
    if len(bad):
        message = describe_unreadable(views, bad)
        if not skip_unreadable:
            raise DataError(message + ("" if cache is None else SKIP_ADVICE))
        log.warning("%s\nThey are left out, with their labels.", message)
    keep = np.setdiff1d(np.arange(len(views)), bad["place"])
    return views.iloc[keep].reset_index(drop=True), Rows(pixels, keep)


class Rows:
    """Some rows of an array, in an order of their own, without a copy of the array.

    Fancy indexing of a memory map would read it whole; this reads rows when they are asked for.
    """

    def __init__(self, array, rows):
        rows = np.asarray(rows)
        self.array, self.rows = (array.array, array.rows[rows]) if isinstance(array, Rows) else (array, rows)
        self.shape = (len(self.rows), *array.shape[1:])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, places):
        values = self.array[self.rows[places]]
        let_go(self.array)
        return values

    def of(self, views, part):
        """The Rows of some views: self holds those of the table `views`, and `part` is a table of some of them."""
        return Rows(self.array, self.rows[pd.Index(views["path"]).get_indexer(part["path"])])


def let_go(array):
    """Keep memory flat: what was read or written of an array that is mapped from disk stays in the system's own cache alone."""
    mapped = getattr(array, "base", None)
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


class Mirrored(Rows):
    """Rows whose images, (height, width, 1), are flipped left to right as they are read."""

    def __getitem__(self, places):
        return super().__getitem__(places)[:, :, ::-1]


def cache_key(views, size, resize):
    """Name of the cache file of a table of views at a size and resize mode."""
    key = hashlib.sha256(f"grey 1 {size} {resize}".encode())  # raise the number when read_grey or fit_square changes
    for path in views["path"]:
        try:
            state = os.stat(path)
        except OSError:  # a dangling link, say: decoding will name it
            state = os.stat_result([0] * 10)
        key.update(f"\n{os.path.abspath(path)}\0{state.st_size}\0{state.st_mtime_ns}".encode(errors="surrogateescape"))
    return key.hexdigest()[:32]


def read_cache(file):
    """(pixels, table of unreadable images) of a cache file, or None when it is absent or damaged."""
    try:
        return np.load(file, mmap_mode="r"), pd.read_csv(file.with_suffix(".csv"))
    except (OSError, ValueError, EOFError):  # pandas' and numpy's errors on damaged files are ValueErrors
        return None


def build_cache(paths, size, resize, file):
    """Decode every path into an .npy file, and list the unreadable ones beside it. Returns: what `read_cache` does.

    Raises: DataError when it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_suffix(".lock")):  # of two processes that need it, one decodes
            return read_cache(file) or fill_cache(paths, size, resize, file)
    except OSError as error:
        raise DataError(
            f"{file} cannot be written ({disk.reason(error)}): the decoded views, {len(paths) * size**2 / 1e9:.2g} GB.\n"
            f"Make room, or remove older files in {file.parent}."
        ) from None


def fill_cache(paths, size, resize, file):
    """What `build_cache` does while no other process does."""
    partial = file.with_name(f".{file.stem}.npy")
    partial_csv = partial.with_suffix(".csv")
    try:
        pixels = create_array(partial, (len(paths), size, size, 1))
        bad = decode_all(paths, size, resize, pixels)
        pixels.flush()
        bad.to_csv(partial_csv, index=False)
        os.replace(partial_csv, file.with_suffix(".csv"))
        os.replace(partial, file)
        return np.load(file, mmap_mode="r"), bad
    finally:
        partial.unlink(missing_ok=True)
        partial_csv.unlink(missing_ok=True)


def create_array(path, shape):
    """A new .npy file of uint8, mapped into memory. Raises: OSError when it finds no room on the disk."""
    array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    disk.reserve(path, os.path.getsize(path))
    return array


def decode_all(paths, size, resize, pixels, change=None):
    """Decode every path into `pixels`, (n, size, size, 1), in threads.

    Returns: pandas.DataFrame with the place in `paths` of each unreadable image, and the reason.
    """
    bad = []

    def decode(place):
        try:
            grey = read_grey(paths.iloc[place])
            grey = grey if change is None else Image.fromarray(change(np.asarray(grey)))
            pixels[place, ..., 0] = fit_square(grey, size, resize)
        except UnreadableImageError as error:
            bad.append((place, str(error)))

    for done, _ in enumerate(in_threads(decode, range(len(paths)), "Decoding views")):
        if done % LET_GO == 0:
            let_go(pixels)
    return pd.DataFrame(sorted(bad), columns=["place", "reason"])


def describe_unreadable(views, bad):
    """The message that lists unreadable views."""
    paths = views["path"].iloc[bad["place"]]
    common = os.path.commonpath([os.path.dirname(path) for path in views["path"]]) or "."
    names = [printable(os.path.relpath(path, common)) for path in paths]
    lines = [f"  {name}   {reason}" for name, reason in zip(names, bad["reason"], strict=True)]
    return f"{len(bad)} of {len(views)} images under {printable(common)} cannot be decoded:\n" + "\n".join(lines)


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


# ---------------------------------------------------------------------------------------------------------------------
# Pixels -> batches


def class_weights(views):
    """Weight of each view such that, within a study type, positives and negatives weigh the same in sum.

    w(positive) = N / (P + N) and w(negative) = P / (P + N), P positive and N negative views of the study type.

    Returns: (n,) float32.
    Source: Rajpurkar et al. 2018, arXiv 1712.06957, section 3.1.
    """
    positive_share = views.groupby("study_type")["label"].transform("mean")
    return np.where(views["label"] == 1, 1 - positive_share, positive_share).astype(np.float32)


class Batches(keras.utils.PyDataset):
    """Batches of (pixels, label, weight) for fit, or of (pixels,) for predict.

    Where several hosts train, a batch is this host's share of it (hosts.py).

    The order of an epoch depends on the seed and the epoch alone, so that a resumed run sees what an uninterrupted one does.
    A shuffled epoch has whole batches only; the few views left over sit it out. A smaller batch would have poor statistics, and
    JAX would compile the network a second time for it.
    """

    def __init__(self, pixels, batch_size, label=None, weight=None, shuffle_seed=None, mixup=0.0, readers=2):
        """
        Args:
            pixels: (n, size, size, 1) uint8.
            batch_size: views a batch; where the order is kept, the last one may hold fewer.
            label, weight: (n,) or None.
            shuffle_seed: None keeps the order.
            mixup: alpha; views and labels of a batch are mixed in pairs by shares drawn from Beta(alpha, alpha), the heavier
                one's first. 0: none. Source: Zhang et al. 2018, arXiv 1710.09412.
            readers: threads that read ahead.
        """
        # Of two readers: with one, TensorFlow tunes the reading, and `fit` and `predict` end only when that wakes up:
        # up to a minute later (docs/performance.md).
        super().__init__(workers=readers)
        self.pixels, self.batch_size = pixels, batch_size
        self.label = None if label is None else np.asarray(label, np.float32)[:, None]
        self.weight = None if weight is None else np.asarray(weight, np.float32)
        self.shuffle_seed, self.mixup, self.host = (
            shuffle_seed,
            mixup,
            collectives.place(),
        )  # which a reading thread would not know
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
        """Pixels and, where there are any, label and weight of some views."""
        return (self.pixels[places], *(part[places] for part in (self.label, self.weight) if part is not None))

    def mixed(self, parts, rng):
        """Each part of a batch mixed with another order of itself."""
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
    """The batches of an epoch that are left after some steps."""

    def __init__(self, batches, steps):
        super().__init__(workers=batches.workers)
        self.batches, self.steps = batches, steps

    def __len__(self):
        return len(self.batches) - self.steps

    def __getitem__(self, index):
        return self.batches[self.steps + index]


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


# ---------------------------------------------------------------------------------------------------------------------
# Command line: a report on a data root before anyone trains


def main(argv=None):
    """Check a data root as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--check", required=True, metavar="ROOT", help="data root to read whole and report on")
    parser.add_argument("--study-type", nargs="+", default=["all"], metavar="XR_*", help="study types (default: all)")
    parser.add_argument("--labels", metavar="FILE.csv", help="corrections to apply first: study paths and labels")
    options = parser.parse_args(argv)
    try:
        root = data_root(options.check)
        views, faults = survey(root, options.study_type, options.labels)
        mark = phantom.describe(root)
        report, wrong = data_check.check(root, views, faults, mura=not mark)
    except (DataError, OSError) as fault:
        print(f"data_loader.py: {fault}", file=sys.stderr)
        return 1
    print(f"{options.check}{' (PHANTOMS)' if mark else ''}\n\n{report}")
    if not wrong:
        types = ["all"] if "all" in options.study_type else options.study_type
        labels = ["--labels", options.labels] if options.labels else []
        print("Next:", shlex.join(["python", "mura.py", "--data", options.check, "--study-type", *types, *labels]))
    return int(wrong)


if __name__ == "__main__":
    sys.exit(interrupts.run(main))

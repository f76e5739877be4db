"""Data sets with one folder a class, such as train/fractured and train/normal; its patients are unknown."""

import contextlib
import functools
import itertools
import re
from pathlib import Path

import pandas as pd

from bones.data.class_names import class_labels, in_words, label_of_name
from bones.data.file_kinds import EXPECTED, is_image
from bones.data.layouts import SPLITS, Root, directly, ends_of, single_type, sorted_entries, subfolders
from bones.data.studies import folders
from bones.data.table import COLUMNS
from bones.system.errors import DataError

EXAMPLE = "Expected one folder for each class, as in train/fractured and train/normal"


class ClassFolders(Root):
    """A data set of class folders: each image is a patient and a study of its own."""

    has_patients, has_study_folders = False, False

    def __init__(self, path, positive=None, unsplit="train"):
        """Args: path: folder at or above those of splits; positive: see `class_labels`; unsplit: split where there are none."""
        self.path = self.folder = outer_folder(Path(path))
        self.positive, self.unsplit = positive, unsplit

    @functools.cached_property
    def parts(self):
        """{split: [folder of classes]}; a validation folder is for tuning where there is a test folder, too."""
        named = {kind: [] for kind in ("train", "held-out", "tuning")}
        for folder in subfolders(self.path):
            kind = split_of(folder.name)
            if kind:
                named[kind].append(folder)
        if not any(named.values()):
            refuse_splits_inside(self.path)
            return {self.unsplit: [self.path]}
        if not named["held-out"]:
            named["held-out"], named["tuning"] = named["tuning"], []
        return {kind: folders for kind, folders in named.items() if folders}

    @property
    def notes(self):
        """What the layout leaves open."""
        notes = ["patients are unknown: each image counts as a patient and a study of its own"]
        notes += in_words(self.labels)
        if "tuning" in self.parts:
            places = " and ".join(f"{folder.name}/" for folder in self.parts["tuning"])
            notes.append(f"the images in {places} are for tuning, in place of --tuning-fraction")
        used = [*itertools.chain(*self.parts.values())]
        others = [f"{folder.name}/" for folder in subfolders(self.path) if folder not in used and used != [self.path]]
        if others:
            notes.append(f"{', '.join(others)} beside {', '.join(f'{folder.name}/' for folder in used)} is not read")
        return notes

    @functools.cached_property
    def labels(self):
        """{name of a class: label} of all splits in which the names say it."""
        found = {}
        for folder in itertools.chain(*self.parts.values()):
            with contextlib.suppress(DataError):  # `find` raises it
                found |= {inner.name: label for inner, label in self.classes(folder).items()}
        return found

    def has(self, split):
        return split in self.parts

    def types(self, split):
        return []

    def place(self, split):
        return ", ".join(map(str, self.parts.get(split, [self.path])))

    def find(self, split, study_types, attempt=directly):
        study_type = single_type(self.path, study_types)
        rows = []
        for kind in ("train", "tuning") if split == "train" else (split,):
            for part in self.parts.get(kind, ()):
                classes = attempt(self.classes, part)
                for folder, label in classes.items() if classes else ():
                    for image in (file for _, inside in folders(folder) for file in inside if is_image(file)):
                        name = image.relative_to(self.path).as_posix().replace("/", ":")  # a slash would end a root's name
                        rows.append((str(image), kind, study_type, name, name, image.name, label))
        return pd.DataFrame(rows, columns=COLUMNS).astype({"label": int})

    def classes(self, part):
        """{folder: label} of the classes of a split. Raises: DataError when names or an image leave a label open."""
        for entry in sorted_entries(part):
            if not entry.is_dir() and is_image(entry):
                raise DataError(
                    f"{entry} is in no class's folder, so it has no label. {EXAMPLE}. Move it into one, or remove it."
                )
        folders = {folder.name: folder for folder in subfolders(part)}
        if not folders:
            raise DataError(f"{part} contains no folder. {EXAMPLE}.")
        labels = class_labels([*folders], self.positive, str(part))
        return {folder: labels[name] for name, folder in folders.items()}

    def check(self, views, split, study_types):
        if split not in self.parts:
            if split == "train":
                raise DataError(f"{self.path} has no folder train/. {EXAMPLE}.")
            advice = f"{EXAMPLE}, or pass --split tuning to score the tuning images"
            raise DataError(f"{self.path} has no held-out images: no folder test/ or val/. {advice}.")
        if views.empty:
            raise DataError(f"{self.path} contains no image for the {split} split; {EXPECTED}. {EXAMPLE}.")

    def locate(self, parts, exists):
        return next((end for end in ends_of(parts) if exists(self.folder / end)), None)


def split_of(name):
    """The split that a folder's name says, or None."""
    return SPLITS.get(name.lower())


def outer_folder(path):
    """The folder at or just below a path that contains folders of splits, or else of classes. Raises: DataError."""
    if not path.is_dir():
        raise DataError(
            f"{path} is not a folder; with --layout classes, --data is the folder that contains train/ or the classes."
        )
    found, inner = path, subfolders(path)
    while len(inner) == 1 and not split_of(inner[0].name):  # as archives unpack
        found, inner = inner[0], subfolders(inner[0])
    if not inner:
        raise DataError(f"{path} contains no folder. {EXAMPLE}.")
    return found


def looks_like(path):
    """Names of the classes where a folder is a data set of class folders, and [] otherwise."""
    try:
        path = outer_folder(Path(path))
    except DataError:
        return []
    parts = [folder for folder in subfolders(path) if split_of(folder.name)] or [path]
    classes = {folder.name: folder for part in parts for folder in subfolders(part)}
    said = [name for name in classes if says_label(name)]
    if len(classes) < 2 or not said:
        return []  # MURA's folders have thousands of patients there, which are not listed
    return [*classes] if any(is_image(file) for name in said for _, inside in folders(classes[name]) for file in inside) else []


def says_label(name):
    """Whether a folder's name is that of a class, and not one of MURA's folders or a version such as MURA-v1.1."""
    words = re.sub(r"[\d.]+", " ", name)
    return not name.lower().startswith(("study", "patient")) and (name in ("0", "1") or label_of_name(words) is not None)


def refuse_splits_inside(path):
    """Raise DataError where folders of classes contain those of splits: their test images would be for training."""
    for folder in subfolders(path):
        inside = [f"{inner.name}/" for inner in subfolders(folder) if split_of(inner.name)]
        if inside:
            raise DataError(
                f"{folder} contains {' and '.join(inside)}, but splits have to be above the classes. {EXAMPLE}. Move them."
            )

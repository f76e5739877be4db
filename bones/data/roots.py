"""Data roots, several used as one: a patient belongs to a root, whose name begins the patient's and the paths of its views."""

import functools
import itertools
import os
from pathlib import Path

from bones.data.class_folders import ClassFolders, looks_like
from bones.data.image_tables import ImageTable, check_apart
from bones.data.layouts import MuraRoot
from bones.data.source import Source
from bones.data.table import root_of
from bones.system.errors import DataError


def open_roots(source):
    """A list of the layouts.Root of a Source. Raises: DataError, FileError."""
    if source.layout == "mura":
        return [mura_root(path) for path in source.paths]
    if source.layout == "classes":
        return [ClassFolders(path, source.positive, source.unsplit) for path in source.paths]
    tables = [table_root(os.fspath(path), source.positive, source.unsplit, changed(path)) for path in source.paths]
    check_apart(tuple(tables))
    return tables


def has_patients(roots):
    """Whether all of some roots say whose the images are. Args: roots: of `data_roots`."""
    return all(root.has_patients for root in roots.values())


def have_study_folders(roots):
    """Whether in all of some roots the folders of studies have labels in their names. Args: roots: of `data_roots`."""
    return all(root.has_study_folders for root in roots.values())


def notes(roots):
    """Sentences on what some roots leave open. Args: roots: of `data_roots`."""
    return [f"{root}: {note}" for root in roots.values() for note in root.notes]


def mura_root(path):
    """The MuraRoot at a path. Raises: DataError, also when it is a data set of class folders or a table."""
    if Path(path).is_file():
        raise DataError(
            f"{path} is a file; a data root is a folder in MURA's layout. Pass a table of images as --table {path}."
        )
    classes = looks_like(path) if Path(path).is_dir() else []
    if classes:
        raise DataError(
            f"{path} has one folder for each class ({', '.join(classes[:4])}) and no patients, which is not MURA's layout.\n"
            "Pass --layout classes to read it so."
        )
    return MuraRoot(path)


@functools.lru_cache(8)
def table_root(path, positive, unsplit, state):
    """An ImageTable, which is read once as long as the file's `state` is the same."""
    return ImageTable(path, positive, unsplit)


def changed(path):
    """What changes when a file does; None where it is missing."""
    return os.stat(path).st_mtime_ns if os.path.exists(path) else None


def data_roots(paths):
    """The data roots at or just below folders.

    Args:
        paths: one folder in MURA's layout, a list of them, or a Source.
    Returns: {name: layouts.Root}. The name of a single root is empty. That of one of several is its folder's name, with as many
        folders above it as tell the roots apart; a patient of it is called NAME/patient00001.
    Raises: DataError when a folder contains no data root, or two are the same.
    """
    roots = open_roots(paths if isinstance(paths, Source) else Source(tuple(as_list(paths))))
    places = [root.path.resolve() for root in roots]
    for one, other in itertools.combinations(places, 2):
        if one.samefile(other):  # macOS and Windows ignore case
            raise DataError(f"{one} is named twice; name each data root once.")
    return dict(zip(names(places), roots, strict=True))


def as_list(paths):
    """One path or several, as a list."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def names(places):
    """Names of data roots, see `data_roots`. Args: places: their resolved Paths."""
    if len(places) == 1:
        return [""]
    depth, found = 0, [""] * len(places)
    while len(set(found)) < len(places):
        depth += 1
        found = ["/".join(part.rstrip("\\") for part in place.parts[-depth:]) for place in places]
    return found


def in_words(paths):
    """Names of data roots' folders for a table or a model card, which contain no path of this machine."""
    return " + ".join(Path(path).resolve().name for path in as_list(paths))


def in_list(roots):
    """The paths of data roots, for a sentence. Args: roots: of `data_roots`."""
    return ", ".join(map(str, roots.values()))


def in_root(name, text):
    """A patient's name, or a path from a root on, with the root's name in front."""
    return f"{name}/{text}" if name else text


def paths_from_root(views, roots):
    """Path of each view from its data root on, with the root's name in front where there are several.

    Args:
        views: table of `bones.data.views.find_views`.
        roots: of `data_roots`.
    """
    place_of = {name: os.fspath(root.folder) for name, root in roots.items()}
    owners = views["patient"].map(root_of)
    return [
        in_root(owner, Path(os.path.relpath(path, place_of[owner])).as_posix())
        for owner, path in zip(owners, views["path"], strict=True)
    ]


def with_split(roots, split):
    """The roots that contain a split."""
    return {name: root for name, root in roots.items() if root.has(split)}


def path_in_roots(path, roots, exists=os.path.exists):
    """A path that a user wrote, from its data root on as `paths_from_root` writes it.

    Args:
        path: has train/ or valid/ in it where the root is in MURA's layout; what is before that may name the root, and has to
            where several contain the path.
        roots: of `data_roots`.
        exists: f(path) -> bool, os.path.isdir for a folder; pathlib's raise where a path is too long.
    Returns: the path, or None where no root contains it.
    Raises: DataError when several do.
    """
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part]
    if ".." in parts:
        return None
    found = {name: root.locate(parts, exists) for name, root in roots.items()}
    found = {name: below for name, below in found.items() if below}
    named = {name: below for name, below in found.items() if name and f"/{'/'.join(parts)}".endswith(f"/{name}/{below}")}
    owners = named or found
    if len(owners) > 1:
        below = next(iter(owners.values()))
        raise DataError(f"{path} is in several data roots: {', '.join(found)}. Write the name of one in front of {below}.")
    return next((in_root(name, below) for name, below in owners.items()), None)

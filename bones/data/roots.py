"""Several data roots used as one: a patient belongs to a root, whose name begins the patient's and the paths of its views."""

import itertools
import os
from pathlib import Path

from bones.data.layouts import FOLDERS, data_root
from bones.data.table import root_of
from bones.system.errors import DataError


def data_roots(paths):
    """The data roots at or just below folders.

    Args:
        paths: one folder, or a list of them.
    Returns: {name: Path}. The name of a single root is empty. That of one of several is its folder's name, with as many
        folders above it as tell the roots apart; a patient of it is called NAME/patient00001.
    Raises: DataError when a folder contains no data root, or two are the same.
    """
    roots = [data_root(path) for path in as_list(paths)]
    places = [root.resolve() for root in roots]
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


def in_root(name, text):
    """A patient's name, or a path from a root on, with the root's name in front."""
    return f"{name}/{text}" if name else text


def paths_from_root(views, roots):
    """Path of each view from its data root on, with the root's name in front where there are several.

    Args:
        views: table of `bones.data.views.find_views`.
        roots: of `data_roots`.
    """
    place_of = {name: os.fspath(root) for name, root in roots.items()}
    owners = views["patient"].map(root_of)
    return [
        in_root(owner, Path(os.path.relpath(path, place_of[owner])).as_posix())
        for owner, path in zip(owners, views["path"], strict=True)
    ]


def with_split(roots, split):
    """The roots that contain a split's folder."""
    return {name: root for name, root in roots.items() if (root / FOLDERS[split]).is_dir()}


def path_in_roots(path, roots, exists=os.path.exists):
    """A path that a user wrote, from its data root on as `paths_from_root` writes it.

    Args:
        path: has train/ or valid/ in it; what is before that may name the root, and has to where several contain the path.
        roots: of `data_roots`.
        exists: f(path) -> bool, os.path.isdir for a folder; pathlib's raise where a path is too long.
    Returns: the path, or None where no root contains it.
    Raises: DataError when several do.
    """
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part]
    starts = [place for place, part in enumerate(parts) if part in FOLDERS.values()]
    if not starts or ".." in parts:
        return None
    before, below = "/".join(parts[: starts[-1]]), "/".join(parts[starts[-1] :])
    owners = [name for name, root in roots.items() if exists(root / below)]
    named = [name for name in owners if name and f"/{before}".endswith(f"/{name}")]
    if len(named or owners) > 1:
        raise DataError(f"{path} is in several data roots: {', '.join(owners)}. Write the name of one in front of {below}.")
    return in_root((named or owners)[0], below) if owners else None

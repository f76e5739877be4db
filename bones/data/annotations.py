"""Tables that users have of the views of a data root: groups of views, and boxes around what is abnormal."""

import functools

import numpy as np
import pandas as pd

from bones.data.labels import study_paths
from bones.data.roots import in_list, path_in_roots, paths_from_root
from bones.system.errors import DataError
from bones.system.files import printable, read_table

SIDES = ["left", "top", "right", "bottom"]
GROUPS = (
    "Expected a column path (of images) or study (of study folders), from train/ or valid/ on, and a column for each grouping."
)
BOXES = "Expected path,left,top,right,bottom: an image's path from train/ or valid/ on, and a box in pixels of the file."


def read_groups(files, views, roots):
    """Groups of views from tables with the column path or study, and further columns, such as hardware or age.

    Args:
        files: .csv, one or several, of which the first with a row of a view counts; rows of other views have no effect.
        views: table of `bones.data.views.find_views`.
        roots: of `bones.data.roots.data_roots`.
    Returns: pandas.DataFrame with the index of `views` and the further columns, as text; missing where no file has a row.
    Raises: FileError when a file is no such table; DataError when it names what the roots do not contain, or names it twice.
    """
    tables = [read_groups_of(file, views, roots) for file in files]
    return functools.reduce(pd.DataFrame.combine_first, tables)[[*dict.fromkeys(name for table in tables for name in table)]]


def read_groups_of(file, views, roots):
    """The groups of one file, see `read_groups`."""
    table = read_table(file, [], GROUPS, dtype=str, na_filter=False)
    key = next((name for name in ("path", "study") if name in table), None)
    if key is None or len(table.columns) < 2:
        raise DataError(f"{file} has the columns {', '.join(table.columns)}. {GROUPS}")
    table.index = keys(file, table[key], roots)
    if table.index.has_duplicates:
        raise DataError(f"{file} has several rows of {table.index[table.index.duplicated()][0]}. Keep one of them.")
    found = paths_from_root(views, roots) if key == "path" else study_paths(views, roots)
    if not table.index.isin(found).any():
        raise DataError(f"{file} has a row for none of the {len(views)} views. {GROUPS}")
    return table.drop(columns=key).reindex(found).set_index(views.index)


def read_boxes(files, views, roots):
    """Boxes around what is abnormal in images.

    Args: as `read_groups`; the columns are path, left, top, right, bottom, one row a box. A row without numbers is no box.
    Returns: a list of (k, 4) arrays, one a view: left, top, right, bottom in pixels; k is 0 where it has no box.
    Raises: FileError when a file is no such table; DataError when a path is not in the roots, or a box has no area.
    """
    return [np.concatenate(boxes) for boxes in zip(*(read_boxes_of(file, views, roots) for file in files), strict=True)]


def read_boxes_of(file, views, roots):
    """The boxes of one file, see `read_boxes`."""
    table = read_table(file, ["path", *SIDES], BOXES)
    boxes = table[SIDES].apply(pd.to_numeric, errors="coerce")
    table, boxes = table[table[SIDES].notna().any(axis=1)], boxes[table[SIDES].notna().any(axis=1)]
    wrong = ~((boxes["left"] < boxes["right"]) & (boxes["top"] < boxes["bottom"]))  # also where one is not a number
    if wrong.any():
        row = table[wrong].iloc[0]
        raise DataError(f"{file}, line {row.name + 2}: {', '.join(str(row[side]) for side in SIDES)} is not a box. {BOXES}")
    by_path = dict(list(boxes.groupby(np.array(keys(file, table["path"], roots), dtype=object))))
    none = np.empty((0, 4))
    return [by_path[path].to_numpy(float) if path in by_path else none for path in paths_from_root(views, roots)]


def keys(file, paths, roots):
    """Paths of a column of a file as `paths_from_root` writes them. Raises: DataError when one is not in the roots."""
    found = []
    for line, path in paths.items():
        key = path_in_roots(str(path), roots)
        if key is None:
            places = in_list(roots)
            raise DataError(
                f"{file}, line {line + 2}: {printable(str(path)[:200])!r} is not in {places}. "
                "Remove the row, or pass its data root, too, as --data."
            )
        found.append(key)
    return found

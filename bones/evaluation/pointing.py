"""Pointing game: whether heat maps locate the abnormality, on phantoms and data with bounding boxes."""

import numpy as np

from bones.data.annotations import BOXES, read_boxes
from bones.data.images import read_grey
from bones.data.phantoms import sets as phantom
from bones.data.pixels import Rows
from bones.data.roots import data_roots, in_list, in_words
from bones.evaluation import heatmaps
from bones.evaluation.overlays import film_share
from bones.runs import card, checkpoints
from bones.runs.data import load_split
from bones.scores import intervals
from bones.scores.report import with_interval
from bones.scores.text import pointing_table
from bones.system.errors import DataError

MARGIN = 15  # pixels: a cell of 10 x 10 over 512 px is 51 px wide, and many fractures are smaller than that


def maximum_position(values, width, height, resize):
    """Centre of the cell with a map's maximum, (x, y) as shares of the image's sides; the mean if there are several."""
    x, y = (
        ((np.arange(cells) + 0.5) / cells - 0.5) / share + 0.5  # below 0 and above 1 is padding
        for cells, share in zip(values.shape[::-1], film_share(width, height, resize), strict=True)
    )
    on_it = ((y >= 0) & (y < 1))[:, None] & (x >= 0) & (x < 1)
    rows, columns = np.nonzero(np.where(on_it, values, -np.inf) == values.max(where=on_it, initial=-np.inf))
    return x[columns].mean(), y[rows].mean()


def pointing(views, peaks, boxes, sides, margin=0):
    """How often a map's maximum is inside a box around an abnormality of its image: the pointing game.

    Args:
        views: one row per view, with patient.
        peaks: (n, 2), from `maximum_position`.
        boxes: n arrays (k, 4), left, top, right, bottom in pixels, with one box or more.
        sides: (n, 2), widths and heights of the images in pixels.
        margin: pixels by which each box is enlarged on every side.
    Returns: {"hits": {"value", "low", "high"}, "other_films": float, "gain": {as hits}, "area": float, "middle": float}:
        the share of hits with its 95 % interval over patients; the share of hits of the same maxima in other images' boxes,
        which a map of the general distribution of injuries reaches; the difference of the two; the share of an image that its
        boxes cover, overlaps counted twice; and the share of images with a box that contains their centre.
    Source: Zhang et al. 2018, doi:10.1007/s11263-017-1059-x.
    """
    outward = margin * np.array([-1, -1, 1, 1])
    shares = [(one + outward) / np.tile(side, 2) for one, side in zip(boxes, sides, strict=True)]
    inside = np.stack([is_inside(np.asarray(peaks), one) for one in shares], axis=1)  # (maps, images)
    hit, count = np.diag(inside).astype(float), len(views)
    by_chance = (inside.sum(1) - hit) / max(1, count - 1)

    def statistics(weight):
        total = weight.sum(1)
        return {"hits": weight @ hit / total, "gain": weight @ (hit - by_chance) / total}

    found = intervals.intervals(statistics, views["patient"])
    return {
        "hits": with_interval(hit.mean(), found["hits"]),
        "gain": with_interval((hit - by_chance).mean(), found["gain"]),
        "other_films": by_chance.mean(),
        "area": np.mean([np.prod(one[:, 2:] - one[:, :2], axis=1).sum() for one in shares]),
        "middle": np.mean([is_inside(np.array([[0.5, 0.5]]), one)[0] for one in shares]),
    }


def is_inside(points, boxes):
    """(n,) bool: whether each of (n, 2) points is in one of (k, 4) boxes, right and bottom edges excluded."""
    x, y = points.T[:, :, None]
    left, top, right, bottom = boxes.T
    return ((x >= left) & (x < right) & (y >= top) & (y < bottom)).any(1)


def show_pointing(run, selection, files=None):
    """Print how often the maps' maxima are inside the boxes around abnormalities, and write pointing.json.

    Args:
        run, selection: see `split.score_split`.
        files: .csv of boxes, see `annotations.read_boxes`; None: those of phantoms.
    Raises: DataError when the data or the boxes are invalid.
    """
    record = run.record()
    views, pixels, _ = load_split(run, record, selection)
    source = selection.of(record)
    roots = data_roots(source)
    margins = (0, MARGIN) if files else (0,)
    files = files or [phantom.truth(root) for root in roots.values()]
    boxes = read_boxes(files, views, roots)
    abnormal = np.flatnonzero([len(one) for one in boxes])
    if not len(abnormal):
        raise DataError(
            f"{', '.join(map(str, files))} has no box in a {selection.split} view, so there is nothing to point at."
        )
    views, boxes = views.iloc[abnormal], [boxes[place] for place in abnormal]
    sides = [read_grey(path).size for path in views["path"]]
    check_inside(views, boxes, sides)
    maps = heatmaps.map_function(checkpoints.load_network(run))(Rows(pixels, abnormal))
    found = {}
    for kind, values in maps.items():
        peaks = [maximum_position(one, *side, record.options.resize) for one, side in zip(values, sides, strict=True)]
        for margin in margins:
            name = kind + f", within {margin} px" * bool(margin)
            found[name] = {"cells": list(values.shape[1:]), **pointing(views, peaks, boxes, sides, margin)}
    described = {"views": len(views), "split": selection.split, "data": in_words(roots.values())}
    mark = phantom.mark(phantom.describe(source))
    where = in_list(roots)
    print(f"{len(views)} abnormal {selection.split} views of {where}{mark}: position of each map's maximum\n")
    print(pointing_table(found).to_string())
    first = next(iter(found.values()))
    print(f"\nBoxes cover {first['area']:.3f} of an image; {first['middle']:.3f} of them contain the image's centre.")
    print("Other images' boxes: the baseline of where injuries are in general. Gain: hits above this baseline.")
    run.write_json("pointing.json", described | {"maps": found})
    card.write(run)
    print(f"Wrote {run / 'pointing.json'}.")


def check_inside(views, boxes, sides):
    """Raise DataError when a box extends beyond its image, as boxes in pixels of an image of another size do."""
    for path, one, (width, height) in zip(views["path"], boxes, sides, strict=True):
        if one.min() < -1 or one[:, 2].max() > width + 1 or one[:, 3].max() > height + 1:
            shown = ", ".join(f"{side:g}" for side in one[0])
            raise DataError(f"{path} is {width} x {height} px, and a box of it is {shown}. {BOXES}")

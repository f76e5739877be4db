"""Pointing game: whether heat maps locate the abnormality, on phantoms and data with bounding boxes."""

import numpy as np
import pandas as pd

from bones.data.layouts import data_root
from bones.data.phantoms import sets as phantom
from bones.data.pixels import Rows
from bones.evaluation import heatmaps
from bones.evaluation.overlays import film_share
from bones.runs import checkpoints
from bones.runs.data import load_split
from bones.scores import intervals
from bones.scores.report import with_interval
from bones.scores.text import as_text


def pointing_table(found, cells):
    """Table of the results of `pointing`. Args: {kind: result}, and {kind: (rows, columns)}."""
    rows = {
        kind: {
            "cells": f"{cells[kind][0]} x {cells[kind][1]}",
            "inside the box": as_text(one["hits"]),
            "in other images' boxes": f"{one['other_films']:.3f}",
            "gain": as_text(one["gain"]),
        }
        for kind, one in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def maximum_position(values, width, height, resize):
    """Centre of the cell with a map's maximum, (x, y) as shares of the image's sides; the mean if there are several."""
    x, y = (
        ((np.arange(cells) + 0.5) / cells - 0.5) / share + 0.5  # below 0 and above 1 is padding
        for cells, share in zip(values.shape[::-1], film_share(width, height, resize), strict=True)
    )
    on_it = ((y >= 0) & (y < 1))[:, None] & (x >= 0) & (x < 1)
    rows, columns = np.nonzero(np.where(on_it, values, -np.inf) == values.max(where=on_it, initial=-np.inf))
    return x[columns].mean(), y[rows].mean()


def pointing(views, peaks, boxes):
    """How often a map's maximum is inside the bounding box of the abnormality: the pointing game.

    Args:
        views: one row per view, with patient.
        peaks: (n, 2), from `maximum_position`.
        boxes: (n, 4), left, top, right, bottom as shares of the image's sides.
    Returns: {"hits": {"value", "low", "high"}, "other_films": float, "gain": {as hits}, "area": float, "middle": float}:
        the share of hits with its 95 % interval over patients; the share of hits of the same maxima in other images' boxes,
        which a map of the general distribution of injuries reaches; the difference of the two; the share of an image that its
        box covers; and the share of boxes that contain the image's centre.
    Source: Zhang et al. 2018, doi:10.1007/s11263-017-1059-x.
    """
    x, y = np.asarray(peaks).T
    left, top, right, bottom = np.asarray(boxes).T
    inside = (x[:, None] >= left) & (x[:, None] < right) & (y[:, None] >= top) & (y[:, None] < bottom)  # (maps, boxes)
    hit, count = np.diag(inside).astype(float), len(x)
    by_chance = (inside.sum(1) - hit) / max(1, count - 1)

    def statistics(weight):
        total = weight.sum(1)
        return {"hits": weight @ hit / total, "gain": weight @ (hit - by_chance) / total}

    found = intervals.intervals(statistics, views["patient"])
    return {
        "hits": with_interval(hit.mean(), found["hits"]),
        "gain": with_interval((hit - by_chance).mean(), found["gain"]),
        "other_films": by_chance.mean(),
        "area": ((right - left) * (bottom - top)).mean(),
        "middle": ((left <= 0.5) & (right > 0.5) & (top <= 0.5) & (bottom > 0.5)).mean(),
    }


def show_pointing(run, selection):
    """Print how often the maps' maxima are inside the boxes of abnormal phantoms.

    Args: see `split.score_split`.
    """
    record = run.record()
    views, pixels, _ = load_split(run, record, selection)
    root, resize = data_root(selection.data or record.data.root), record.options.resize
    boxes, sides = phantom.boxes(root, views["path"])
    abnormal = np.flatnonzero(~np.isnan(boxes[:, 0]))
    maps = heatmaps.map_function(checkpoints.load_network(run))(Rows(pixels, abnormal))
    found = {}
    for kind, values in maps.items():
        peaks = [maximum_position(one, *side, resize) for one, side in zip(values, sides[abnormal], strict=True)]
        found[kind] = pointing(views.iloc[abnormal], peaks, boxes[abnormal])
    run.write_json("pointing.json", found)
    print(f"{len(abnormal)} abnormal {selection.split} views of {root} (PHANTOMS): position of each map's maximum\n")
    print(pointing_table(found, {kind: values.shape[1:] for kind, values in maps.items()}).to_string())
    first = next(iter(found.values()))
    print(f"\nBoxes cover {first['area']:.3f} of an image; {first['middle']:.3f} of them contain the image's centre.")
    print("Other images' boxes: the baseline of where injuries are in general. Gain: hits above this baseline.")
    print(f"Wrote {run / 'pointing.json'}.")

"""Do heat maps point at what is abnormal? On phantoms, and where boxes are drawn, one knows."""

import pandas as pd

from bones.scores.text import as_text


def pointing_table(found, cells):
    """What `heatmap.pointing` found of each kind of map, (rows, columns) cells, as a table."""
    rows = {
        kind: {
            "cells": f"{cells[kind][0]} x {cells[kind][1]}",
            "inside the box": as_text(one["hits"]),
            "in other films' boxes": f"{one['other_films']:.3f}",
            "gain": as_text(one["gain"]),
        }
        for kind, one in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")

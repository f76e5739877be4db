"""Images in folders, as a user names them, and the rows of a table of what was found."""

import os
from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path, size=(20, 16), seed=None):
    """An image of noise, by default that of its path; its folder is made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(os.fsencode(path.name + path.parent.name)) if seed is None else seed)
    low = rng.integers(64, 256)
    Image.fromarray(rng.integers(low // 2, low + 1, size[::-1]).astype(np.uint8)).save(path, format="PNG")
    return path


def rows_of(table):
    """[(study, path)]."""
    return list(zip(table["study"], table["path"], strict=True))

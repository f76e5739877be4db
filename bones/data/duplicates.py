"""Copies and near-copies of an image in both splits or under both labels, found by perceptual hash, and drawn in pairs.

Found are images that were encoded again, resized, brightened or inverted, and most of those that lost a few pixels at the
border. Other views of the same examination, mirrored images and larger crops cannot be found by it.
"""

import functools

import imagehash  # perceptual hash of an image
import numpy as np
from PIL import Image, ImageOps

from bones.data import images as image_files
from bones.data import sizes

SIDE = 16  # of the hash, SIDE * SIDE bits
BITS = SIDE * SIDE
# Bits that differ at most, and correlation of two small images at least. Of 1,584 radiographs of hands and shoulders, 1.25
# million pairs, 75 differ in 40 bits or fewer, and all but four of them also correlate: the same film twice, or two exposures
# of one position. Encoding as JPEG, resizing and brightening change 24 bits or fewer in 95 of 100 images, a crop of 2 % 56.
NEAR = (40, 0.95)
SAME = (24, 0.99)  # nearly certain to be one image
SMALL = 32  # side of the small images, pixels
CHUNK = 256  # images compared with all others at once
MOST = 100_000  # images; the time grows with the square of the number, and a million would take half a day
SHOWN = 12  # pairs in a picture


def perceptual_hash(grey):
    """Hash of a PIL image of mode L: (BITS / 8,) uint8, alike for images that look alike.

    Source: Zauner 2010, Implementation and benchmarking of perceptual image hash functions (pHash, by its DCT).
    """
    return np.packbits(imagehash.phash(grey, hash_size=SIDE).hash)


def near_pairs(images):
    """Pairs of images that look alike and differ in split or label, without byte-identical ones, the most alike first.

    Args:
        images: pandas.DataFrame with path (readable), split, label, sha256 and hash.
    Returns: list of (place, place, bits, correlation).
    """
    signs = np.unpackbits(np.stack(images["hash"].to_list()), axis=1) * np.float32(2) - 1  # (n, BITS), 1 or -1
    splits, labels, digests = (images[name].to_numpy() for name in ("split", "label", "sha256"))
    found = []
    for start in range(0, len(signs), CHUNK):
        rows = slice(start, start + CHUNK)
        agreement = np.abs(signs[rows] @ signs[start:].T)  # of an inverted image, -BITS: it has the opposite hash
        apart = (splits[rows, None] != splits[None, start:]) | (labels[rows, None] != labels[None, start:])
        alike = (agreement >= BITS - 2 * NEAR[0]) & apart & (digests[rows, None] != digests[None, start:])
        for i, j in zip(*np.nonzero(np.triu(alike)), strict=True):
            found.append((start + i, start + j, int(BITS - agreement[i, j]) // 2))
    paths = images["path"].to_list()
    pairs = [(i, j, bits, abs(float(small(paths[i]) @ small(paths[j])))) for i, j, bits in found]
    small.cache_clear()
    return sorted((pair for pair in pairs if pair[3] >= NEAR[1]), key=lambda pair: (-round(pair[3], 3), pair[2]))


@functools.lru_cache(maxsize=10_000)
def small(path):
    """An image as a vector of mean 0 and length 1, (SMALL * SMALL,); 0 where it is constant."""
    grey = image_files.read_grey(path).resize((SMALL, SMALL), Image.Resampling.BILINEAR)
    values = np.asarray(grey, float).ravel()
    values -= values.mean()
    return values / (np.linalg.norm(values) or 1.0)


def is_same(pair):
    """Whether a pair of `near_pairs` is nearly certain to be one image."""
    return pair[2] <= SAME[0] and pair[3] >= SAME[1]


def picture(paths, names, pairs):
    """The most alike pairs side by side, under their names: a PIL.Image of mode L."""
    films, captions = [], []
    for number, (i, j, bits, correlation) in enumerate(pairs[:SHOWN], start=1):
        for place in (i, j):
            folder, _, name = names[place].rpartition("/patient")
            films.append(ImageOps.contain(image_files.read_grey(paths[place]), (400, 400)))
            alike = f"pair {number}: {bits} of {BITS} bits differ, correlation {correlation:.3f}"
            captions.append(f"{alike}\n{folder}\npatient{name}")
    return sizes.contact_sheet(films, captions, columns=2, side=400)

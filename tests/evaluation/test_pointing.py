"""The pointing game: peaks on films, hits and what chance hits, and a network that has learned where to look."""

import keras
import numpy as np
import pandas as pd
import pytest
from keras import layers
from PIL import Image
from support import FILM_SIZES

from bones.data import sizes
from bones.evaluation import heatmaps, pointing
from bones.networks.batches import predict


@pytest.mark.parametrize("resize", ["pad", "stretch"])
@pytest.mark.parametrize("shape", FILM_SIZES)
def test_maps_go_back_the_way_that_films_came(shape, resize):
    """A spot on a film, brought to the square as scoring does; the square itself as map shows the spot where it was."""
    width, height, size = *shape, 64
    for share_x, share_y in ((0.2, 0.3), (0.5, 0.5), (0.85, 0.1), (0.1, 0.9)):
        x, y = share_x * width, share_y * height
        columns, rows = np.arange(width) + 0.5, np.arange(height) + 0.5
        radius = max(width, height) / 20
        # Round on the square: a spot that is squeezed to less than a cell has no place.
        radius_x, radius_y = (radius, radius) if resize == "pad" else (width / 20, height / 20)
        film = 255 * np.exp(-((columns - x) ** 2) / radius_x**2 - ((rows - y) ** 2)[:, None] / radius_y**2)
        square = sizes.fit_square(Image.fromarray(film.astype(np.uint8)), size, resize)
        found_x, found_y = pointing.maximum_position(square.astype(float), width, height, resize)
        # Within a cell of the square, which the brightest of a spot's cells may be off by, and the rounding of the padding.
        step_x, step_y = (max(shape) / size,) * 2 if resize == "pad" else (width / size, height / size)
        assert abs(found_x * width - x) <= step_x + 1 and abs(found_y * height - y) <= step_y + 1


def test_the_peak_of_a_flat_map_is_the_middle():
    assert pointing.maximum_position(np.zeros((7, 7)), 30, 50, "pad") == pytest.approx((0.5, 0.5))
    values = np.zeros((4, 4))
    values[0, 3] = 1
    x, y = pointing.maximum_position(values, 400, 400, "pad")
    assert 0.85 < x < 1 and 0 < y < 0.15, "the corner's own cell"


def test_pointing_counts_hits():
    views = pd.DataFrame({"patient": ["a", "a", "b", "c"]})
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.4, 0.4, 0.6, 0.6], [0.8, 0.0, 1.0, 0.1]])
    peaks = [(0.1, 0.1), (0.45, 0.45), (0.5, 0.5), (1.0, 0.05)]  # in; out; in; on the edge, which is out
    found = pointing.pointing(views, peaks, boxes[:, None], [(1, 1)] * 4)
    assert found["hits"]["value"] == 0.5
    # In others' boxes: none; the first and the third of three; the second of three; none.
    assert found["other_films"] == pytest.approx((0 + 2 / 3 + 1 / 3 + 0) / 4)
    assert found["gain"]["value"] == pytest.approx(0.5 - 0.25)
    assert found["area"] == pytest.approx((0.25 + 0.25 + 0.04 + 0.02) / 4) and found["middle"] == 0.5


def test_several_boxes_and_a_margin():
    """A hit is in any box of the image; a margin is in pixels of each image."""
    views = pd.DataFrame({"patient": ["a", "b"]})
    boxes = [np.array([[0, 0, 10, 10], [80, 80, 90, 90]]), np.array([[100, 100, 120, 120]])]
    sides, peaks = [(100, 100), (200, 400)], [(0.85, 0.85), (0.63, 0.27)]  # pixels (85, 85) and (126, 108)
    assert pointing.pointing(views, peaks, boxes, sides)["hits"]["value"] == 0.5
    assert pointing.pointing(views, peaks, boxes, sides, margin=5)["hits"]["value"] == 0.5
    found = pointing.pointing(views, peaks, boxes, sides, margin=7)
    assert found["hits"]["value"] == 1.0 and found["area"] > pointing.pointing(views, peaks, boxes, sides)["area"]


def test_one_view_alone():
    found = pointing.pointing(pd.DataFrame({"patient": ["a"]}), [(0.5, 0.5)], [np.array([[40, 40, 60, 60]])], [(100, 100)])
    assert found["hits"] == {"value": 1.0, "low": None, "high": None} and found["other_films"] == 0


def test_pointing_by_loops():
    count, rng = 60, np.random.default_rng(0)
    patient = rng.integers(0, 40, count)
    corner = rng.uniform(0, 0.7, (count, 2))
    boxes = np.hstack([corner, corner + rng.uniform(0.1, 0.3, (count, 2))])
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    peaks = np.clip(middle + rng.normal(0, 0.1, (count, 2)), 0, 0.999)

    def inside(peak, box):
        return box[0] <= peak[0] < box[2] and box[1] <= peak[1] < box[3]

    hits = sum(inside(peaks[place], boxes[place]) for place in range(count)) / count
    others = [inside(peaks[one], boxes[other]) for one in range(count) for other in range(count) if one != other]
    found = pointing.pointing(pd.DataFrame({"patient": patient}), peaks, boxes[:, None], np.ones((count, 2)))
    assert found["hits"]["value"] == pytest.approx(hits) and 0.3 < hits < 1
    assert found["other_films"] == pytest.approx(np.mean(others))
    assert found["gain"]["value"] == pytest.approx(hits - np.mean(others))
    for name in ("hits", "gain"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    # The interval of a share is about as wide as the normal approximation's over patients.
    totals = pd.DataFrame({"patient": patient, "hit": [inside(*pair) for pair in zip(peaks, boxes, strict=True)]})
    by_patient = totals.groupby("patient")["hit"].agg(["sum", "size"])
    error = np.sqrt(((by_patient["sum"] - hits * by_patient["size"]) ** 2).sum()) / count
    assert found["hits"]["high"] - found["hits"]["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)


def drawn_fractures(count, seed):
    """(pixels, label, boxes) of 64 px: a bright bone at a random place and angle, in half of them with a dark gap across it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:64, :64] + 0.5
    pixels, label, boxes = np.zeros((count, 64, 64, 1), np.uint8), np.arange(count) % 2, np.full((count, 4), np.nan)
    for place in range(count):
        turn, (middle_x, middle_y) = rng.uniform(0, np.pi), rng.uniform(14, 50, 2)
        along = np.cos(turn) * (x - middle_x) + np.sin(turn) * (y - middle_y)
        across = np.cos(turn) * (y - middle_y) - np.sin(turn) * (x - middle_x)
        bone = np.abs(across) < 5
        film = 60 + 110 * bone + rng.normal(0, 12, (64, 64))
        if label[place]:
            film[bone & (np.abs(along) < 2.5)] -= 90
            boxes[place] = np.array([middle_x - 7, middle_y - 7, middle_x + 7, middle_y + 7]) / 64
        pixels[place, ..., 0] = np.clip(film, 0, 255)
    return pixels, label, boxes


def test_a_trained_network_points_at_what_it_has_learned():
    keras.utils.set_random_seed(0)
    grey = keras.Input((64, 64, 1), name="grey")
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(grey)
    for filters, strides in ((12, 2), (16, 2), (24, 1), (32, 2)):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization(momentum=0.8)(x))
    x = layers.GlobalAveragePooling2D()(x)
    network = keras.Model(grey, layers.Dense(1, activation="sigmoid")(x), name="points")
    pixels, label, _ = drawn_fractures(640, seed=0)
    network.compile(keras.optimizers.Adam(5e-3), "binary_crossentropy")
    untrained = keras.models.clone_model(network)
    network.fit(pixels, label, batch_size=32, epochs=8, verbose=0)
    pixels, label, boxes = drawn_fractures(160, seed=1)
    called = predict(network, pixels) > 0.5
    assert (called == label).mean() > 0.85, "it has not learned the task"
    abnormal = np.flatnonzero(label)
    views, truth = pd.DataFrame({"patient": abnormal}), (boxes[abnormal][:, None], np.ones((len(abnormal), 2)))

    def play(network):
        kinds = heatmaps.map_function(network)(pixels[abnormal])
        assert {kind: maps.shape[1:] for kind, maps in kinds.items()} == {"class activation": (8, 8), "LayerCAM": (32, 32)}
        return {
            kind: pointing.pointing(views, [pointing.maximum_position(one, 64, 64, "pad") for one in maps], *truth)
            for kind, maps in kinds.items()
        }

    by_chance = play(untrained)
    for kind, found in play(network).items():
        assert found["hits"]["value"] > 0.6 and found["other_films"] < 0.25, kind
        assert found["gain"]["low"] > 0.3, "what the maps know of this very film"
        assert abs(found["area"] - (14 / 64) ** 2) < 1e-6
        assert by_chance[kind]["hits"]["high"] < found["hits"]["low"]

"""Maps lie on the film where they belong, and panels show films undistorted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import FILM_SIZES

from bones.evaluation import overlays


@pytest.mark.parametrize("resize", ["pad", "stretch"])
@pytest.mark.parametrize("shape", FILM_SIZES)
def test_a_hot_cell_lies_where_its_part_of_the_film_does(shape, resize):
    width, height = shape
    for row, column in ((0, 0), (5, 2), (3, 3), (9, 9), (4, 7)):
        values = np.full((10, 10), -1.0)
        values[row, column] = 2.0
        found = overlays.map_to_image(values, width, height, resize)
        assert found.shape == (height, width) and found.dtype == np.float32
        # Where each pixel's middle lies in the square, reckoned here from what padding and squeezing mean.
        side = max(width, height)
        across, down = (side, side) if resize == "pad" else (width, height)
        x = (np.arange(width) + 0.5 + (across - width) / 2) / across * 10
        y = (np.arange(height) + 0.5 + (down - height) / 2) / down * 10
        weight_x, weight_y = (np.clip(1 - np.abs(edge(place) - (cell + 0.5)), 0, 1) for place, cell in ((x, column), (y, row)))
        np.testing.assert_allclose(found, -1 + 3 * weight_y[:, None] * weight_x, atol=2e-4)


def edge(place):
    """Places in a map of ten cells, those beyond the middle of an outer cell brought there: nothing lies further out."""
    return np.clip(place, 0.5, 9.5)


def test_overlay_is_clear_where_nothing_speaks_for_abnormal():
    rng = np.random.default_rng(0)
    film = Image.fromarray(rng.integers(0, 256, (90, 60)).astype(np.uint8))
    values = np.full((6, 6), -0.5)
    values[:, 3:] = 8.0
    picture = overlays.overlay(film, values, 8.0, "stretch")
    assert picture.shape == (90, 60, 3) and picture.dtype == np.uint8
    grey = np.asarray(film)
    np.testing.assert_array_equal(picture[:, :25], np.repeat(grey[:, :25, None], 3, 2))
    # On the right the last colour covers three quarters of the film.
    expected = 0.25 * grey[:, 35:, None] + 0.75 * 255 * np.array(overlays.COLOURS(1.0)[:3])
    np.testing.assert_allclose(picture[:, 35:], expected, atol=1)
    np.testing.assert_array_equal(overlays.overlay(film, 0 * values, 4.0, "pad"), np.repeat(grey[..., None], 3, 2))


def test_the_scale_ends_at_the_greatest_value_but_not_below_the_least_top():
    low, high = np.array([[[-9.0, 1.0]], [[2.0, 0.5]]]), np.array([[[-9.0, 1.0]], [[17.5, 0.5]]])
    assert overlays.scale_tops({"class activation": low, "LayerCAM": low}) == {
        "class activation": overlays.LEAST_TOP,
        "LayerCAM": 2.0,
    }
    assert overlays.scale_tops({"Grad-CAM": high, "LayerCAM": high}) == {"Grad-CAM": 17.5, "LayerCAM": 17.5}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_a_panel_shows_each_film_beside_its_map_undistorted(count, in_tmp):
    shapes = [(400, 300), (200, 330), (700, 250), (90, 90), (33, 700), (300, 301), (640, 480)][:count]
    rng = np.random.default_rng(0)
    films = [Image.fromarray(rng.integers(0, 256, shape[::-1]).astype(np.uint8)) for shape in shapes]
    captions = [f"image{number}.png: 0.{number}" for number in range(count)]
    maps = {"class activation": rng.normal(size=(count, 5, 5)), "LayerCAM": rng.normal(size=(count, 32, 32))}
    maps["class activation"][-1, 2, 2] = 11.0
    tops = {"class activation": 11.0, "LayerCAM": maps["LayerCAM"].max()}
    figure = overlays.panel("a $\\title of\ntwo lines", films, captions, maps, "pad")
    overlays.save(figure, Path("panel.png"))
    assert [path.name for path in Path().glob("*panel*")] == ["panel.png"]
    with Image.open("panel.png") as picture:
        drawn = np.asarray(picture.convert("RGB"))
    assert figure._suptitle.get_text() == "a $\\title of\ntwo lines"
    (bar,) = [axes for axes in figure.axes if axes.get_ylabel()]
    assert "class activation: 1 is 11.0 in logits" in bar.get_ylabel() and bar.get_ylim() == (0, 1)
    shown = [axes for axes in figure.axes if axes.images]
    rows = [shown[place : place + 3] for place in range(0, 3 * count, 3)]
    assert len(shown) == 3 * count and [row[0].get_title(loc="left") for row in rows] == captions
    for place, (row, film) in enumerate(zip(rows, films, strict=True)):
        np.testing.assert_array_equal(row[0].images[0].get_array(), np.asarray(film))
        for axes, (kind, values) in zip(row[1:], maps.items(), strict=True):
            assert axes.get_title(loc="left") == kind
            expected = overlays.overlay(film, values[place], tops[kind], "pad")
            np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1)
        for axes in row:
            box = axes.get_window_extent()
            assert box.width / box.height == pytest.approx(film.width / film.height, rel=0.02), "distorted"
            assert min(box.x0, box.y0) >= 0 and box.x1 <= drawn.shape[1] and box.y1 <= drawn.shape[0]
            assert max(box.width, box.height) > 150, "too small to see"
        heights = [axes.get_window_extent().y1 for axes in row]
        assert np.ptp(heights) < 1, "films of a row start at one height"
    boxes = [axes.get_window_extent() for axes in shown] + [figure._suptitle.get_window_extent(), bar.get_window_extent()]
    assert not any(one.overlaps(other) for place, one in enumerate(boxes) for other in boxes[:place])

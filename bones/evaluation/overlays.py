"""Overlays of heat maps on their images, and figures of whole studies."""

import warnings

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image  # resizes maps

from bones.data.images import PANEL
from bones.system.files import whole_file

COLOURS = matplotlib.colormaps["inferno"]  # perceptually uniform, also with red-green colour blindness
LEAST_TOP = 4.0  # minimum end of the colour scale, in logits: otherwise noise on a normal image would look like a fracture


def map_to_image(values, width, height, resize):
    """Resample a map from the square that `sizes.fit_square` made to the original image.

    Args:
        values: (rows, columns) float.
        width, height: size of the image in pixels.
        resize: "pad" or "stretch", as for fit_square.
    Returns: (height, width) float32, interpolated linearly between the centres of the map's cells.
    """
    rows, columns = values.shape
    share_x, share_y = film_share(width, height, resize)
    left, top = columns * (1 - share_x) / 2, rows * (1 - share_y) / 2
    box = (left, top, columns - left, rows - top)
    whole = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR, box=box))


def film_share(width, height, resize):
    """Shares of the square's width and height that the centred image covers."""
    side = max(width, height)
    return (width / side, height / side) if resize == "pad" else (1, 1)


def overlay(film, values, top, resize):
    """Blend an image with its map: transparent without evidence for "abnormal", more opaque with more evidence.

    Args:
        film: PIL.Image of mode L.
        values: (rows, columns) map.
        top: value at the end of the colour scale.
    Returns: (height, width, 3) uint8.
    """
    share = np.clip(map_to_image(values, *film.size, resize) / top, 0, 1)[..., None]
    colours = COLOURS(share[..., 0])[..., :3]
    cover = 0.75 * np.minimum(1, 2 * share)  # at most 0.75, so that the bone stays visible
    grey = np.asarray(film, np.float32)[..., None] / 255
    return np.uint8(255 * ((1 - cover) * grey + cover * colours) + 0.5)


def scale_tops(maps):
    """Value at the end of the colour scale for each kind of map of one study.

    Args:
        maps: {kind: (n, rows, columns)}.
    Returns: {kind: float}: the maximum; for maps in logits at least LEAST_TOP.
    """
    return {kind: max(float(values.max()), 1e-9 if kind == "LayerCAM" else LEAST_TOP) for kind, values in maps.items()}


def describe_scale(tops):
    """Describe the colour scale from 0 to 1, one line per kind of map."""
    lines = ["evidence for abnormal; without colour: none"]
    for kind, top in tops.items():
        lines.append(f"{kind}: 1 is " + ("the maximum of this study" if kind == "LayerCAM" else f"{top:.1f} in logits"))
    return "\n".join(lines)


def panel(title, films, captions, maps, resize):
    """Draw the views of one study, each beside its overlays, and the colour scale.

    Args:
        title: text above the figure, one or several lines.
        films: n PIL images of mode L.
        captions: one text per image.
        maps: {kind: (n, rows, columns)}.
        resize: the run's option.
    Returns: matplotlib.figure.Figure.
    """
    tops, columns = scale_tops(maps), 1 + len(maps)
    figure = Figure(figsize=(3.4 * columns + 1.6, 3.6 * len(films) + 0.8), dpi=110, layout="constrained")
    places = figure.subplots(len(films), columns, squeeze=False)
    for axes in places.ravel():
        axes.set(xticks=[], yticks=[], anchor="N")
        axes.spines[:].set_color("grey")  # a frame, which marks the edge of white images
    for place, (row, film, caption) in enumerate(zip(places, films, captions, strict=True)):
        row[0].imshow(film, cmap="gray", vmin=0, vmax=255)
        row[0].set_title(caption, fontsize=11, loc="left", parse_math=False)
        for axes, (kind, values) in zip(row[1:], maps.items(), strict=True):
            axes.imshow(overlay(film, values[place], tops[kind], resize))
            axes.set_title(kind, fontsize=11, loc="left")
    colours = matplotlib.cm.ScalarMappable(cmap=COLOURS)
    bar = figure.colorbar(colours, ax=places, panchor=False, shrink=min(1, 2 / len(films)), aspect=30)
    bar.set_label(describe_scale(tops), fontsize=10)
    figure.suptitle(title, fontsize=13, parse_math=False)
    return figure


def save(figure, file):
    """Write a figure as .png atomically, marked as one of ours, so that it is never read as a radiograph."""
    with whole_file(file) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # names in other scripts are drawn as boxes
        figure.savefig(partial, format="png", metadata={"Software": PANEL})

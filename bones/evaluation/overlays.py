"""Maps laid over the films that they were made of, and pictures of whole studies."""

import warnings

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image  # resizes maps

from bones.system.files import whole_file

COLOURS = matplotlib.colormaps["inferno"]  # of even steps to the eye, also for those who see red and green as one
LEAST_TOP = 4.0  # of the colour scale, in units of the logit: else noise on a normal film would glow as a fracture does


def map_to_image(values, width, height, resize):
    """A map in the frame of the film that `images.fit_square` brought to the square which the map covers.

    Args:
        values: (rows, columns) float.
        width, height: of the film, pixels.
        resize: "pad" or "stretch", as for fit_square.
    Returns: (height, width) float32, linear between the middles of the map's cells.
    """
    rows, columns = values.shape
    share_x, share_y = film_share(width, height, resize)
    left, top = columns * (1 - share_x) / 2, rows * (1 - share_y) / 2
    box = (left, top, columns - left, rows - top)
    whole = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(whole.resize((width, height), Image.Resampling.BILINEAR, box=box))


def film_share(width, height, resize):
    """Shares of the square's width and height that a film covers, in its middle."""
    side = max(width, height)
    return (width / side, height / side) if resize == "pad" else (1, 1)


def overlay(film, values, top, resize):
    """A film under its map: clear where nothing speaks for "abnormal", the stronger the more does.

    Args:
        film: PIL.Image of mode L.
        values: (rows, columns) map.
        top: value of the last colour.
    Returns: (height, width, 3) uint8.
    """
    share = np.clip(map_to_image(values, *film.size, resize) / top, 0, 1)[..., None]
    colours = COLOURS(share[..., 0])[..., :3]
    cover = 0.75 * np.minimum(1, 2 * share)  # whole colours from half of the scale on; the bone shows through all of them
    grey = np.asarray(film, np.float32)[..., None] / 255
    return np.uint8(255 * ((1 - cover) * grey + cover * colours) + 0.5)


def scale_tops(maps):
    """The last colour's value for each kind of map of one study.

    Args:
        maps: {kind: (n, rows, columns)}.
    Returns: {kind: float}: the greatest value; of those in units of the logit, no less than LEAST_TOP.
    """
    return {kind: max(float(values.max()), 1e-9 if kind == "LayerCAM" else LEAST_TOP) for kind, values in maps.items()}


def describe_scale(tops):
    """What the colours from 0 to 1 stand for, a line a kind of map."""
    lines = ["what speaks for abnormal; without colour: nothing"]
    for kind, top in tops.items():
        lines.append(f"{kind}: 1 is " + ("the greatest of this study" if kind == "LayerCAM" else f"{top:.1f} in the logit"))
    return "\n".join(lines)


def panel(title, films, captions, maps, resize):
    """The views of one study, each beside itself under its maps, and the scale of the maps.

    Args:
        title: text above it, of one or several lines.
        films: n PIL images of mode L.
        captions: one text a film.
        maps: {kind: (n, rows, columns)}.
        resize: the run's.
    Returns: matplotlib.figure.Figure.
    """
    tops, columns = scale_tops(maps), 1 + len(maps)
    figure = Figure(figsize=(3.4 * columns + 1.6, 3.6 * len(films) + 0.8), dpi=110, layout="constrained")
    places = figure.subplots(len(films), columns, squeeze=False)
    for axes in places.ravel():
        axes.set(xticks=[], yticks=[], anchor="N")
        axes.spines[:].set_color("grey")  # a frame, or a white film would have no edge
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
    """Write a figure as .png, whole or not at all."""
    with whole_file(file) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in another script; it is drawn as boxes
        figure.savefig(partial, format="png")

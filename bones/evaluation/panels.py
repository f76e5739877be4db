"""Heat map figures of named studies: the views of each beside their overlays."""

import itertools
import re
import tempfile
from pathlib import Path

from bones.data import images
from bones.data.pixels import Rows
from bones.evaluation import overlays
from bones.system.errors import DataError
from bones.system.files import printable

FILM = 700  # long side of an image in a panel, in pixels
SHOWN = 24  # maximum views in a panel; its title states if there are more


def make_folder(folder):
    """Create a folder for panels, and check that it is writable. Raises: DataError."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DataError(f"{folder} is not writable: {error.strerror}. Pass another folder as --heatmap.") from None


def panels(classifier, folder):
    """Return a function that draws a table of `Classifier.classify` and its pixels into a folder, one panel per study.

    Args:
        classifier: Classifier with maps.
        folder: Path of a folder.
    """
    taken = set()

    def draw(table, pixels):
        readable = table[table["fault"] == ""]
        if readable.empty:
            return
        maps = classifier.maps(Rows(pixels, readable.index))
        for name, study in readable.groupby("study", sort=False):
            rows = readable.index.get_indexer(study.index)
            figure = panel(name, study, {kind: values[rows] for kind, values in maps.items()}, classifier.record)
            overlays.save(figure, folder / free_name(name, taken))

    return draw


def panel(name, study, maps, record):
    """overlays.panel of one study. Args: its name, its rows of the table, the maps of its views, the RunRecord."""
    mean, threshold = study["study_probability"].iloc[0], record.threshold
    called = f"{study['decision'].iloc[0]}, {mean:.3f}" if study["decision"].iloc[0] else "Not classified"
    outcome = f"{called} (Positive from {threshold:.3f} on)"
    outcome += f"; {SHOWN} of {len(study)} views" * (len(study) > SHOWN)
    study, maps = study[:SHOWN], {kind: values[:SHOWN] for kind, values in maps.items()}
    files = [ending(Path(path).name, 40) for path in study["path"]]
    captions = [f"{file}: {value:.3f}" for file, value in zip(files, study["probability"], strict=True)]
    title = f"{ending(name, 70)}\n{outcome}"
    films = [images.shrink(images.read_grey(path), FILM) for path in study["path"]]
    return overlays.panel(title, films, captions, maps, record.options.resize)


def ending(name, length):
    """A printable name for a figure, shortened to its last characters, where names differ."""
    text = printable(name)
    return text if len(text) <= length else f"…{text[1 - length :]}"


def free_name(study, taken):
    """An unused file name for a study's panel, from the last two parts of its path. It is added to `taken`."""
    stem = re.sub(r"[^\w.-]+", "_", "_".join(Path(study).resolve().parts[-2:]), flags=re.ASCII)[-100:].lstrip("-.") or "study"
    ends = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    name = next(f"{stem}{end}.png" for end in ends if f"{stem}{end}.png" not in taken)
    taken.add(name)
    return name

"""Heat map figures of named studies: the views of each beside their overlays."""

import itertools
import re
import tempfile
import textwrap
from pathlib import Path

from bones.data import images, sizes
from bones.data.pixels import Rows
from bones.evaluation import overlays
from bones.evaluation.classifier import study_note
from bones.scores.text import apart
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


def check_apart(folder, names):
    """Raise DataError when a folder for panels lies in one of the named folders: the panels would be found as images."""
    for name in names:
        if Path(name).is_dir() and Path(folder).resolve().is_relative_to(Path(name).resolve()):
            raise DataError(f"{folder} lies in {name}, whose images are classified. Pass a folder outside of it as --heatmap.")


def panels(classifier, folder):
    """Return a function that draws a table of `Classifier.classify` and its pixels into a folder, one panel per study.

    Args:
        classifier: Classifier with maps.
        folder: Path of a folder.
    """
    taken = set()

    def draw(table, pixels):
        readable = table[table["probability"].notna()]
        if readable.empty:
            return
        maps = classifier.maps(Rows(pixels, readable.index))
        notes = {name: study_note(study) for name, study in table.groupby("study")}
        for name, study in readable.groupby("study", sort=False):
            rows = readable.index.get_indexer(study.index)
            figure = panel(name, study, {kind: values[rows] for kind, values in maps.items()}, classifier.record, notes[name])
            overlays.save(figure, folder / free_name(name, taken))

    return draw


def panel(name, study, maps, record, note=""):
    """overlays.panel of one study.

    Args:
        name: its name.
        study: the rows of its views.
        maps: of these views.
        record: RunRecord.
        note: of the study.
    """
    mean, threshold = apart(study["study_probability"].iloc[0], record.threshold)
    called = f"{study['decision'].iloc[0]}, {mean}" if study["decision"].iloc[0] else "Not classified"
    outcome = f"{called} (Positive from {threshold} on)"
    outcome += f"; {SHOWN} of {len(study)} views" * (len(study) > SHOWN) + f"; {note}" * bool(note)
    study, maps = study[:SHOWN], {kind: values[:SHOWN] for kind, values in maps.items()}
    files = [ending(Path(path).name, 40) for path in study["path"]]
    captions = [
        f"{file}: {value:.3f}" + f"\n{textwrap.shorten(printable(note), 60, placeholder='…')}" * bool(note)
        for file, value, note in zip(files, study["probability"], study["note"], strict=True)
    ]
    title = f"{ending(name, 70)}\n{outcome}"
    films = [sizes.shrink(images.read_grey(path), FILM) for path in study["path"]]
    return overlays.panel(title, films, captions, maps, record.options.resize)


def ending(name, length):
    """A printable name for a figure, shortened to its last characters, where names differ."""
    text = printable(name)
    return text if len(text) <= length else f"…{text[1 - length :]}"


def free_name(study, taken):
    """An unused file name for a study's panel, from the last two parts of its path. It is added to `taken`, in lower case."""
    stem = re.sub(r"[^\w.-]+", "_", "_".join(Path(study).resolve().parts[-2:]), flags=re.ASCII)[-100:].lstrip("-.") or "study"
    ends = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    name = next(name for end in ends if (name := f"{stem}{end}.png").lower() not in taken)
    taken.add(name.lower())  # macOS and Windows ignore case
    return name

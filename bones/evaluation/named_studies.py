"""Studies that nobody has labelled: from folders and images to decisions, as lines, a table and pictures."""

import contextlib
import csv
import functools
import itertools
import logging
import os
import re
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from tqdm import tqdm  # progress bar

from bones.data import images
from bones.data.layouts import IMAGE_SUFFIXES, in_order
from bones.data.pixels import Rows, decode_all
from bones.evaluation import heatmaps as heatmap
from bones.networks.acceleration import speed_up
from bones.networks.predict import predict as predict_views
from bones.runs import checkpoints
from bones.scores.probabilities import calibrate, decisions
from bones.system.errors import DataError, FileError
from bones.system.files import printable, whole_file

log = logging.getLogger(__name__)

COLUMNS = ["study", "path", "probability", "study_probability", "decision", "fault"]
FILM = 700  # long side of a film in a panel, pixels
SHOWN = 24  # views in a panel; its title says where there are more
CHUNK = 256  # views in memory at a time, but for a larger study


def predict(network, pixels, settings, batch_size=32):
    """Probability of each view at the run's temperature. Returns: (n,) float64."""
    flip_averaging = settings["options"].get("flip_averaging", False)  # absent in a run of an earlier version
    return calibrate(predict_views(network, pixels, batch_size, flip_averaging), settings["temperature"])


def decision(probability, threshold):
    """Positive or Negative, or "" where the probability is nan."""
    return "" if np.isnan(probability) else ("Negative", "Positive")[int(decisions(probability, threshold))]


def find(names):
    """Views of the studies that paths name.

    Args:
        names: images, each a study of its own, and folders: each folder in or below them that holds images is a study.
    Returns: pandas.DataFrame with path and study, the name of its folder or image, in order; labels in names count for nothing.
    Raises: DataError when a path is missing, or no image is found at or below one.
    """
    rows = []
    for name in names:
        path = Path(name)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; expected a study's folder, an image or a run folder.")
        if not path.is_dir():
            rows.append((str(path), name))
            continue
        found = [(str(image), str(folder)) for folder, films in folders(path) for image in films]
        if not found:
            raise DataError(f"{path} holds no image, nor does a folder below it; expected .png, .jpg, .jpeg or .dcm files.")
        rows += found
    return pd.DataFrame(rows, columns=["path", "study"]).drop_duplicates()


def folders(root):
    """The folders at and below one that hold images, in order, each with its images.

    A link back to a folder that leads to it is not followed; a file that is neither an image nor a stray is passed over with a
    warning.
    """
    waiting = [(Path(root), ())]  # the next one last, each with the device and number of the folders that lead to it
    while waiting:
        folder, above = waiting.pop()
        status = os.stat(folder)
        here = status.st_dev, status.st_ino
        if here in above:
            continue
        films, inner = [], []
        for entry in in_order(folder):
            if entry.is_dir():
                inner.append(entry)
            elif entry.suffix.lower() in IMAGE_SUFFIXES:
                films.append(entry)
            else:
                log.warning("%s is no image (.png, .jpg, .jpeg, .dcm) and is passed over", printable(entry))
        if films:
            yield folder, films
        elif not inner:
            log.warning("%s holds no image and is passed over", printable(folder))
        waiting += [(entry, (*above, here)) for entry in inner[::-1]]


def chunks(views):
    """The table of `find` in parts of whole studies, each of about CHUNK views."""
    number = views.groupby("study", sort=False)["path"].transform("size").groupby(views["study"], sort=False).first()
    part = pd.Series(np.cumsum(number.to_numpy()) // CHUNK, index=number.index)
    for _, chunk in views.groupby(views["study"].map(part), sort=False):
        yield chunk.reset_index(drop=True)


def call(views, settings, network, skip_unreadable=False, batch_size=32):
    """Decode and score views.

    Args:
        views: table of `find`.
        settings: run.json.
        network: the run's, ready to predict.
        skip_unreadable: call a study by its other views where one does not decode, instead of not at all.
        batch_size: views that the network is given at a time; for each other size it is compiled anew.
    Yields: (table, pixels) of some whole studies. The table has COLUMNS: where a view does not decode, probability is nan and
        fault says why; where a study is not called, study_probability, the mean over its views, is nan and decision "".
        Pixels are (n, size, size, 1) uint8.
    """
    size, resize = settings["options"]["size"], settings["options"]["resize"]
    bar = tqdm(total=len(views), desc="Calling studies", unit="view", leave=False, delay=2, disable=None)
    for chunk in chunks(views):
        pixels = np.zeros((len(chunk), size, size, 1), np.uint8)
        bad = decode_all(chunk["path"], size, resize, pixels)
        good = np.setdiff1d(np.arange(len(chunk)), bad["place"])
        chunk = chunk.assign(probability=np.nan, fault="")
        chunk.loc[bad["place"], "fault"] = bad["reason"].to_numpy()
        if len(good):
            chunk.loc[good, "probability"] = predict(network, Rows(pixels, good), settings, batch_size)
        by_study = chunk.groupby("study", sort=False)["probability"]
        chunk["study_probability"] = by_study.transform(lambda probability: probability.mean(skipna=skip_unreadable))
        chunk["decision"] = [decision(mean, settings["threshold"]) for mean in chunk["study_probability"]]
        yield chunk[COLUMNS], pixels
        bar.update(len(chunk))
    bar.close()


@contextlib.contextmanager
def csv_file(file):
    """The function that adds a table to a .csv file, which gets its name when the block ends without an error.

    Raises: FileError when there is such a file, or it cannot be written.
    """
    if Path(file).exists():
        raise FileError(f"{file} exists. Remove it, or pass another --csv.")
    with whole_file(file) as partial:
        try:
            out = open(partial, "w", newline="", encoding="utf-8", errors="surrogateescape")  # noqa: SIM115 (closed below)
        except OSError as error:
            raise FileError(f"{file} cannot be written: {error.strerror}. Pass another --csv.") from None
        with out:
            pd.DataFrame(columns=COLUMNS).to_csv(out, index=False)
            # Unquoted, a carriage return in a name would end the row.
            yield lambda table: table.to_csv(out, index=False, header=False, quoting=csv.QUOTE_NONNUMERIC)


# ---------------------------------------------------------------------------------------------------------------------
# From the command line


def call_all(run, names, table_file=None, heatmaps=None, skip_unreadable=False):
    """Print or write the probabilities of the studies that paths name, and draw a panel of each where asked to.

    Args:
        run: RunFolder.
        names: see `find`.
        table_file: .csv to write instead of lines; None is predictions.csv where a folder holds several studies, else lines.
        heatmaps: folder for the panels, or None.
    Raises: DataError at the end when views were unreadable; what is known of the others is printed or written then.
    """
    settings, views = run.settings(), find(names)
    if heatmaps:
        make_folder(heatmaps)
    table_file = table_file or ("predictions.csv" if views["study"].nunique() > len(names) else None)
    with (
        csv_file(table_file)
        if table_file
        else contextlib.nullcontext(functools.partial(print_lines, settings["threshold"])) as tell
    ):
        network = checkpoints.load_network(run)
        draw = panels(network, settings, Path(heatmaps)) if heatmaps else lambda table, pixels: None
        decided, faults = [], []
        for table, pixels in call(views, settings, speed_up(network), skip_unreadable):
            tell(table)
            draw(table, pixels)
            decided += table.drop_duplicates("study")["decision"].to_list()
            bad = table[table["fault"] != ""]
            faults += [f"  {printable(path)}   {fault}" for path, fault in zip(bad["path"], bad["fault"], strict=True)]
    if table_file:
        counts = ", ".join(f"{decided.count(word)} {word or 'not called'}" for word in ("Positive", "Negative", ""))
        print(f"Wrote {printable(table_file)}: {len(views)} views of {len(decided)} studies, {counts}.")
    print(
        f"Positive is a probability of {settings['threshold']:g} or more. Computed on {keras.backend.backend()}. "
        "Research software, not a medical device.",
        file=sys.stderr,
    )
    if faults:
        tell_faults(f"{len(faults)} of {len(views)} images cannot be decoded:\n" + "\n".join(faults), skip_unreadable)


def tell_faults(message, skip_unreadable):
    """Say which views do not decode: as a fault, or as a note where they may be left out."""
    if not skip_unreadable:
        raise DataError(
            f"{message}\nTheir studies were not called. Mend or remove these files, or pass --skip-unreadable: studies are "
            "then called by their other views."
        )
    print(f"{message}\nTheir studies were called by their other views, where there are any.", file=sys.stderr)


def print_lines(threshold, table):
    """Print a line a view, name<TAB>decision<TAB>probability, and then the study's, for each study of a table of `call`."""
    for name, study in table.groupby("study", sort=False):
        lines = [*zip(study["path"], study["probability"], strict=True), (f"study {name}", study["study_probability"].iloc[0])]
        for what, probability in lines:
            called = "Not called\t-" if np.isnan(probability) else f"{decision(probability, threshold)}\t{probability:.3f}"
            print(f"{printable(what)}\t{called}")


def make_folder(folder):
    """Make a folder for panels, and see that files can be written into it. Raises: DataError."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DataError(f"{folder} cannot be written into: {error.strerror}. Pass another folder as --heatmap.") from None


def panels(network, settings, folder):
    """The function that draws a table of `call` and its pixels into a folder, a panel a study.

    Args:
        network: keras.Model as it was saved.
        settings: run.json.
        folder: Path of a folder.
    """
    find_maps, taken = heatmap.mapper(network), set()

    def draw(table, pixels):
        readable = table[table["fault"] == ""]
        if readable.empty:
            return
        maps = find_maps(Rows(pixels, readable.index))
        for name, study in readable.groupby("study", sort=False):
            rows = readable.index.get_indexer(study.index)
            figure = panel(name, study, {kind: values[rows] for kind, values in maps.items()}, settings)
            heatmap.save(figure, folder / free_name(name, taken))

    return draw


def panel(name, study, maps, settings):
    """heatmap.panel of one study. Args: its name, its rows of `call`, what `heatmap.mapper` found of them, run.json."""
    mean, threshold = study["study_probability"].iloc[0], settings["threshold"]
    called = f"{study['decision'].iloc[0]}, {mean:.3f}" if study["decision"].iloc[0] else "Not called"
    outcome = f"{called} (Positive from {threshold:.3f} on)"
    outcome += f"; {SHOWN} of {len(study)} views" * (len(study) > SHOWN)
    study, maps = study[:SHOWN], {kind: values[:SHOWN] for kind, values in maps.items()}
    files = [ending(Path(path).name, 40) for path in study["path"]]
    captions = [f"{file}: {value:.3f}" for file, value in zip(files, study["probability"], strict=True)]
    title = f"{ending(name, 70)}\n{outcome}"
    films = [images.shrink(images.read_grey(path), FILM) for path in study["path"]]
    return heatmap.panel(title, films, captions, maps, settings["options"]["resize"])


def ending(name, length):
    """A name for a picture, printable; of a longer one the last characters, where names differ."""
    text = printable(name)
    return text if len(text) <= length else f"…{text[1 - length :]}"


def free_name(study, taken):
    """A file name for a study's panel, from the last two parts of its path, that none of those taken is; it becomes taken."""
    stem = re.sub(r"[^\w.-]+", "_", "_".join(Path(study).resolve().parts[-2:]), flags=re.ASCII)[-100:].lstrip("-.") or "study"
    ends = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    name = next(f"{stem}{end}.png" for end in ends if f"{stem}{end}.png" not in taken)
    taken.add(name)
    return name

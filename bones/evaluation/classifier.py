"""A run's network with its temperature and threshold: predicts probabilities and decisions from pixels or files.

The command line, the web page and the exports all use it.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm  # progress bar

from bones.data.grey_levels import to_image
from bones.data.pixels import LEFT_OUT, UNREADABLE, Rows, decode_all
from bones.data.roots import as_list
from bones.data.sizes import fit_square
from bones.data.studies import find
from bones.evaluation import heatmaps
from bones.networks.acceleration import accelerate, in_float32
from bones.networks.batches import predict
from bones.runs import checkpoints
from bones.scores.probabilities import calibrate, decisions
from bones.system.errors import DataError, UnreadableImageError

COLUMNS = ["study", "path", "probability", "study_probability", "decision", "fault", "note"]
CHUNK = 256  # views in memory at a time, unless a study is larger


class Classifier:
    """Predict views with a run.

    Attributes:
        record: the run's RunRecord.
        network: keras.Model, ready to predict.
        maps: f(pixels) -> maps, see heatmaps.map_function; None if not requested.
    """

    def __init__(self, run, batch_size=32, with_maps=False, exact=False):
        """
        Args:
            run: RunFolder.
            batch_size: views per prediction step; the network is compiled again for each other size.
            with_maps: whether to build `maps`.
            exact: compute in float32 with Keras's own layers, as other runtimes do.
        Raises: RunError when the run cannot be read; HeatmapError when maps are requested but not available.
        """
        self.record, self.batch_size = run.record(), batch_size
        network = checkpoints.load_network(run)
        self.maps = heatmaps.map_function(network, batch_size) if with_maps else None  # of the saved network
        self.network = in_float32(network) if exact else accelerate(network)
        self.flip_averaging = self.record.options.flip_averaging

    def predict(self, pixels):
        """Probability of each view, (n, size, size, 1) uint8, at the run's temperature. Returns: (n,) float64."""
        probability = predict(self.network, pixels, self.batch_size, self.flip_averaging)
        return calibrate(probability, self.record.temperature)

    @property
    def threshold(self):
        """Probability from which on a study is Positive."""
        return self.record.threshold

    def predict_images(self, images):
        """Probability of each of some images as arrays, at the run's temperature; a study's is the mean over its views.

        Args:
            images: arrays (height, width), or (height, width, 3) for colour, of any sides; black is 0, and which value is white
                `grey_levels.white_of` says: 255 for uint8.
        Returns: (n,) float64.
        Raises: UnreadableImageError when an array is none of an image.
        """
        trained, shape = self.record.options, getattr(images, "shape", ())
        if len(shape) == 3 and shape[2] in (3, 4):
            raise UnreadableImageError(f"one array of shape {shape}, an image in colour; expected a list of images: [array]")
        pixels = [fit_square(grey_of(image), trained.size, trained.resize) for image in images]
        return self.predict(np.stack(pixels)[..., None]) if pixels else np.empty(0)

    def classify_files(self, paths, skip_unreadable=False):
        """Classify images, and folders of studies, as `model_test.py` does.

        Args:
            paths: one, or a list of them; see `studies.find`.
            skip_unreadable: see `classify`.
        Returns: pandas.DataFrame with COLUMNS, one row a file; see `classify`.
        Raises: DataError when a path is missing, named twice or contains no image.
        """
        names = [os.fspath(path) for path in as_list(paths)]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise DataError(f"{', '.join(twice)} is named twice.")
        tables = [table for table, _ in self.classify(find(names), skip_unreadable)] if names else []
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)

    def classify(self, views, skip_unreadable=False):
        """Decode and classify views.

        Args:
            views: table of `bones.data.studies.find`.
            skip_unreadable: classify a study by its other views if one does not decode, instead of not at all.
        Yields: (table, pixels) of some whole studies. The table has COLUMNS. If a view does not decode, probability is nan and
            fault is the reason. The probability of a file that is no radiograph is nan, too, and its note begins with
            LEFT_OUT; other notes are on views that count. study_probability is the mean over the views; if a study is not
            classified, it is nan and decision is "". Pixels are (n, size, size, 1) uint8.
        """
        size, resize = (self.record.options.size, self.record.options.resize)
        bar = tqdm(total=len(views), desc="Classifying studies", unit="view", leave=False, delay=2, disable=None)
        for chunk in chunks(views):
            pixels = np.zeros((len(chunk), size, size, 1), np.uint8)
            chunk = with_remarks(chunk, decode_all(chunk["path"], size, resize, pixels))
            left_out = is_left_out(chunk)
            good = np.flatnonzero((chunk["fault"] == "") & ~left_out)
            chunk = note_repeated(chunk, pixels, good).assign(probability=np.nan)
            if len(good):
                chunk.loc[good, "probability"] = self.predict(Rows(pixels, good))
            views = chunk[~left_out].groupby("study", sort=False)["probability"]
            chunk["study_probability"] = chunk["study"].map(views.agg(lambda column: column.mean(skipna=skip_unreadable)))
            chunk["decision"] = [decision(mean, self.record.threshold) for mean in chunk["study_probability"]]
            yield chunk[COLUMNS], pixels
            bar.update(len(chunk))
        bar.close()


def grey_of(image):
    """An array as a grey PIL.Image, see `Classifier.predict_images`."""
    values = np.asarray(image)
    is_image = values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)
    if not is_image or values.size == 0 or values.dtype.kind not in "uif":
        raise UnreadableImageError(
            f"an array of shape {values.shape} and type {values.dtype} is not an image; expected numbers of shape (height, "
            "width), or (height, width, 3) for colour"
        )
    return to_image(values)[0]


def with_remarks(views, remarks):
    """A table of views with the columns fault and note, from the remarks of `decode_all`."""
    texts = {"fault": [""] * len(views), "note": [""] * len(views)}
    for place, kind, text in remarks.itertuples(index=False):
        column = texts["fault" if kind == UNREADABLE else "note"]
        column[place] = joined(column[place], f"{LEFT_OUT}: {text}" if kind == LEFT_OUT else text)
    return views.assign(**texts)


def joined(*texts):
    """Those of some texts that are not empty, as one."""
    return "; ".join(filter(None, texts))


def is_left_out(views):
    """Which rows of a table of `Classifier.classify` are files that are no radiographs."""
    return views["note"].str.startswith(LEFT_OUT)


def study_note(study):
    """Which files of a study did not count, from its rows of a table of `Classifier.classify`; "" where all did."""
    counts = {"left out": is_left_out(study).sum(), "not decoded": (study["fault"] != "").sum()}
    return ", ".join(f"{count} of {len(study)} files {what}" for what, count in counts.items() if count)


def note_repeated(views, pixels, places):
    """A table of views with a note on each whose pixels are those of an earlier one of its study. Args: places: to compare."""
    first, notes = {}, views["note"].to_list()
    for place in places:
        earlier = first.setdefault((views["study"].iloc[place], pixels[place].tobytes()), place)
        if earlier != place:
            notes[place] = joined(notes[place], f"the same picture as {Path(views['path'].iloc[earlier]).name}")
    return views.assign(note=notes)


def decision(probability, threshold):
    """Positive or Negative, or "" if the probability is nan."""
    return "" if np.isnan(probability) else ("Negative", "Positive")[int(decisions(probability, threshold))]


def chunks(views):
    """Split a table of studies into parts of about CHUNK views, each of whole studies."""
    number = views.groupby("study", sort=False)["path"].transform("size").groupby(views["study"], sort=False).first()
    part = pd.Series(np.cumsum(number.to_numpy()) // CHUNK, index=number.index)
    for _, chunk in views.groupby(views["study"].map(part), sort=False):
        yield chunk.reset_index(drop=True)

"""A run's network with its temperature and threshold: predicts probabilities and decisions from pixels or files.

The command line, the web page and the exports all use it.
"""

import numpy as np
import pandas as pd
from tqdm import tqdm  # progress bar

from bones.data.pixels import Rows, decode_all
from bones.evaluation import heatmaps
from bones.networks.acceleration import accelerate, in_float32
from bones.networks.batches import predict
from bones.runs import checkpoints
from bones.scores.probabilities import calibrate, decisions

COLUMNS = ["study", "path", "probability", "study_probability", "decision", "fault"]
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

    def classify(self, views, skip_unreadable=False):
        """Decode and classify views.

        Args:
            views: table of `bones.data.studies.find`.
            skip_unreadable: classify a study by its other views if one does not decode, instead of not at all.
        Yields: (table, pixels) of some whole studies. The table has COLUMNS. If a view does not decode, probability is nan and
            fault is the reason. study_probability is the mean over the views; if a study is not classified, it is nan and
            decision is "". Pixels are (n, size, size, 1) uint8.
        """
        size, resize = (self.record.options.size, self.record.options.resize)
        bar = tqdm(total=len(views), desc="Classifying studies", unit="view", leave=False, delay=2, disable=None)
        for chunk in chunks(views):
            pixels = np.zeros((len(chunk), size, size, 1), np.uint8)
            bad = decode_all(chunk["path"], size, resize, pixels)
            good = np.setdiff1d(np.arange(len(chunk)), bad["place"])
            chunk = chunk.assign(probability=np.nan, fault="")
            chunk.loc[bad["place"], "fault"] = bad["reason"].to_numpy()
            if len(good):
                chunk.loc[good, "probability"] = self.predict(Rows(pixels, good))
            by_study = chunk.groupby("study", sort=False)["probability"]
            chunk["study_probability"] = by_study.transform(lambda probability: probability.mean(skipna=skip_unreadable))
            chunk["decision"] = [decision(mean, self.record.threshold) for mean in chunk["study_probability"]]
            yield chunk[COLUMNS], pixels
            bar.update(len(chunk))
        bar.close()


def decision(probability, threshold):
    """Positive or Negative, or "" if the probability is nan."""
    return "" if np.isnan(probability) else ("Negative", "Positive")[int(decisions(probability, threshold))]


def chunks(views):
    """Split a table of studies into parts of about CHUNK views, each of whole studies."""
    number = views.groupby("study", sort=False)["path"].transform("size").groupby(views["study"], sort=False).first()
    part = pd.Series(np.cumsum(number.to_numpy()) // CHUNK, index=number.index)
    for _, chunk in views.groupby(views["study"].map(part), sort=False):
        yield chunk.reset_index(drop=True)

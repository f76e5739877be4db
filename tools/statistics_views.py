"""Measure how many training views the batch normalisation statistics of a run's last.h5 need.

    python -m tools.statistics_views RUN > docs/records/statistics_views.csv

Exit status: 0 done; 1 run or data cannot be read; 2 a wrong command line.
"""

import sys
import time

import numpy as np
import pandas as pd

from bones.runs.folder import RunFolder
from bones.scores.metrics import auroc
from bones.system import backend, scripts

TRIED = (32, 64, 96, 128, 160, 192, 256, 384, 512)
DRAWS = 6


@scripts.command
def main(argv=None):
    """Compare probabilities with those from statistics of all views; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder of mura.py")
    options = parser.parse_args(argv)
    backend.choose()
    print(compare(RunFolder.open(options.run)).to_csv(index=False, lineterminator="\n"), end="")


def compare(run):
    """Compare the numbers of views in TRIED, with DRAWS random draws each.

    Returns: pandas.DataFrame with the number of views; the root mean square difference of tuning probabilities from those with
        statistics of all training views; range of the tuning AUROC; and the share of an epoch's time.
    """
    from bones.data.pixels import Rows
    from bones.networks.acceleration import accelerate
    from bones.networks.batches import predict
    from bones.runs import checkpoints
    from bones.runs.data import load_parts
    from bones.training.batch_statistics import Averager

    record = run.record()
    trained = record.options.changed(data=record.data.roots)
    (train, train_pixels), (tuning, tuning_pixels), _ = load_parts(trained.source, trained, record.data.tuning_patients)
    label = tuning["label"].to_numpy()
    network = accelerate(checkpoints.load_network(run, "last.h5"))
    averager = Averager(network)

    def probability(places):
        start = time.perf_counter()
        averager.estimate(Rows(train_pixels, np.sort(places)))
        seconds = time.perf_counter() - start
        return predict(network, tuning_pixels), seconds

    everything = np.arange(len(train))
    expected, _ = probability(everything)  # also compiles, before timing
    epoch = run.read_history()["seconds"].median()
    rows = []
    for count in [count for count in TRIED if count < len(train)]:
        rng = np.random.default_rng(count)
        found, seconds = zip(*(probability(rng.choice(everything, count, replace=False)) for _ in range(DRAWS)), strict=True)
        aurocs = [auroc(label, one) for one in found]
        away = np.sqrt(np.mean((np.array(found) - expected) ** 2))
        rows.append(
            {
                "views": count,
                "rms": round(away, 4),
                "AUROC": f"{min(aurocs):.3f} to {max(aurocs):.3f}",
                "of an epoch": f"{np.median(seconds) / epoch:.1%}",
            }
        )
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(scripts.run(main))

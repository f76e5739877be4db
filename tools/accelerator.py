"""Measure on an accelerator, in one command: the benchmark of both networks, and a training of `light`'s network.

    KERAS_BACKEND=jax python -m tools.accelerator --data fracatlas

It runs tools.benchmark at 320 px with DenseNet-169 and EfficientNet-Lite0 beside PyTorch, and then `mura.py --recipe light
--epochs 52`, and prints that training's wall time and the seconds of its epochs until the AUROC of the tuning studies was
reached. Install JAX and PyTorch for the accelerator before; requirements/benchmark.txt lists the others.
Exit status: 0 done; 1 a part failed; 2 a wrong command line.
"""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from bones.system import scripts
from bones.system.errors import BenchmarkError
from tools.benchmark import CHECKOUT, IN_TORCH

EPOCHS = 52


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    options = parse_options(argv)
    out = Path(options.out).absolute()
    out.mkdir(parents=True, exist_ok=True)
    for network in IN_TORCH:
        run("-m", "tools.benchmark", "--only", "train", "score", "--network", network, "--json", out / f"{network}.json")
    start = time.perf_counter()
    data = ["--data", Path(options.data).absolute(), "--study-type", "all"]
    run("mura.py", "--recipe", "light", "--epochs", EPOCHS, *data, "--out", out / "light")
    print(f"{EPOCHS} epochs of light, from start to end: {time.perf_counter() - start:.1f} s")
    print(in_words(pd.read_csv(out / "light" / "history.csv"), options.auroc))


def parse_options(argv):
    """Parse and check the command line."""
    parser = scripts.parser(__doc__)
    parser.add_argument("--data", required=True, metavar="FOLDER", help="data root of the training, such as FracAtlas's")
    parser.add_argument("--auroc", type=float, default=0.85, metavar="X", help="of the tuning views (default %(default)s)")
    parser.add_argument("--out", default="runs/accelerator", metavar="FOLDER", help="for the results (default %(default)s)")
    options = parser.parse_args(argv)
    if not Path(options.data).is_dir():
        parser.error(f"--data: {options.data} is not a folder.")
    if (Path(options.out) / "light").exists():
        parser.error(f"--out: {options.out} has a run already; name another folder.")
    return options


def run(*arguments):
    """Run Python in this repository. Raises: BenchmarkError when it fails."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=CHECKOUT)
    if done.returncode:
        raise BenchmarkError(f"{' '.join(map(str, arguments))} ended with status {done.returncode}; see its message above.")


def in_words(history, auroc):
    """When a training first reached an AUROC of the tuning views. Args: history: table of history.csv."""
    reached = history["val_auroc"] >= auroc
    if not reached.any():
        return f"an AUROC of {auroc} was not reached; the highest is {history['val_auroc'].max():.3f}"
    first = reached.idxmax()
    return f"an AUROC of {auroc} was reached after epoch {first + 1}, {history['seconds'][: first + 1].sum():.1f} s of epochs"


if __name__ == "__main__":
    sys.exit(scripts.run(main))

"""Draw learning curves of one or several runs from history.csv, and score figures from predictions.csv.

    python plot_results.py runs/NAME                   the figures of one run, into figures/
    python plot_results.py runs/A runs/B --out FOLDER  several runs, overlaid

plot_MURA_train_acc.png, plot_MURA_valid_acc.png, plot_MURA_train_loss.png and plot_MURA_valid_loss.png keep the names of the
first system's figures; "valid" is the tuning data of this repository. plot_MURA_curves.png combines them. For runs scored by
model_test.py, plot_MURA_roc.png, plot_MURA_precision_recall.png, plot_MURA_reliability.png, plot_MURA_histogram.png and
plot_MURA_confusion.png are also drawn, per study, at the threshold fitted on tuning studies; with several study types also
plot_MURA_study_types.png.
Exit status: 0 done; 1 a run that cannot be read; 2 a wrong command line.
"""

import shlex
import sys
from pathlib import Path

from bones.system import scripts


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders of mura.py; several are overlaid")
    parser.add_argument(
        "--out", type=Path, default=Path("figures"), metavar="FOLDER", help="folder for the figures (default %(default)s)"
    )
    options = parser.parse_args(argv)
    with scripts.importing(keras=False):
        from bones.evaluation import figures
    files = figures.draw(options.runs, options.out)
    print("Drew", *files, sep="\n  ")
    for path in options.runs:
        if not (Path(path) / "predictions.csv").exists():
            print(f"{path} has not been scored, so score figures are missing. Run: python model_test.py {shlex.quote(path)}")
    print(f"Next: look at {files[-1]}")


if __name__ == "__main__":
    sys.exit(scripts.run(main))

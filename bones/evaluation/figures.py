"""Draw the curves of one run or several from their history.csv, and their scores from predictions.csv.

    python plot_results.py runs/NAME                   the figures of one run, into figures/
    python plot_results.py runs/A runs/B --out FOLDER  several runs, overlaid

plot_MURA_train_acc.png, plot_MURA_valid_acc.png, plot_MURA_train_loss.png and plot_MURA_valid_loss.png keep the names of the
first system's figures; "valid" is what this repository calls tuning. plot_MURA_curves.png shows all in one. Of runs that
model_test.py has scored also plot_MURA_roc.png, plot_MURA_precision_recall.png, plot_MURA_reliability.png,
plot_MURA_histogram.png and plot_MURA_confusion.png are drawn, per study, at the threshold fitted on tuning studies; and, of
several study types, plot_MURA_study_types.png.
Exit status: 0 done; 1 a run that cannot be read; 2 a wrong command line.
"""

import argparse
import shlex
import sys
from pathlib import Path

if __name__ == "__main__":
    from bones.system import scripts as interrupts

    interrupts.quit_at_once()

import matplotlib

matplotlib.use("Agg")  # files only: works without a screen

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from bones.evaluation import score_figures
from bones.runs.folder import RunFolder, kept_epoch
from bones.scores.probabilities import study_probabilities
from bones.system.errors import RunError

# Column of history.csv: (file, title, label of the vertical axis).
CURVES = {
    "accuracy": ("plot_MURA_train_acc.png", "Training accuracy", "accuracy (share of views)"),
    "val_accuracy": ("plot_MURA_valid_acc.png", "Tuning accuracy", "accuracy (share of views)"),
    "loss": ("plot_MURA_train_loss.png", "Training loss", "loss (nats a view)"),
    "val_loss": ("plot_MURA_valid_loss.png", "Tuning loss", "loss (nats a view)"),
}
# One figure with all runs in it, and one with a panel a run.
TOGETHER = {
    "plot_MURA_roc.png": score_figures.draw_roc,
    "plot_MURA_precision_recall.png": score_figures.draw_precision_recall,
}
PANELS = {
    "plot_MURA_reliability.png": (
        "Reliability of studies' probabilities\n(numbers: studies in a bin; bars: 95 % intervals)",
        score_figures.draw_reliability,
    ),
    "plot_MURA_histogram.png": ("Studies by probability", score_figures.draw_histogram),
    "plot_MURA_confusion.png": ("Decisions on studies", score_figures.draw_confusion),
}
STYLE = {
    "figure.dpi": 120,
    "font.size": 12,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def main(argv=None):
    """Draw as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folders that mura.py made; several are overlaid")
    parser.add_argument(
        "--out", type=Path, default=Path("figures"), metavar="FOLDER", help="where figures go (default %(default)s)"
    )
    options = parser.parse_args(argv)
    try:
        histories, scored = read_runs(options.runs)
        options.out.mkdir(parents=True, exist_ok=True)
        with plt.rc_context(STYLE):
            files = draw_figures(histories, options.out)
            files += draw_scores(scored, options.out) if scored else []
    except RunError as fault:
        print(f"plot_results.py: {fault}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"plot_results.py: {options.out} cannot be written ({error.strerror}). Make room, or pass another --out.",
            file=sys.stderr,
        )
        return 1
    print("Drew", *files, sep="\n  ")
    for path in options.runs:
        if not (Path(path) / "predictions.csv").exists():
            print(f"{path} was not scored yet, so it has no ROC curve and the like: python model_test.py {shlex.quote(path)}")
    print(f"Next: look at {files[-1]}")
    return 0


def read_runs(paths):
    """({label: history}, {label: (studies, threshold)}) of run folders, the second of those that were scored.

    A history has a column more, `kept`, which is true at the epoch of best.h5. The label is the folder's name, marked where the
    data are phantoms.
    Raises: RunError when one cannot be read.
    """
    histories, scored = {}, {}
    for path in paths:
        run = RunFolder.open(path)
        settings = run.settings()
        mark = " (phantoms)" if settings["data"].get("phantom") else ""
        name = run.path.resolve().name
        label = name if name + mark not in histories else str(path)
        label = f"run {label}" if label.startswith("_") else label  # matplotlib hides labels with an underscore in front
        label = label.replace("$", r"\$") + mark  # and takes dollars for mathematics
        history = run.read_history()
        kept = kept_epoch(history["val_auroc"], settings["options"].get("chosen", "best"))  # earlier versions had no other
        histories[label] = history.assign(kept=np.arange(len(history)) == kept)
        if (run / "predictions.csv").exists():
            predictions = run.read_predictions()
            studies = study_probabilities(predictions)
            scored[f"{label}, {what_was_scored(studies, predictions)}"] = studies, settings["threshold"]
    return histories, scored


def what_was_scored(studies, predictions):
    """Number of studies, and what is unusual of them, for a legend: curves of different studies are not to be compared."""
    by_folder = studies["study"].str.endswith("_positive").astype(int)
    return (
        f"{len(studies)} studies"
        + ", tuning" * (predictions["split"].iloc[0] == "tuning")
        + ", labels corrected" * bool((by_folder != studies["label"]).any())
    )


def draw_figures(histories, folder):
    """Draw one figure a curve and one with all. Returns: paths of the files."""
    files = []
    for column, (name, title, label) in CURVES.items():
        figure, axes = plt.subplots(figsize=(7, 4.5 + 0.3 * len(histories)))  # room for the legend below
        for colour, (run, history) in enumerate(histories.items()):
            draw_curve(axes, history, column, f"C{colour}", "-", run)
        finish_axes(axes, title if len(histories) > 1 else f"{title}, {next(iter(histories))}", label)
        files.append(save(figure, folder / name))
    figure, rows = plt.subplots(1, 3, figsize=(13, 4.4 + 0.8 * len(histories)))
    panels = (("loss", "Loss", "nats a view"), ("accuracy", "Accuracy", "share of views"), ("auroc", "AUROC", "AUROC of views"))
    for axes, (column, title, label) in zip(rows, panels, strict=True):
        for colour, (run, history) in enumerate(histories.items()):
            prefix = f"{run}, " if len(histories) > 1 else ""
            draw_curve(axes, history, f"val_{column}", f"C{colour}", "-", f"{prefix}tuning")
            draw_curve(axes, history, column, f"C{colour}", "--", f"{prefix}training", mark=False)
        finish_axes(axes, title, label, columns=1)
    if len(histories) == 1:
        figure.suptitle(next(iter(histories)))
    files.append(save(figure, folder / "plot_MURA_curves.png"))
    return files


def draw_scores(scored, folder):
    """Draw what predictions show. Args: {label: (studies, threshold)}. Returns: paths of the files."""
    runs = {label: score_figures.Scored(*run) for label, run in scored.items()}
    files = []
    for name, draw in TOGETHER.items():
        figure, axes = plt.subplots(figsize=(6, 6.4 + 0.4 * len(runs)))
        draw(axes, runs)
        files.append(save(figure, folder / name))
    if any(run.by_type for run in runs.values()):
        types = max(len(run.by_type) for run in runs.values())
        figure, axes = plt.subplots(figsize=(7, 2.4 + types * (0.4 + 0.25 * len(runs))))
        score_figures.draw_study_types(axes, runs)
        files.append(save(figure, folder / "plot_MURA_study_types.png"))
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    for name, (title, draw) in PANELS.items():
        figure, grid = plt.subplots(
            rows, columns, figsize=(1 + 5 * columns, 1 + 5.4 * rows), squeeze=False, layout="constrained"
        )
        for axes, (label, run) in zip(grid.flat, runs.items(), strict=False):
            draw(axes, label, run)
        for axes in grid.flat[len(runs) :]:
            axes.set_visible(False)
        figure.suptitle(title)
        files.append(save(figure, folder / name))
    return files


def draw_curve(axes, history, column, colour, line, label, mark=True):
    """One column over the epochs, with the epoch of best.h5 marked by a ring."""
    few = "." if len(history) < 15 else ""
    axes.plot(history["epoch"], history[column], line, color=colour, marker=few, label=label, alpha=1 if line == "-" else 0.55)
    if mark:
        best = history[history["kept"]].iloc[0]
        axes.plot(
            best["epoch"],
            best[column],
            "o",
            color=colour,
            markersize=10,
            fillstyle="none",
            markeredgewidth=2,
            label=f"best.h5, epoch {best['epoch']:.0f}: {best[column]:.3f}",
        )


def finish_axes(axes, title, label, columns=2):
    """Title, labels, whole-numbered epochs and a legend."""
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, frameon=False)  # below, on no curve


def save(figure, path):
    """Write a figure and let go of it. Returns: path."""
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    figure.savefig(path, bbox_inches="tight")  # whole legends, however many runs
    plt.close(figure)
    return path


if __name__ == "__main__":
    sys.exit(interrupts.run(main))

"""Figures of runs: learning curves from history.csv, and score figures from predictions.csv."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bones.data.layouts import LABELS
from bones.evaluation import score_figures
from bones.runs.folder import RunFolder, selected_epoch
from bones.scores.probabilities import study_probabilities
from bones.system.errors import FileError, RunError
from bones.system.files import whole_file

# Column of history.csv: (file, title, label of the vertical axis).
CURVES = {
    "accuracy": ("plot_MURA_train_acc.png", "Training accuracy", "accuracy (share of views)"),
    "val_accuracy": ("plot_MURA_valid_acc.png", "Tuning accuracy", "accuracy (share of views)"),
    "loss": ("plot_MURA_train_loss.png", "Training loss", "loss (nats a view)"),
    "val_loss": ("plot_MURA_valid_loss.png", "Tuning loss", "loss (nats a view)"),
}
# Figures that overlay all runs, and figures with one panel per run.
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


def draw(paths, folder):
    """Draw every figure of some runs.

    Args:
        paths: run folders; several are overlaid.
        folder: Path for the figures, created if missing.
    Returns: paths of the files.
    Raises: RunError or FileError when a run cannot be read, there is nothing to draw, or a figure cannot be written.
    """
    histories, scored = read_runs(paths)
    if not histories and not scored:
        raise RunError(
            f"{' '.join(map(str, paths))}: nothing to draw. A run of no epochs has no curves, and is not scored yet: "
            "run model_test.py first."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(STYLE):
            files = draw_figures(histories, folder) if histories else []
            return files + (draw_scores(scored, folder) if scored else [])
    except OSError as error:
        raise FileError(f"{folder} cannot be written ({error.strerror}). Make room, or pass another --out.") from None


def read_runs(paths):
    """Read ({label: history}, {label: (studies, threshold)}) of run folders.

    The first has only runs of one epoch or more, the second only scored runs.
    A history has an additional column, `kept`, which is true at the epoch of the run's best network. The label is the folder's
    name, marked if the data are phantoms.
    Raises: RunError when one cannot be read.
    """
    histories, scored, labels = {}, {}, set()
    for path in paths:
        run = RunFolder.open(path)
        record = run.record()
        mark = " (phantoms)" if record.data.phantom else ""
        name = run.path.resolve().name
        label = name if name + mark not in labels else str(path)
        label = f"run {label}" if label.startswith("_") else label  # matplotlib hides labels that start with an underscore
        label = label.replace("$", r"\$") + mark  # and reads dollars as mathematics
        labels.add(label)
        history = run.read_history()
        if len(history):
            kept = selected_epoch(history, record.options.chosen)
            histories[label] = history.assign(kept=np.arange(len(history)) == kept)
        if (run / "predictions.csv").exists():
            predictions = run.read_predictions()
            studies = study_probabilities(predictions)
            scores = run.read_json("scores.json") if (run / "scores.json").exists() else {}
            unknown = ", patients unknown" * (not scores.get("has_patients", True))
            scored[f"{label}, {what_was_scored(studies, predictions)}{unknown}"] = studies, record.threshold
    return histories, scored


def what_was_scored(studies, predictions):
    """Legend text: the number of studies, and whether they are tuning studies or have corrected labels."""
    in_names = studies[studies["study"].str.endswith(tuple(LABELS))]  # not those of class folders and tables
    corrected = in_names["study"].str.endswith("_positive") != in_names["label"].astype(bool)
    return (
        f"{len(studies)} studies"
        + ", tuning" * (predictions["split"].iloc[0] == "tuning")
        + ", labels corrected" * bool(corrected.any())
    )


def draw_figures(histories, folder):
    """Draw one figure per curve and one with all curves. Returns: paths of the files."""
    files = []
    for column, (name, title, label) in CURVES.items():
        figure = Figure(figsize=(7, 4.5 + 0.3 * len(histories)))  # space for the legend below
        axes = figure.subplots()
        for colour, (run, history) in enumerate(histories.items()):
            draw_curve(axes, history, column, f"C{colour}", "-", run)
        finish_axes(axes, title if len(histories) > 1 else f"{title}, {next(iter(histories))}", label)
        files.append(save(figure, folder / name))
    figure = Figure(figsize=(13, 4.4 + 0.8 * len(histories)))
    rows = figure.subplots(1, 3)
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
    """Draw the score figures. Args: {label: (studies, threshold)}. Returns: paths of the files."""
    runs = {label: score_figures.RunCurves(*run) for label, run in scored.items()}
    files = []
    for name, draw_curves in TOGETHER.items():
        figure = Figure(figsize=(6, 6.4 + 0.4 * len(runs)))
        draw_curves(figure.subplots(), runs)
        files.append(save(figure, folder / name))
    if any(run.by_type for run in runs.values()):
        types = max(len(run.by_type) for run in runs.values())
        figure = Figure(figsize=(7, 2.4 + types * (0.4 + 0.25 * len(runs))))
        score_figures.draw_study_types(figure.subplots(), runs)
        files.append(save(figure, folder / "plot_MURA_study_types.png"))
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    for name, (title, draw_panel) in PANELS.items():
        figure = Figure(figsize=(1 + 5 * columns, 1 + 5.4 * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (label, run) in zip(grid.flat, runs.items(), strict=False):
            draw_panel(axes, label, run)
        for axes in grid.flat[len(runs) :]:
            axes.set_visible(False)
        figure.suptitle(title)
        files.append(save(figure, folder / name))
    return files


def draw_curve(axes, history, column, colour, line, label, mark=True):
    """Plot one column over the epochs, and mark that of the run's best network with a ring."""
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
            label=f"saved epoch {best['epoch']:.0f}: {best[column]:.3f}",
        )


def finish_axes(axes, title, label, columns=2):
    """Set title, labels, integer ticks and legend."""
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, frameon=False)  # below the curves


def save(figure, path):
    """Write a figure. Returns: path."""
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    with whole_file(path) as partial:
        figure.savefig(partial, format="png", bbox_inches="tight")  # includes the whole legend
    return path

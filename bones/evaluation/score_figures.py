"""Figures of a run's predictions per study: ROC, precision-recall, reliability, histogram by label, confusion matrix."""

import dataclasses

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy import stats  # intervals of shares
from sklearn import metrics  # points of the ROC and precision-recall curves

from bones.scores.metrics import bin_of
from bones.scores.report import curves, score
from bones.scores.text import as_text, value_text

GRID = np.linspace(0, 1, 201)  # points where bands are computed
BAND = 0.15  # opacity
LINES = ("-", "--", "-.", (0, (1, 1)))  # of runs, whose curves may overlap
COLOURS = {0: "C0", 1: "C3"}  # normal, abnormal
NAMES = {0: "normal", 1: "abnormal"}


@dataclasses.dataclass
class RunCurves:
    """Studies, scores and confidence bands of a run."""

    studies: pd.DataFrame  # table of scores.probabilities.study_probabilities
    threshold: float

    def __post_init__(self):
        self.scores = score(self.studies, self.threshold)
        self.bands = curves(self.studies, GRID)
        parts = {name: score(part, self.threshold, ("auroc",)) for name, part in self.studies.groupby("study_type")}
        self.by_type = {"all": self.scores, **parts} if len(parts) > 1 else {}


def draw_roc(axes, runs):
    """ROC curves of {label: RunCurves}, with bands and the chosen threshold."""
    for colour, (name, run) in enumerate(runs.items()):
        studies, found = run.studies, run.scores
        fp_rate, tp_rate, _ = metrics.roc_curve(studies["label"], studies["probability"])
        text = f"{name}\nAUROC {as_text(found['auroc'])}"
        axes.plot(fp_rate, tp_rate, linestyle=LINES[colour % 4], color=f"C{colour}", label=text)
        axes.fill_between(GRID, *run.bands["roc"], color=f"C{colour}", alpha=BAND, linewidth=0)
        place = 1 - found["specificity"]["value"], found["sensitivity"]["value"]
        axes.plot(*place, "o", color=f"C{colour}", markeredgecolor="white", markersize=9, zorder=3)
    axes.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    square(axes, "ROC of studies", "1 - specificity", "sensitivity")
    legend(axes, "Band: 95 % over patients. Dot: fitted threshold.")


def draw_precision_recall(axes, runs):
    """Precision-recall curves of {label: RunCurves}, with bands, and the share of positives, which is chance level."""
    for colour, (name, run) in enumerate(runs.items()):
        studies, found = run.studies, run.scores
        precision, recall, _ = metrics.precision_recall_curve(studies["label"], studies["probability"])
        text = f"{name}\naverage precision {as_text(found['average_precision'])}"
        axes.step(recall, precision, linestyle=LINES[colour % 4], where="post", color=f"C{colour}", label=text)
        axes.fill_between(GRID, *run.bands["precision_recall"], color=f"C{colour}", alpha=BAND, linewidth=0)
        axes.axhline(studies["label"].mean(), linestyle=":", color=f"C{colour}", linewidth=1)
    square(axes, "Precision and recall of studies", "recall (sensitivity)", "precision")
    legend(axes, "Band: 95 % over patients. Dotted: share of abnormal.")


def draw_study_types(axes, runs):
    """AUROC of {label: RunCurves} by study type, with intervals; types with one class are left out."""
    types = list(dict.fromkeys(name for run in runs.values() for name in run.by_type))
    counts = {name: f"{one['count']} ({one['positive']})" for run in runs.values() for name, one in run.by_type.items()}
    for colour, (name, run) in enumerate(runs.items()):
        beside = 0.6 * (colour + 0.5) / len(runs) - 0.3  # runs of one type, one below another
        for place, study_type in enumerate(types):
            found = run.by_type.get(study_type, {}).get("auroc", {"value": None})
            if found["value"] is not None:
                at, label = place + beside, name if study_type == "all" else None
                axes.plot(found["value"], at, "o", color=f"C{colour}", label=label)
                axes.annotate(
                    f"{found['value']:.3f}", (found["value"], at), xytext=(0, 5), textcoords="offset points", fontsize=8
                )
                if found["low"] is not None:
                    axes.plot([found["low"], found["high"]], [at, at], color=f"C{colour}", alpha=0.6)
    axes.axvline(0.5, linestyle=":", color="grey", linewidth=1)
    axes.set_yticks(range(len(types)), [f"{name}\n{counts[name]}" for name in types])
    axes.set(title="Studies by type", xlabel="AUROC", xlim=(0, 1.02), ylim=(len(types) - 0.5, -0.5))
    legend(axes, "Lines: 95 % over patients. In brackets: abnormal studies.")


def draw_reliability(axes, name, run):
    """Share of positives against mean probability, per bin of probability, with 95 % Wilson intervals."""
    label, probability = run.studies["label"].to_numpy(), run.studies["probability"].to_numpy()
    place = bin_of(probability)
    axes.plot([0, 1], [0, 1], ":", color="grey", linewidth=1)
    for one in np.unique(place):
        inside = place == one
        x, y, count = probability[inside].mean(), label[inside].mean(), int(inside.sum())
        interval = stats.binomtest(int(label[inside].sum()), count).proportion_ci(method="wilson")
        axes.plot([x, x], interval, color="C0", alpha=0.6)
        axes.plot(x, y, "o", color="C0", markersize=7)
        axes.annotate(str(count), (x, y), xytext=(6, -11), textcoords="offset points", fontsize=9)
    square(axes, name, "mean probability of abnormal", "share of abnormal studies")
    numbers = f"ECE {value_text(run.scores['ece'])}, Brier score {as_text(run.scores['brier'])}"
    axes.set_title(f"{name}\n{numbers}", fontsize=11)


def draw_histogram(axes, name, run):
    """Histogram of the studies' probabilities, one per label."""
    edges = np.linspace(0, 1, 21)
    for label, part in run.studies.groupby("label"):
        text = f"{NAMES[label]} ({len(part)})"
        axes.hist(part["probability"], edges, color=COLOURS[label], alpha=0.5, label=text)
    axes.axvline(run.threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {run.threshold:.3f}")
    axes.set(title=name, xlabel="probability of abnormal", ylabel="studies", xlim=(0, 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=9, frameon=False)


def draw_confusion(axes, name, run):
    """Confusion matrix at the threshold; shades are shares of a row."""
    cells = ("true_negative", "false_positive", "false_negative", "true_positive")
    counts = np.reshape([run.scores["confusion"][cell] for cell in cells], (2, 2))
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row in range(2):
        for column in range(2):
            text = f"{counts[row, column]}\n{shares[row, column]:.0%}"
            colour = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=14)
    axes.set(xlabel="predicted", ylabel="label")
    axes.set_title(f"{name}\nat a threshold of {run.threshold:.3f}", fontsize=11)
    axes.set_xticks([0, 1], ["Negative", "Positive"])
    axes.set_yticks([0, 1], ["normal", "abnormal"], rotation=90, va="center")
    axes.grid(False)


def square(axes, title, across, up):
    """Set title, labels and limits of axes from 0 to 1."""
    axes.set(title=title, xlabel=across, ylabel=up, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")


def legend(axes, title):
    """Draw the legend below the axes."""
    axes.legend(fontsize=9, title=title, title_fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)

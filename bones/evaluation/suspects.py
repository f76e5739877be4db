"""The studies whose probability disagrees most with the label."""

from pathlib import Path

import numpy as np

from bones.data import images, sizes
from bones.data.labels import study_paths
from bones.data.roots import data_roots
from bones.evaluation.classifier import Classifier
from bones.evaluation.split import print_again, score_split
from bones.scores.probabilities import study_probabilities


def show_suspects(run, selection, count):
    """Print the `count` studies that disagree most with their labels, and write suspects.csv and suspects.png.

    Args: see `score_split`.
    """
    scored = score_split(run, Classifier(run), selection)
    views = scored.predictions
    views = views.assign(study=study_paths(views, data_roots(selection.of(scored.record))))
    called = study_probabilities(views)
    order = np.argsort(-np.abs(called["label"] - called["probability"]).to_numpy(), kind="stable")[:count]
    table = called.iloc[order][["study", "label", "probability", "views"]].round(3)
    print(table.to_string(index=False))  # before writing: the run folder may be read-only
    run.write_csv("suspects.csv", table)
    # One row per view, in the table's order.
    shown = table[["study", "label", "probability"]].merge(views[["study", "path"]], on="study")
    captions = [
        f"{Path(study).parent.name} {Path(study).name.split('_')[0]}\n{'abnormal' if label else 'normal'}: {probability:.2f}"
        for study, label, probability in zip(shown["study"], shown["label"], shown["probability"], strict=True)
    ]
    run.write_image("suspects.png", sizes.contact_sheet([images.read_grey(path) for path in shown["path"]], captions, 5, 220))
    print(f"\nWrote {run / 'suspects.csv'} and suspects.png with their views: review them with a radiologist.")
    if scored.report["layout"] == "mura":
        print("Correct the label column in a copy, keep only the rows you are sure of, and pass it as --labels.")
        print_again(run, selection, "--labels", "FILE.csv")
    else:
        print("Correct labels in the table, or move images into the folder of the other class, then score again.")
        print_again(run, selection)

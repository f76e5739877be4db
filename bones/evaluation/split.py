"""Score a whole split of a run's data or of another data root: writes predictions.csv and scores.json, prints tables."""

import json
import sys

import keras
import pandas as pd

from bones.data.annotations import read_groups
from bones.data.labels import folder_labels
from bones.data.phantoms import sets as phantom
from bones.data.roots import data_roots, has_patients, notes
from bones.data.table import STUDY
from bones.evaluation.comparison import ScoredRun, comparisons, grouped, markdown, mean_line
from bones.runs import card
from bones.runs.data import load_split
from bones.runs.folder import PREDICTIONS, RunFolder
from bones.scores.report import MOST_GROUPS, group_scores, report
from bones.scores.text import DISCLAIMER, UNKNOWN, as_table, groups_table, parts_table, patients_text
from bones.system import scripts
from bones.system.errors import FileError, RunError


def score_split(run, classifier, selection, groups=()):
    """Score a split and write predictions.csv and scores.json, but for the run that comes with the repository.

    Args:
        run: RunFolder.
        classifier: its Classifier.
        selection: runs.data.Selection.
        groups: .csv files of groups of views, see `annotations.read_groups`.
    Returns: comparison.ScoredRun.
    Raises: DataError when the data is invalid.
    """
    record = classifier.record
    views, pixels, left_out = load_split(run, record, selection)
    source = selection.of(record)
    roots = data_roots(source)
    grouped_by = read_groups(groups, views, roots) if groups else None  # its errors come before the work
    predictions = views.assign(probability=classifier.predict(pixels))
    by_folder = folder_labels(views, roots)
    for note in notes(roots):
        print(f"model_test.py: {note}.", file=sys.stderr)
    content = {
        "data": list(source.paths),
        "layout": source.layout,
        "phantom": phantom.describe(source),
        "has_patients": has_patients(roots),
        "split": selection.split,
        "study_types": sorted(predictions["study_type"].unique()),
        "left_out": left_out,
        "patients": predictions["patient"].nunique(),
        "temperature": record.temperature,
        "backend": keras.backend.backend(),
        "corrected": len(views[by_folder != views["label"]].drop_duplicates(STUDY)),
        **report(predictions, record.threshold),
    }
    if content["corrected"]:
        content["folder_labels"] = report(predictions.assign(label=by_folder), record.threshold)
    if groups:
        content["groups"] = group_scores(predictions, grouped_by, record.threshold)
        content["columns_without_groups"] = [name for name in grouped_by if name not in content["groups"]]
        content["not_grouped"] = int(grouped_by.isna().all(axis=1).sum())
    return ScoredRun(str(run.path), record, predictions, content, write(run, predictions, content))


def write(run, predictions, content):
    """Write what was scored into the run folder. Returns: why it was not written, or ""."""
    if run.is_shipped:
        return f"Nothing was written: {run.path} comes with the repository. Copy it to keep scores of your own"
    try:
        run.write_predictions(predictions[PREDICTIONS])
        run.write_json("scores.json", content)
        card.write(run)
    except (RunError, FileError) as error:  # such as of a read-only folder: the scores are still printed
        return str(error)
    return ""


def show_scores(runs, form, labels=None):
    """Print the scores of one or several runs.

    Args:
        runs: list of comparison.ScoredRun.
        form: "json", "markdown" or "text".
        labels: file of corrected labels, or None.
    Raises: RunError at the end if scores could not be written.
    """
    if form == "json":
        reports = [run.report for run in runs]
        print(json.dumps(reports if len(runs) > 1 else reports[0], indent=2))
    elif form == "markdown":
        print(markdown(runs))
    else:
        for run in runs:
            print_report(run, labels)
        groups = grouped(runs)
        for line in (*(mean_line(group) for group in groups if len(group) > 1), *comparisons(groups)):
            print(f"\n{line}")
        if not any(run.unwritten for run in runs):
            scripts.print_next("plot_results.py", *(run.name for run in runs))
    faults = [run.unwritten for run in runs if run.unwritten and not RunFolder(run.name).is_shipped]
    if faults:
        raise RunError("\n".join(faults))


def print_report(run, labels):
    """Print the scores as tables, with the information needed to interpret them."""
    report, record = run.report, run.record
    name = {
        "held-out": f"held-out{' (valid/)' * (report['layout'] == 'mura')}",
        "tuning": "tuning (used to choose epoch and threshold, so scores are optimistic)",
    }
    mark = " (PHANTOMS: this tests the code and says nothing about patients)" if report["phantom"] else ""
    fitted = "fitted on the tuning studies" if record.finished else "not fitted: the training has not finished"
    print(f"{run.name}: {name[report['split']]} of {', '.join(report['data'])}{mark}")
    patients = patients_text(report["patients"], report["has_patients"])
    print(f"{patients}, resampled for the 95 % intervals, which hold threshold, temperature and seed fixed")
    if not report["has_patients"]:
        print(UNKNOWN)
    decided = f"Threshold {report['threshold']:.3f} and temperature {report['temperature']:.2f}, {fitted}"
    print(f"{decided}; scored on {report['backend']}\n")
    table = as_table(report)
    if report["corrected"]:
        by_folder = as_table(report["folder_labels"]).add_suffix(", folder names")
        table = pd.concat([table.add_suffix(", corrected"), by_folder], axis=1)
        print(f"{report['corrected']} studies have corrected labels; beside them, the scores with labels from folder names.\n")
    print(table.to_string())
    for part in ("by_study_type", "by_root"):
        if len(report[part]) > 1:
            print(f"\n{parts_table(report[part]).to_string()}")
    if "groups" in report:
        print_groups(report)
    if labels and not report["corrected"]:
        print(f"\n{labels} changes no label of this split.")
    if report["left_out"]:
        print(f"\n{report['left_out']} files were left out, unreadable or no radiographs.")
    written = f"Wrote predictions.csv, scores.json and MODEL_CARD.md into {run.name}"
    unwritten = run.unwritten if RunFolder(run.name).is_shipped else "The scores are in no file; see the error at the end"
    print(f"\n{unwritten if run.unwritten else written}. {DISCLAIMER}")


def print_groups(report):
    """Print the scores of groups of views, or why there are none."""
    print("\nStudies of the views in each group, and of the others")
    if report["groups"]:
        print(groups_table(report["groups"]).to_string())
    if report["columns_without_groups"]:
        print(f"No groups by {', '.join(report['columns_without_groups'])}: one value, or more than {MOST_GROUPS}.")
    if report["not_grouped"]:
        print(f"{report['not_grouped']} views are in no group, because the files have no row of them.")


def print_again(run, selection, *more):
    """Print a command line that scores the same data with other options."""
    scripts.print_next("model_test.py", run.path, *selection.words, *more)

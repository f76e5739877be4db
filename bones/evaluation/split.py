"""Score trained networks on held-out studies, or call one study Positive or Negative.

    python model_test.py runs/NAME                              the held-out split of the data that the run was trained on
    python model_test.py runs/NAME --data ROOT                  the held-out split of another data root
    python model_test.py runs/A runs/B runs/C                   several runs and their differences, on the same patients
    python model_test.py runs/NAME --suspects 20                the studies that disagree most with their labels
    python model_test.py runs/NAME --audit                      how far scores move when corners, borders, sides change
    python model_test.py runs/NAME path/to/study1_positive      one study: its images are its views
    python model_test.py runs/NAME image1.png image2.png        each image as a study of its own
    python model_test.py runs/NAME FOLDER                       every study below a folder, into predictions.csv
    python model_test.py runs/NAME STUDY --heatmap heatmaps     and where the network looked

A view's probability is the network's, at the run's temperature. A study's is the mean over its views; at or above the run's
threshold it is Positive. Both were fitted on tuning studies. A split's scores go to predictions.csv and scores.json in the run
folder, each with a 95 % interval from a bootstrap over patients, [-] where draws of patients do not differ (no mistake, say).
This is research software, not a medical device.
Exit status: 0 done; 1 a fault of data or checkpoint; 2 a wrong command line.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

if __name__ == "__main__":
    from bones.system import scripts as interrupts

    interrupts.quit_at_once()

from bones.runs import checkpoints
from bones.system import backend

backend.choose(scoring=not {"--heatmap", "--pointing"} & set(sys.argv))  # maps take gradients, which OpenVINO lacks

import keras
import numpy as np
import pandas as pd

from bones.data import images
from bones.data.labels import folder_labels, study_paths
from bones.data.layouts import data_root
from bones.data.phantoms import sets as phantom
from bones.data.pixels import Rows, load_pixels
from bones.data.table import STUDY
from bones.data.views import DataError, check_both_classes, find_views, fingerprint, is_same
from bones.evaluation import audit
from bones.evaluation import heatmaps as heatmap
from bones.evaluation import named_studies as studies
from bones.evaluation.comparison import Scored, difference, markdown
from bones.evaluation.pointing import pointing_table
from bones.networks.acceleration import speed_up
from bones.runs import card as model_card
from bones.runs.data import load_parts
from bones.runs.folder import PREDICTIONS, RunFolder
from bones.scores.probabilities import study_probabilities
from bones.scores.report import report
from bones.scores.text import as_table, as_text, type_table
from bones.system.errors import HeatmapError, RunError


def main(argv=None):
    """Score as the command line says; returns the exit status."""
    options = parse_options(argv)
    try:
        run = RunFolder.open(options.runs[0])
        if options.studies:
            studies.call_all(run, options.studies, options.csv, options.heatmap, options.skip_unreadable)
        elif options.suspects:
            show_suspects(run, options)
        elif options.audit:
            show_audit(run, options)
        elif options.pointing:
            show_pointing(run, options)
        else:
            runs = [RunFolder.open(path) for path in options.runs]
            show_scores([score_split(run, load_network(run), options) for run in runs], options)
    except (DataError, RunError, HeatmapError, OSError) as fault:
        print(f"model_test.py: {fault}", file=sys.stderr)
        return 1
    return 0


def parse_options(argv):
    """The command line, checked; the paths in front that are run folders are the runs, the others are studies."""
    parser = build_parser()
    options = parser.parse_intermixed_args(argv)  # a study may also come behind an option
    repeated = {path for path in options.paths if options.paths.count(path) > 1}
    if repeated:
        parser.error(f"{' '.join(repeated)} is named twice.")
    runs = [path for place, path in enumerate(options.paths) if place == 0 or is_run(path)]
    options.runs, options.studies = runs, [path for path in options.paths[1:] if not is_run(path)]
    whole = ("data", "study_type", "split", "labels", "markdown", "json", "suspects", "audit", "pointing")
    given = ["--" + name.replace("_", "-") for name in whole if getattr(options, name)]
    if options.studies and given:
        parser.error(f"{', '.join(given)} belongs to scoring a whole split: leave it out, or name no study.")
    if options.studies and len(runs) > 1:
        parser.error(f"{' '.join(options.studies)}: a study is called by one run; name one run, or no study.")
    single = [name for name in ("--suspects", "--audit", "--pointing") if name in given]
    single += ["--split tuning"] * (options.split == "tuning")
    if (options.csv or options.heatmap) and not options.studies:
        parser.error("--csv and --heatmap are for studies that are named: name a folder of studies, a study, or an image.")
    if len(runs) > 1 and single:
        parser.error(f"{single[0]} takes one run: each has tuning patients and probabilities of its own.")
    options.split = options.split or "held-out"
    return options


def build_parser():
    """Every option, with None or False where it is left out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="RUN|STUDY",
        help="one or more run folders that mura.py made; after one run also studies to call: folders of views, or images",
    )
    split = parser.add_argument_group("a whole split (no study named)")
    split.add_argument("--data", metavar="ROOT", help="data root (default: the one that the run was trained on)")
    split.add_argument("--study-type", nargs="+", metavar="XR_*", help="study types, or all (default: those of the training)")
    split.add_argument(
        "--split", choices=("held-out", "tuning"), help="MURA's valid/ folder, or the tuning patients (default held-out)"
    )
    split.add_argument(
        "--labels",
        type=os.path.abspath,
        metavar="FILE.csv",
        help="study paths and labels that override those of the folders' names (default: those of the training, on its data)",
    )
    parser.add_argument("--skip-unreadable", action="store_true", help="leave out views that do not decode instead of stopping")
    called = parser.add_argument_group("studies that are named")
    called.add_argument(
        "--csv",
        metavar="FILE",
        help="write a row a view instead of printing a line (default, where a folder holds several studies: predictions.csv)",
    )
    called.add_argument("--heatmap", metavar="FOLDER", help="draw where the network looked, a picture a study")
    form = split.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the README's results table")
    form.add_argument("--json", action="store_true", help="print scores.json, of several runs a list of them")
    form.add_argument(
        "--suspects", type=positive_int, metavar="N", help="list the N studies whose probability disagrees most with the label"
    )
    form.add_argument("--audit", action="store_true", help="score changed films, too: does the network look at the bones?")
    form.add_argument("--pointing", action="store_true", help="on phantoms: do heat maps point at what is abnormal?")
    return parser


def positive_int(text):
    """argparse type: an int above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def is_run(path):
    """Whether a path is a run folder."""
    return (Path(path) / "run.json").is_file()


def load_network(run):
    """The run's best network, ready to predict."""
    return speed_up(checkpoints.load_network(run))


# ---------------------------------------------------------------------------------------------------------------------
# A whole split


def score_split(run, network, options):
    """Score a split and write predictions.csv and scores.json. Returns: results.Scored."""
    settings = run.settings()
    views, pixels, left_out = load_split(run, settings, options)
    predictions = views.assign(probability=studies.predict(network, pixels, settings))
    root = options.data or settings["data"]["root"]
    by_folder = folder_labels(views)
    content = {
        "data": root,
        "phantom": phantom.describe(data_root(root)),
        "split": options.split,
        "study_types": sorted(predictions["study_type"].unique()),
        "left_out": left_out,
        "patients": predictions["patient"].nunique(),
        "temperature": settings["temperature"],
        "backend": keras.backend.backend(),
        "corrected": len(views[by_folder != views["label"]].drop_duplicates(STUDY)),
        **report(predictions, settings["threshold"]),
    }
    if content["corrected"]:
        content["folder_labels"] = report(predictions.assign(label=by_folder), settings["threshold"])
    run.write_predictions(predictions[PREDICTIONS])
    run.write_json("scores.json", content)
    model_card.write(run)
    return Scored(str(run.path), settings, predictions, content)


def load_split(run, settings, options):
    """Views and pixels of the split asked for, and how many views were left out.

    Raises: DataError when they are not as they should be.
    """
    trained = settings["options"]
    root = options.data or settings["data"]["root"]
    labels = options.labels or (None if options.data else trained.get("labels"))
    study_type, skip = options.study_type or trained["study_type"], options.skip_unreadable
    if options.split == "tuning":  # drawn again as the training drew them
        again = {"data": root, "study_type": study_type, "labels": labels}
        again["skip_unreadable"] = skip or trained["skip_unreadable"]
        _, (kept, pixels), left_out = load_parts(trained | again)
        check_same_tuning(run, settings, root, kept)
    else:
        views = find_views(root, "held-out", study_type, labels)
        kept, pixels = load_pixels(views, trained["size"], trained["resize"], skip)
        left_out = len(views) - len(kept)
    check_both_classes(kept, f"the readable views of {root}")
    return kept, pixels, left_out


def check_same_tuning(run, settings, root, tuning):
    """Raise DataError unless the tuning views are those that the training kept aside."""
    recorded, found = settings["data"].get("tuning"), fingerprint(tuning, root)
    if not is_same(recorded, found):
        raise DataError(
            f"{root} is not the data that {run.path} was trained on, so nobody knows which patients are its tuning patients.\n"
            f"Recorded: {recorded}\nFound:    {found}\n"
            "Pass the data, study types and labels of the training, or leave out --split tuning."
        )


def show_scores(runs, options):
    """Print the scores of one run or several in the form asked for."""
    if options.json:
        reports = [run.report for run in runs]
        print(json.dumps(reports if len(runs) > 1 else reports[0], indent=2))
    elif options.markdown:
        print(markdown(runs))
    else:
        for run in runs:
            print_report(run, options)
        for other in runs[1:]:
            print(f"\n{difference(runs[:1], [other])}")
        names = shlex.join(run.name for run in runs)
        print(f"Next: python plot_results.py {names}")


def print_report(run, options):
    """The scores as tables with what one needs to read them."""
    report, settings = run.report, run.settings
    name = {"held-out": "held-out (valid/)", "tuning": "tuning (it chose epoch and threshold, so this flatters)"}
    mark = " (PHANTOMS: this says that the code works, nothing about patients)" if report["phantom"] else ""
    fitted = "fitted on the tuning studies" if settings.get("finished") else "not fitted: the training has not finished"
    print(f"{run.name}: {name[report['split']]} of {report['data']}{mark}")
    print(f"{report['patients']} patients, from whom the 95 % intervals are drawn; scored on {report['backend']}")
    print(f"Threshold {report['threshold']:.3f} and temperature {report['temperature']:.2f}, {fitted}\n")
    table = as_table(report)
    if report["corrected"]:
        by_folder = as_table(report["folder_labels"]).add_suffix(", folder names")
        table = pd.concat([table.add_suffix(", corrected"), by_folder], axis=1)
        print(
            f"{report['corrected']} studies have corrected labels; beside them, the scores with those of the folders' names.\n"
        )
    print(table.to_string())
    if len(report["by_study_type"]) > 1:
        print(f"\n{type_table(report).to_string()}")
    if options.labels and not report["corrected"]:
        print(f"\n{options.labels} changes the label of no study of this split.")
    if report["left_out"]:
        print(f"\n{report['left_out']} unreadable views were left out.")
    print(f"\nWrote predictions.csv, scores.json and MODEL_CARD.md into {run.name}. Research software, not a medical device.")


# ---------------------------------------------------------------------------------------------------------------------
# Suspect labels and shortcuts


def show_suspects(run, options):
    """Print the studies that disagree most with their labels, and write them to suspects.csv and suspects.png."""
    scored = score_split(run, load_network(run), options)
    views = scored.predictions
    views = views.assign(study=study_paths(views, data_root(scored.report["data"])))
    called = study_probabilities(views)
    order = np.argsort(-np.abs(called["label"] - called["probability"]).to_numpy(), kind="stable")[: options.suspects]
    table = called.iloc[order][["study", "label", "probability", "views"]].round(3)
    run.write_csv("suspects.csv", table)
    # A row a view, in the table's order.
    shown = table[["study", "label", "probability"]].merge(views[["study", "path"]], on="study")
    captions = [
        f"{Path(study).parent.name} {Path(study).name.split('_')[0]}\n{'abnormal' if label else 'normal'}: {probability:.2f}"
        for study, label, probability in zip(shown["study"], shown["label"], shown["probability"], strict=True)
    ]
    run.write_image("suspects.png", images.contact_sheet([images.read_grey(path) for path in shown["path"]], captions, 5, 220))
    print(table.to_string(index=False))
    print(f"\nWrote {run / 'suspects.csv'} and suspects.png with their views: look at them with someone who reads films.")
    print("Correct the label column of a copy, keep what you are sure of, and pass it as --labels.")
    print("Next:", again(run, options, "--labels", "FILE.csv"))


def show_audit(run, options):
    """Print how far scores move when films are changed in ways that should not matter, and draw examples."""
    network = load_network(run)
    scored = score_split(run, network, options)
    report, views, trained, rows = scored.report, scored.predictions, scored.settings["options"], []
    for name, change in audit.CHANGES.items():
        _, pixels = load_pixels(views, trained["size"], trained["resize"], cache=None, change=change)
        changed = views.assign(probability=studies.predict(network, pixels, scored.settings))
        rows.append(audit.compare(name, views, changed, report["threshold"]))
    table = pd.DataFrame(rows)
    run.write_csv("audit.csv", table)
    some = views["path"].iloc[np.unique(np.linspace(0, len(views) - 1, 4).astype(int))]
    run.write_image("audit.png", audit.examples([images.read_grey(path) for path in some]))
    print(f"{report['split']} studies of {report['data']}{' (PHANTOMS)' if report['phantom'] else ''}")
    print(f"AUROC as they are {as_text(report['studies']['auroc'])}\n")
    print(table.to_string(index=False))
    print("\nIf the AUROC falls when corners, borders or all but the limb are hidden, the network reads something there.")
    print("Mirroring and inverting show what it has learned not to mind. audit.png shows the changes.")
    print(f"Wrote {run / 'audit.csv'} and audit.png.")
    print("Next:", again(run, options, "--suspects", "20"))


def again(run, options, *more):
    """The command line that scores the same data in another way."""
    words = ["--data", options.data] if options.data else []
    words += ["--study-type", *options.study_type] if options.study_type else []
    words += ["--split", "tuning"] if options.split == "tuning" else []
    words += ["--skip-unreadable"] if options.skip_unreadable else []
    return shlex.join(["python", "model_test.py", str(run.path), *words, *more])


def show_pointing(run, options):
    """Print how often the maps' maxima lie where phantoms are abnormal."""
    settings = run.settings()
    views, pixels, _ = load_split(run, settings, options)
    root, resize = data_root(options.data or settings["data"]["root"]), settings["options"]["resize"]
    boxes, sides = phantom.boxes(root, views["path"])
    abnormal = np.flatnonzero(~np.isnan(boxes[:, 0]))
    maps = heatmap.mapper(checkpoints.load_network(run))(Rows(pixels, abnormal))
    found = {}
    for kind, values in maps.items():
        peaks = [heatmap.peak(one, *side, resize) for one, side in zip(values, sides[abnormal], strict=True)]
        found[kind] = heatmap.pointing(views.iloc[abnormal], peaks, boxes[abnormal])
    run.write_json("pointing.json", found)
    print(f"{len(abnormal)} abnormal {options.split} views of {root} (PHANTOMS): where the maximum of each map lies\n")
    print(pointing_table(found, {kind: values.shape[1:] for kind, values in maps.items()}).to_string())
    first = next(iter(found.values()))
    print(f"\nBoxes cover {first['area']:.3f} of a film; the film's middle lies in {first['middle']:.3f} of them.")
    print("Other films' boxes: what maps get that know where injuries lie in general. The gain is what they know of this film.")
    print(f"Wrote {run / 'pointing.json'}.")


if __name__ == "__main__":
    sys.exit(interrupts.run(main))

"""Score a trained network on held-out studies, or call one study Positive or Negative.

    python model_test.py runs/NAME                              the held-out split of the data that the run was trained on
    python model_test.py runs/NAME --data ROOT                  the held-out split of another data root
    python model_test.py runs/NAME path/to/study1_positive      one study: its images are its views
    python model_test.py runs/NAME image1.png image2.png        each image as a study of its own

A study's probability is the mean over its views; at or above the run's threshold it is Positive. A split's scores go to
predictions.csv and scores.json in the run folder. This is research software, not a medical device.
Exit status: 0 done; 1 a fault of data or checkpoint; 2 a wrong command line.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's own notices; must be set before Keras loads it

import pandas as pd

import data_loader
import networks
import phantom
import scores
from data_loader import DataError
from run_folder import PREDICTIONS, RunError, RunFolder

BATCH_SIZE = 32  # views at a time; changes speed and memory, not the result


def main(argv=None):
    """Score as the command line says; returns the exit status."""
    options = parse_options(argv)
    try:
        run = RunFolder.open(options.run)
        settings = run.settings()
        network = networks.fuse_batch_normalisation(run.load_network())
        if options.studies:
            call_studies(network, settings, options.studies)
        else:
            score_split(run, network, settings, options)
    except (DataError, RunError, OSError) as fault:
        print(f"model_test.py: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("model_test.py: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def parse_options(argv):
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("run", metavar="RUN", help="run folder that mura.py made")
    parser.add_argument("studies", nargs="*", metavar="STUDY_FOLDER_OR_IMAGE", help="studies to call; left out: a whole split")
    split = parser.add_argument_group("a whole split")
    split.add_argument("--data", metavar="ROOT", help="data root (default: the one that the run was trained on)")
    split.add_argument("--study-type", nargs="+", metavar="XR_*", help="study types, or all (default: those of the training)")
    split.add_argument(
        "--split", choices=("held-out", "tuning"), help="MURA's valid/ folder, or the tuning patients (default held-out)"
    )
    split.add_argument("--skip-unreadable", action="store_true", help="leave out views that do not decode instead of stopping")
    form = split.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print a row for the README's results table")
    form.add_argument("--json", action="store_true", help="print scores.json")
    options = parser.parse_args(argv)
    if options.studies:
        mixed = [
            name for name in ("data", "study_type", "split", "skip_unreadable", "markdown", "json") if getattr(options, name)
        ]
        if mixed:
            names = ", ".join("--" + name.replace("_", "-") for name in mixed)
            parser.error(f"{names} belongs to scoring a whole split: leave it out, or name no study.")
    options.split = options.split or "held-out"
    return options


def predict(network, pixels):
    """Probability of each view. Returns: (n,) float32."""
    return network.predict(data_loader.Batches(pixels, BATCH_SIZE), verbose=0)[:, 0]


# ---------------------------------------------------------------------------------------------------------------------
# A whole split


def score_split(run, network, settings, options):
    """Score a split, write predictions.csv and scores.json, and print."""
    root = options.data or settings["data"]["root"]
    study_types = options.study_type or settings["options"]["study_type"]
    trained = settings["options"]
    views = data_loader.find_views(root, "held-out" if options.split == "held-out" else "train", study_types)
    skip = options.skip_unreadable or (options.split == "tuning" and trained["skip_unreadable"])
    kept, pixels = data_loader.load_pixels(views, trained["size"], trained["resize"], skip)
    left_out = len(views) - len(kept)
    if options.split == "tuning":  # drawn again as the training drew them
        whole, (_, kept) = kept, data_loader.split_by_patient(kept, trained["tuning_fraction"], trained["seed"])
        pixels = pixels.of(whole, kept)
        check_same_tuning(run, settings, root, kept)
    data_loader.check_both_classes(kept, f"the readable views of {root}")
    predictions = kept.assign(probability=predict(network, pixels))[PREDICTIONS]
    report = {
        "data": root,
        "phantom": phantom.describe(data_loader.data_root(root)),
        "split": options.split,
        "study_types": sorted(predictions["study_type"].unique()),
        "left_out": left_out,
        "patients": predictions["patient"].nunique(),
        **scores.report(predictions, settings["threshold"]),
    }
    run.write_predictions(predictions)
    run.write_json("scores.json", report)
    if options.json:
        print(json.dumps(report, indent=2))
    elif options.markdown:
        print(markdown(run, settings, report))
    else:
        print_report(run, settings, report)


def check_same_tuning(run, settings, root, tuning):
    """Raise DataError unless the tuning views are those that the training kept aside."""
    recorded, found = settings["data"].get("tuning"), data_loader.fingerprint(tuning, root)
    if recorded != found:
        raise DataError(
            f"{root} is not the data that {run.path} was trained on, so nobody knows which patients are its tuning patients.\n"
            f"Recorded: {recorded}\nFound:    {found}\nPass the training data and study types, or leave out --split tuning."
        )


def print_report(run, settings, report):
    """The scores as a table with what one needs to read them."""
    name = {"held-out": "held-out (valid/)", "tuning": "tuning (it chose the epoch, so this flatters)"}
    mark = " (PHANTOMS: this says that the code works, nothing about patients)" if report["phantom"] else ""
    print(f"{name[report['split']]} of {report['data']}{mark}")
    print(f"{report['patients']} patients; Positive at a probability of {report['threshold']:g} or more\n")
    print(scores.as_table(report).to_string(float_format="%.3f", na_rep="-"))
    for unit in ("views", "studies"):
        counts = report[unit]["confusion"]
        print(f"\n{unit:8} called Negative  called Positive")
        print(f"normal   {counts['true_negative']:15}  {counts['false_positive']:15}")
        print(f"abnormal {counts['false_negative']:15}  {counts['true_positive']:15}")
    if report["left_out"]:
        print(f"\n{report['left_out']} unreadable views were left out.")
    print(f"\nWrote {run / 'predictions.csv'} and scores.json. Research software, not a medical device.")
    print(f"Next: python plot_results.py {shlex.quote(str(run.path))}")


def markdown(run, settings, report):
    """Header and row of the README's results table."""
    options, studies = settings["options"], report["studies"]
    seconds, record = settings["training_seconds"], settings
    weights = {"none": "random", "imagenet": "ImageNet"}.get(options["weights"], Path(options["weights"]).name)
    data = f"{Path(report['data']).resolve().name} {' '.join(report['study_types'])}" + (
        " (phantom)" if report["phantom"] else ""
    )
    time = f"{seconds / 60:.0f} min, {record['device']}" if seconds else "not finished"
    cells = {
        "Network": options["network"],
        "Recipe": f"{options['recipe']}, {weights} weights, {options['size']} px, {options['epochs']} epochs",
        "Data": f"{data}, {report['split']}",
        "Studies (patients)": f"{studies['count']} ({report['patients']})",
        "Seed": options["seed"],
        "AUROC": number(studies["auroc"]),
        "Kappa": number(studies["kappa"]),
        "Accuracy": number(studies["accuracy"]),
        "Sensitivity": number(studies["sensitivity"]),
        "Specificity": number(studies["specificity"]),
        "Training": time,
        "Command": f"`{record['command']}`",
    }
    rows = (cells.keys(), ["---"] * len(cells), (str(cell).replace("|", "\\|") for cell in cells.values()))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def number(score):
    """A score to three decimals, with its interval where there is one."""
    value, low, high = (score[name] for name in ("value", "low", "high"))
    if value is None:
        return "-"
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None else "")


# ---------------------------------------------------------------------------------------------------------------------
# One study


def call_studies(network, settings, names):
    """Print a line a view, `path<TAB>Positive|Negative<TAB>probability`, and then the study's, for each folder or image."""
    views = study_views(names)
    views, pixels = data_loader.load_pixels(views, settings["options"]["size"], settings["options"]["resize"], cache=None)
    views = views.assign(probability=predict(network, pixels))
    for name, study in views.groupby("study", sort=False):
        for path, probability in zip(study["path"], study["probability"], strict=True):
            print(line(path, probability, settings["threshold"]))
        print(line(f"study {name}", study["probability"].mean(), settings["threshold"]))
    note = f"Positive is a probability of {settings['threshold']:g} or more. Research software, not a medical device."
    print(note, file=sys.stderr)


def study_views(names):
    """Table of path and study of the images named, and of those in the folders named.

    Raises: DataError when a path is missing, or a folder holds folders: a patient, a split or a data root.
    """
    rows = []
    for name in names:
        path = Path(name)
        if not path.exists():
            raise DataError(f"{path}: no such file or folder; expected a study's folder or an image.")
        if path.is_dir() and data_loader.subfolders(path):
            raise DataError(
                f"{path} is no study folder: it holds folders. Pass one study, or score a data root with --data {path}."
            )
        images = data_loader.images_of(path) if path.is_dir() else [path]
        rows += [(str(image), name) for image in images]
    return pd.DataFrame(rows, columns=["path", "study"])


def line(name, probability, threshold):
    """One line of output on a view or study."""
    decision = "Positive" if scores.decisions(probability, threshold) else "Negative"
    return f"{name}\t{decision}\t{probability:.3f}"


if __name__ == "__main__":
    sys.exit(main())

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

import os
import sys

from bones.runs import record
from bones.system import scripts


@scripts.command
def main(argv=None):
    """Score as the command line says; returns the exit status."""
    options = parse_options(argv)
    takes_gradients = options.heatmap or options.pointing  # OpenVINO, the fastest on a CPU, has none
    with scripts.importing(preferred=None if takes_gradients else "openvino"):
        from bones.evaluation import audit, named_studies, pointing, split, suspects
        from bones.evaluation.classifier import Classifier
        from bones.runs.data import Selection
        from bones.runs.folder import RunFolder
    runs = [RunFolder.open(path) for path in options.runs]
    selection = Selection(options.split, options.data, options.study_type, options.labels, options.skip_unreadable)
    if options.studies:
        named_studies.classify_named(runs[0], options.studies, options.csv, options.heatmap, options.skip_unreadable)
    elif options.suspects:
        suspects.show_suspects(runs[0], selection, options.suspects)
    elif options.audit:
        audit.show_audit(runs[0], selection)
    elif options.pointing:
        pointing.show_pointing(runs[0], selection)
    else:
        scored = [split.score_split(run, Classifier(run), selection) for run in runs]
        form = "json" if options.json else "markdown" if options.markdown else "text"
        split.show_scores(scored, form, options.labels)


def parse_options(argv):
    """The command line, checked; the paths in front that are run folders are the runs, the others are studies."""
    parser = build_parser()
    options = parser.parse_intermixed_args(argv)  # a study may also come behind an option
    repeated = {path for path in options.paths if options.paths.count(path) > 1}
    if repeated:
        parser.error(f"{' '.join(repeated)} is named twice.")
    runs = [path for place, path in enumerate(options.paths) if place == 0 or record.is_run(path)]
    options.runs, options.studies = runs, [path for path in options.paths[1:] if not record.is_run(path)]
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
    parser = scripts.parser(__doc__)
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
        "--suspects",
        type=scripts.positive(int),
        metavar="N",
        help="list the N studies whose probability disagrees most with the label",
    )
    form.add_argument("--audit", action="store_true", help="score changed films, too: does the network look at the bones?")
    form.add_argument("--pointing", action="store_true", help="on phantoms: do heat maps point at what is abnormal?")
    return parser


if __name__ == "__main__":
    sys.exit(scripts.run(main))

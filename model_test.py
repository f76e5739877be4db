"""Score trained networks on held-out studies, or classify studies as Positive or Negative.

    python model_test.py runs/NAME                              the held-out split of the data that the run was trained on
    python model_test.py runs/NAME --data ROOT                  the held-out split of another data root, or of several
    python model_test.py runs/A runs/B runs/C                   several runs and their differences on the same patients
    python model_test.py runs/NAME --suspects 20                the studies that disagree most with their labels
    python model_test.py runs/NAME --audit                      how scores change when corners, borders or sides change
    python model_test.py runs/NAME --groups tags.csv            also the scores of groups of images, such as with hardware
    python model_test.py runs/NAME --pointing --boxes FILE.csv  whether heat maps point at annotated fractures
    python model_test.py runs/NAME path/to/study1_positive      one study: its images are its views
    python model_test.py runs/NAME image1.png image2.png        each image as a study of its own
    python model_test.py image1.png                             the same with weights/fracatlas, the run of this repository
    python model_test.py runs/NAME FOLDER                       every study below a folder, written to predictions.csv
    python model_test.py runs/NAME STUDY --heatmap heatmaps     also heat maps of the evidence

A view's probability is the network's output at the run's temperature. A study's is the mean over its views; at or above the
run's threshold it is Positive. Both are fitted on tuning studies. The scores of a split are written to predictions.csv and
scores.json in the run folder, with 95 % intervals from a bootstrap over patients, or [-] if resampling gives no variation.
This is research software, not a medical device.
Exit status: 0 done; 1 an error of data or checkpoint; 2 a wrong command line.
"""

import os
import sys

from bones.data import source
from bones.runs import record
from bones.system import scripts
from bones.system.errors import RunError
from bones.system.files import from_here

DATA = ("data", "table", "layout", "positive", "study_type", "split", "labels", "groups")  # options of a whole split
FORMS = ("markdown", "json", "suspects", "audit", "pointing", "boxes")  # the same, of what is printed
SEVERAL = ("data", "table", "study_type", "groups", "boxes")  # options with several values


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    options = parse_options(argv)
    takes_gradients = options.heatmap or options.pointing  # OpenVINO, the fastest on a CPU, has none
    with scripts.importing(preferred=None if takes_gradients else "openvino"):
        from bones.evaluation import named_studies
        from bones.runs.folder import RunFolder

        if not options.studies:  # whose first answer needs less
            from bones.evaluation import audit, pointing, split, suspects
            from bones.evaluation.classifier import Classifier
            from bones.runs.data import Selection
    runs = [RunFolder.open(existing(path)) for path in options.runs]
    if options.studies:
        named_studies.classify_named(runs[0], options.studies, options.csv, options.heatmap, options.skip_unreadable)
        return
    selection = Selection(options.split, options.source, options.study_type, options.labels, options.skip_unreadable)
    if options.suspects or options.audit or options.pointing:
        runs[0].check_not_shipped()  # before the work
    if options.suspects:
        suspects.show_suspects(runs[0], selection, options.suspects)
    elif options.audit:
        audit.show_audit(runs[0], selection)
    elif options.pointing:
        pointing.show_pointing(runs[0], selection, options.boxes)
    else:
        scored = [split.score_split(run, Classifier(run), selection, options.groups or ()) for run in runs]
        form = "json" if options.json else "markdown" if options.markdown else "text"
        split.show_scores(scored, form, options.labels)


def existing(path):
    """The path of a run. Raises: RunError when it does not exist, which may also be meant as a study."""
    if not os.path.exists(path):
        raise RunError(f"{path}: no such file or folder. Expected a run folder of mura.py, a study's folder or an image.")
    return path


def parse_options(argv):
    """Parse and check the command line: paths that are run folders are runs, the others are studies."""
    parser = build_parser()
    options = parser.parse_intermixed_args(argv)  # studies may follow options
    take_runs_out(options)
    if not options.paths and not options.data and not options.table:
        parser.error("name a run folder of mura.py, or a study to classify; studies stand in front of options.")
    repeated = {path for path in options.paths if options.paths.count(path) > 1}
    if repeated:
        parser.error(f"{' '.join(repeated)} is named twice.")
    runs, options.studies = runs_and_studies(options.paths)
    options.runs = runs
    given = ["--" + name.replace("_", "-") for name in (*DATA, *FORMS) if getattr(options, name)]
    if options.studies and given:
        parser.error(f"{', '.join(given)} is for scoring a whole split: remove it, or name no study.")
    if options.studies and len(runs) > 1:
        parser.error(f"{' '.join(options.studies)}: a study is classified by one run; name one run, or no study.")
    single = [name for name in ("--suspects", "--audit", "--pointing") if name in given]
    single += ["--split tuning"] * (options.split == "tuning")
    if options.groups and set(given) & {"--suspects", "--audit", "--pointing"}:
        parser.error("--groups is for the scores of a split: leave out --suspects, --audit and --pointing.")
    if options.boxes and not options.pointing:
        parser.error("--boxes needs --pointing, which compares heat maps with the boxes.")
    if (options.csv or options.heatmap) and not options.studies:
        parser.error("--csv and --heatmap need named studies: name a folder of studies, a study, or an image.")
    if len(runs) > 1 and single:
        parser.error(f"{single[0]} takes one run: each has its own tuning patients and probabilities.")
    options.split = options.split or "held-out"
    options.source = source.of_options(parser, options.data, options.table, options.layout, options.positive)
    return options


def take_runs_out(options):
    """Move run folders that follow an option with several values, as in --data ROOT runs/NAME, to the paths."""
    for name in SEVERAL:
        values = getattr(options, name) or []
        options.paths += [value for value in values if record.is_run(value)]
        setattr(options, name, [value for value in values if not record.is_run(value)] or None)


def runs_and_studies(paths):
    """Divide the named paths into run folders and studies; without a run folder, the run of this repository is used."""
    runs, studies = ([path for path in paths if record.is_run(path) == kind] for kind in (True, False))
    if runs:
        return runs, studies
    if studies and not os.path.exists(studies[0]):
        return studies[:1], studies[1:]  # `existing` says so
    record.check_is_run(record.SHIPPED)
    shipped = from_here(record.SHIPPED)
    print(f"model_test.py: no run is named, so {shipped} is used; its MODEL_CARD.md says what it can do.", file=sys.stderr)
    return [shipped], studies


def build_parser():
    """Build the parser; omitted options are None or False."""
    parser = scripts.parser(__doc__)
    parser.add_argument(
        "paths",
        nargs="*",
        metavar="RUN|STUDY",
        help="run folders of mura.py; after one run, or alone, studies to classify: folders of views, or images",
    )
    split = parser.add_argument_group("a whole split (no study named)")
    data = "data root, or several as one (default: the run's training data)"
    split.add_argument("--data", nargs="+", metavar="ROOT", help=data)
    source.add_options(split)
    split.add_argument("--study-type", nargs="+", metavar="XR_*", help="study types, or all (default: the run's)")
    split.add_argument(
        "--split", choices=("held-out", "tuning"), help="MURA's valid/ folder, or the tuning patients (default held-out)"
    )
    split.add_argument(
        "--labels",
        type=os.path.abspath,
        metavar="FILE.csv",
        help="study paths and labels that override those of folder names (default: the run's, on its training data)",
    )
    split.add_argument(
        "--groups",
        nargs="+",
        metavar="FILE.csv",
        help="also score groups: a column path or study, and a column for each grouping, such as hardware",
    )
    boxes = "boxes around abnormalities, for --pointing: path, left, top, right, bottom in pixels (default: those of phantoms)"
    split.add_argument("--boxes", nargs="+", metavar="FILE.csv", help=boxes)
    parser.add_argument("--skip-unreadable", action="store_true", help="skip views that do not decode instead of stopping")
    called = parser.add_argument_group("named studies")
    called.add_argument(
        "--csv",
        metavar="FILE",
        help="write one row per view instead of printing (default for a folder with several studies: predictions.csv)",
    )
    called.add_argument("--heatmap", metavar="FOLDER", help="draw heat maps, one figure per study")
    form = split.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print the README's results table")
    form.add_argument("--json", action="store_true", help="print scores.json; for several runs, a list of them")
    form.add_argument(
        "--suspects",
        type=scripts.positive(int),
        metavar="N",
        help="list the N studies whose probability disagrees most with the label",
    )
    form.add_argument("--audit", action="store_true", help="also score changed images: does the network rely on the bones?")
    form.add_argument("--pointing", action="store_true", help="do heat maps locate the abnormality?")
    return parser


if __name__ == "__main__":
    sys.exit(scripts.run(main))

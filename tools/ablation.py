"""Ablation study: train each row of docs/recipe.md with several seeds, optionally in parallel, and print the table.

    python -m tools.ablation --data ROOT --out runs/ablation                    every row, seeds 0 1 2; resumes
    python -m tools.ablation --data ROOT --out runs/ablation --rows base ema    some rows
    python -m tools.ablation --record docs/records/ablation --table             the table of recorded runs

A quarter of train/'s patients is held out in --out/develop and scored. ROOT/valid/ is not used, so that it stays unseen while
a recipe is chosen with this table. Every row changes one setting of the base. Differences are between means over seeds, with a
95 % interval over patients and seeds, on the same patients. Two small files in --record, runs.csv and probabilities.csv,
contain what the table needs of each run; a recorded run is not trained again.
Exit status: 0 done; 1 a command failed; 2 a wrong command line; 130 stopped by Ctrl-C.
"""

import collections
import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from PIL import ImageOps  # contrast

from bones.data import images
from bones.data.layouts import data_root
from bones.data.phantoms import sets as phantom
from bones.data.splits import split_by_patient
from bones.data.views import find_views
from bones.runs.folder import RunFolder
from bones.runs.options import from_text
from bones.scores.fitting import candidate_thresholds, fit_threshold, nearest_to_half
from bones.scores.metrics import NUMBERS, cohen_kappa
from bones.scores.probabilities import decisions, study_probabilities
from bones.scores.report import adjust, always_negative, differences, mean_scores
from bones.scores.text import as_text, difference_text, markdown_table, value_text
from bones.system import scripts
from bones.system.errors import BenchmarkError
from bones.system.files import whole_folder
from tools.ablation_record import Record

DEVELOPMENT_SHARE = 0.25  # of train/'s patients
BASE = "--weights none --size 64 --epochs 12 --set chosen=last statistics_views=160 standardise=false"
# Row -> arguments added to the base's command; of several, each starts from the weights of the one before.
ROWS = {
    "base": [""],
    "moving-statistics": ["--set statistics_views=0"],
    "standardise": ["--set standardise=true"],
    "ema": ["--set ema=0.99"],
    "plateau": ["--set schedule=plateau"],
    "rate-1e-4": ["--learning-rate 1e-4"],
    "rate-1e-3": ["--learning-rate 1e-3"],
    "adamw": ["--set weight_decay=0.05"],
    "l2": ["--set l2=1e-4"],
    "label-smoothing": ["--set label_smoothing=0.1"],
    "mixup": ["--set mixup=0.2"],
    "erasing": ["--set erasing=0.5"],
    "weaker-geometry": ["--set rotation=10"],
    "stronger-geometry": ["--set rotation=30 shift=0.1 zoom=0.2"],
    "exposure": ["--set contrast=0.3 brightness=0.1"],
    "batch-16": ["--batch-size 16"],
    "batch-32": ["--batch-size 32"],
    "dropout": ["--set dropout=0.5"],
    "stochastic-depth": ["--set stochastic_depth=0.1"],
    "128-px": ["--size 128"],
    "progressive": ["--epochs 8", "--size 96 --epochs 4"],
    "longer": ["--epochs 24"],
    "class-weights": ["--set class_weighted=true"],
    "contrast-stretch": [""],
    "best-epoch": ["--set chosen=best"],
    "flip-averaging": ["--set flip_averaging=true"],
    "hand-alone": ["--study-type XR_HAND"],
    "hand-from-all": ["", "--study-type XR_HAND --epochs 4"],
}
COMPARED_WITH = {"hand-from-all": "hand-alone"}  # the others: base
TRAINED_AS = {"flip-averaging": "base"}  # rows that differ only in scoring reuse the other's training
STRETCHED = ["contrast-stretch"]  # rows on images whose darkest and brightest 1 % are black and white
SHOWN = ("auroc", "average_precision", "kappa", "accuracy")
GAIN = "AUROC minus base's [95 % CI], p"  # a column of the table
SCREENING = (
    "Rows of one seed are screening, and nothing is concluded from them. Intervals are over patients and seeds, with threshold "
    "and temperature held fixed; a seed also draws the tuning patients."
)


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    options = parse_options(argv)
    record = Record(options.record or options.out, settings)
    if not options.table:
        out = Path(options.out).absolute()
        runs = [(row, seed) for seed in options.seeds for row in options.rows if not record.holds(row, seed)]
        make_development_split(options.data, out / "develop")
        if any(row in STRETCHED for row, _ in runs):
            make_development_split(options.data, out / "develop-stretched", stretch=True)
        try:
            failed = train_all(runs, record, out, options)
        except KeyboardInterrupt:
            print("ablation.py: stopped; run the same command to resume", file=sys.stderr)
            return 130
        if failed:
            raise BenchmarkError(f"failed: {', '.join(failed)}; see the .log files in {out}")
    print(tables(record, options.rows, options.seeds))
    return 0


def parse_options(argv):
    """Parse and check the command line."""
    parser = scripts.parser(__doc__)
    parser.add_argument("--data", metavar="ROOT", help="data root whose train/ is split (default: phantoms)")
    parser.add_argument("--study-type", nargs="+", default=["all"], metavar="XR_*", help="study types (default: all)")
    parser.add_argument("--out", metavar="FOLDER", help="folder for the split data and the run folders")
    parser.add_argument("--record", metavar="FOLDER", help="folder of runs.csv and probabilities.csv (default: --out)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="seeds (default 0 1 2)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="parallel runs, each on its share of the CPU cores")
    parser.add_argument("--table", action="store_true", help="only print the table of recorded runs")
    options = parser.parse_args(argv)
    if not options.out and not (options.table and options.record):
        parser.error("--out, the folder for run folders, is required; with --table, --record is enough.")
    if not 1 <= options.jobs <= len(cores()):
        parser.error(f"--jobs must be 1 to {len(cores())} on this machine, not {options.jobs}.")
    return options


def cores():
    """Indices of the CPU cores available to this process."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


def make_development_split(root, out, stretch=False):
    """Create a data root, unless it exists, in which a quarter of the patients of `root`/train are held out.

    Args:
        stretch: stretch the contrast of each image, so that its darkest and brightest 1 % are black and white.
    """
    if out.is_dir():
        return
    root = data_root(root or phantom.ensure())
    train, held_out = split_by_patient(find_views(root, "train", ["all"]), DEVELOPMENT_SHARE, seed=0)
    with whole_folder(out) as partial:
        for path, folder in [*((path, "train") for path in train["path"]), *((path, "valid") for path in held_out["path"])]:
            copy = partial / folder / Path(path).relative_to(root / "train")
            copy.parent.mkdir(parents=True, exist_ok=True)
            if stretch:
                ImageOps.autocontrast(images.read_grey(path), cutoff=1).save(copy.with_suffix(".png"))
            else:
                shutil.copy2(path, copy)
        if phantom.describe(root):
            shutil.copy2(root / phantom.NOTE, partial)


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def settings(row):
    """Training settings of a row as text."""
    return f"{BASE}; " + "; then ".join(ROWS[row])


def train_all(runs, record, out, options):
    """Train and score each (row, seed). Returns: the names of those that failed."""
    left, failed, stopped = collections.deque(runs), [], threading.Event()

    def work(own_cores):
        while left:
            try:
                row, seed = left.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                train_row(row, seed, record, out, options.study_type, own_cores)
            except subprocess.CalledProcessError:
                failed.append(f"{row}-{seed}")
            except KeyboardInterrupt:
                left.clear()
                stopped.set()

    shares = [cores()[place :: options.jobs] for place in range(options.jobs)]
    threads = [threading.Thread(target=work, args=(share,)) for share in shares[1:]]
    for thread in threads:
        thread.start()
    work(shares[0])
    for thread in threads:
        thread.join()
    if stopped.is_set():
        raise KeyboardInterrupt
    return failed


def train_row(row, seed, record, out, study_types, own_cores):
    """Train and score one row with one seed, skip finished steps, and record the result."""
    data, weights = out / ("develop-stretched" if row in STRETCHED else "develop"), ""
    for stage, added in enumerate(ROWS[row]):
        folder = stage_folder(out, row, seed, stage)
        if row in TRAINED_AS:
            reuse_training(stage_folder(out, TRAINED_AS[row], seed, stage), folder, added)
        if not is_finished(folder):
            fresh = ["--data", data, "--study-type", *study_types, *f"{BASE} {added} {weights} --seed {seed}".split()]
            has_begun = (folder / "run.json").is_file()
            if not has_begun:
                shutil.rmtree(folder, ignore_errors=True)
            run_script(["mura.py", "--out", folder, *(["--resume"] if has_begun else fresh)], folder, own_cores)
            if not is_finished(folder):  # stopped by Ctrl-C
                raise KeyboardInterrupt
        weights = f"--weights {folder / 'last.h5'}"
    if not (folder / "scores.json").is_file():
        for split in ("tuning", "held-out"):
            run_script(["model_test.py", folder, "--json", "--split", split], folder, own_cores)
    record.add(row, seed, folder, sum(training_seconds(stage_folder(out, row, seed, stage)) for stage in range(len(ROWS[row]))))


def reuse_training(other, folder, added):
    """Copy a finished run folder and change its scoring settings."""
    if is_finished(other) and not folder.exists():
        shutil.copytree(other, folder, ignore=shutil.ignore_patterns("scores.json", "predictions.csv"))
        run = RunFolder.open(folder)
        content = run.record()
        texts = dict(text.split("=") for text in added.removeprefix("--set ").split())
        options = content.options.changed(**{name: from_text(name, text) for name, text in texts.items()})
        # The training is complete, but the threshold is fitted again.
        run.write_record(content.changed(options=options, finished=None, training_seconds=None))


def training_seconds(folder):
    """Training time of a finished run folder."""
    return RunFolder.open(folder).record().training_seconds


def stage_folder(out, row, seed, stage):
    """Run folder of a stage of a row; the last one has the row's name."""
    before = len(ROWS[row]) - 1 - stage
    return out / (f"{row}-{seed}" + f"-stage{stage + 1}" * (before > 0))


def is_finished(folder):
    """Whether a run folder contains a finished training."""
    return (folder / "run.json").is_file() and bool(training_seconds(folder))


def run_script(arguments, folder, own_cores):
    """Run a script of this repository on some cores; its output goes to a .log file beside its run folder."""
    # One run per core has higher throughput than one run on all cores, because operations of a step wait for each other.
    pin = (lambda: os.sched_setaffinity(0, own_cores)) if hasattr(os, "sched_setaffinity") else None
    command = [sys.executable, *map(str, arguments)]
    with folder.with_name(folder.name + ".log").open("a") as log:
        log.write(shlex.join(command[1:]) + "\n")
        log.flush()
        subprocess.run(command, cwd=Path(__file__).parents[1], stdout=log, stderr=log, preexec_fn=pin, check=True)


# ---------------------------------------------------------------------------------------------------------------------
# Table


def tables(record, rows, seeds):
    """Markdown tables of the trained rows and of the threshold rules."""
    scored = {row: record.scored(row, seeds) for row in ROWS}
    rows = [row for row in rows if scored[row]]
    if not rows:
        return f"{record.folder} contains no run of these rows and seeds."
    runs = [run for row in rows for run in scored[row].values()]
    gains = {row: gain(row, scored) for row in rows}
    tested = adjust(one for one in gains.values() if one)
    by_row = [table_row(row, scored[row], gains[row]) for row in rows]
    always = always_negative(study_probabilities(runs[0].views), SHOWN)
    by_row.append({"Row": "always Negative", "Added to the base": "", "Seeds": ""} | mean_cells(always) | {GAIN: ""})
    notes = f"{SCREENING} P values are adjusted for the {tested} differences of rows with several seeds (Holm)."
    return "\n\n".join([markdown_table(by_row), notes, markdown_table([rule_row(rule, runs) for rule in RULES])])


def gain(row, scored):
    """The AUROC of a row minus its base's, means over the seeds that both have; None where there are none."""
    runs, base = scored[row], scored[COMPARED_WITH.get(row, "base")]
    both = sorted(runs.keys() & base.keys())
    if row in ("base", *COMPARED_WITH.values()) or not both:
        return None
    before, after = ([found[seed].predictions_and_threshold() for seed in both] for found in (base, runs))
    return differences(before, after, ("auroc",))["auroc"]


def table_row(row, runs, found):
    """A row's mean scores over seeds, and the difference of its AUROC from the base's."""
    added = f"`{' then '.join(part or '(nothing)' for part in ROWS[row])}`" + ", images stretched" * (row in STRETCHED)
    means = mean_scores([run.predictions_and_threshold() for run in runs.values()], SHOWN)
    difference = "" if found is None else "-" if found["p"] is None else difference_text(found)
    return {"Row": row, "Added to the base": added, "Seeds": len(runs)} | mean_cells(means) | {GAIN: difference}


def mean_cells(found):
    """Cells of mean scores with their intervals; the values alone of one seed."""
    return {NUMBERS[name]: (value_text if found[name]["low"] is None else as_text)(found[name]) for name in SHOWN}


def rule_row(rule, runs):
    """Mean scores of all runs at the thresholds of one rule, and their range."""
    found = [run.scores(RULES[rule]) for run in runs]
    cells = {}
    for name in ("kappa", "accuracy", "sensitivity", "specificity"):
        values = [one[name] for one in found]
        cells[NUMBERS[name]] = f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    return {"Threshold": rule, "Runs": len(runs), **cells}


def highest_kappa(label, probability):
    """The threshold with the highest kappa, half-way between two probabilities; of ties the nearest to 0.5."""
    candidates = candidate_thresholds(probability)
    kappas = np.array([cohen_kappa(label, decisions(probability, one)) or 0.0 for one in candidates])
    return nearest_to_half(candidates[kappas >= kappas.max() - 1e-12])


# How to fit a threshold to tuning studies: f(label, probability), both (n,). The first is the rule of a run.
RULES = {"as many Positive as are": fit_threshold, "highest kappa": highest_kappa, "0.5": lambda label, probability: 0.5}


if __name__ == "__main__":
    sys.exit(scripts.run(main))

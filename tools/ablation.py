"""Ablation study: train each row of docs/recipe.md on folds of patients, optionally in parallel, and print the table.

    python -m tools.ablation --data ROOT --out runs/ablation --plan light                       every row, seed 0; resumes
    python -m tools.ablation --data ROOT --out runs/ablation --plan light --rows base ema       some rows
    python -m tools.ablation --record docs/records/ablation --plan densenet --folds 1 --table   the table of recorded runs

The patients of train/ are divided into folds. For each fold a network is trained on the others and scored on it; a row's score
is of the probabilities of all folds together. ROOT/valid/ is not used, so that it stays unseen while a recipe is chosen with
this table. Every row changes one setting of the base. Differences are between means over seeds, with a 95 % interval over
patients and seeds, on the same patients. Two small files in --record, runs.csv and probabilities.csv, contain what the table
needs of each run; a recorded run is not trained again.
Exit status: 0 done; 1 a command failed; 2 a wrong command line; 130 stopped by Ctrl-C.
"""

import collections
import itertools
import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

from PIL import ImageOps  # contrast

from bones.data import images
from bones.data.layouts import data_root
from bones.data.phantoms import sets as phantom
from bones.data.splits import folds
from bones.data.views import find_views
from bones.runs.folder import RunFolder
from bones.runs.options import from_text
from bones.system import scripts
from bones.system.errors import BenchmarkError
from bones.system.files import whole_folder
from tools.ablation_plans import PLANS
from tools.ablation_record import Record
from tools.ablation_table import tables

RUNNING = set()  # processes of scripts


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    options = parse_options(argv)
    plan = PLANS[options.plan]
    record = Record(options.record or options.out, plan.settings, options.folds)
    options.seeds = options.seeds or (sorted({*record.runs["seed"]}) if options.table else [0])
    if not options.table:
        out = Path(options.out).absolute()
        trained = [name for name in options.rows if not plan.rows[name].recorded_as]
        runs = list(itertools.product(options.seeds, trained, range(options.folds)))
        runs = [(row, seed, fold) for seed, row, fold in runs if not record.holds(row, seed, fold)]
        make_fold_roots(options.data, out, options.folds)
        if any(plan.rows[row].stretched for row, _, _ in runs):
            make_fold_roots(options.data, out, options.folds, stretch=True)
        try:
            failed = train_all(runs, plan, record, out, options)
        except KeyboardInterrupt:
            print("ablation.py: stopped; run the same command to resume", file=sys.stderr)
            return 130
        if failed:
            raise BenchmarkError(f"failed: {', '.join(failed)}; see the .log files in {out}")
    print(tables(plan, record, options.rows, options.seeds))
    return 0


def parse_options(argv):
    """Parse and check the command line."""
    parser = scripts.parser(__doc__)
    parser.add_argument("--plan", choices=PLANS, default="light", help="the rows and their base (default light)")
    parser.add_argument("--data", metavar="ROOT", help="data root whose train/ is divided (default: phantoms)")
    also = "data root whose train/ the rows named *also train on as well; none of it is scored"
    parser.add_argument("--also", type=os.path.abspath, metavar="ROOT", help=also)
    parser.add_argument("--study-type", nargs="+", default=["all"], metavar="XR_*", help="study types (default: all)")
    parser.add_argument("--out", metavar="FOLDER", help="folder for the folds' data and the run folders")
    parser.add_argument("--record", metavar="FOLDER", help="folder of runs.csv and probabilities.csv (default: --out)")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="rows of the plan (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="seeds (default 0; with --table all)")
    parser.add_argument("--folds", type=scripts.positive(int), default=5, metavar="K", help="folds of patients (default 5)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="parallel runs, each on its share of the CPU cores")
    parser.add_argument("--table", action="store_true", help="only print the table of recorded runs")
    options = parser.parse_args(argv)
    rows = PLANS[options.plan].rows
    options.rows = options.rows or [name for name, row in rows.items() if not row.also or options.also or options.table]
    unknown = [name for name in options.rows if name not in rows]
    if unknown:
        parser.error(f"{', '.join(unknown)}: no row of the plan {options.plan}, which has {', '.join(rows)}.")
    lacking = [name for name in options.rows if rows[name].also and not options.also and not options.table]
    if lacking:
        parser.error(f"{', '.join(lacking)} need --also ROOT; pass it, or name the other --rows.")
    if options.folds < 2 and not options.table:
        parser.error("--folds must be 2 or more: each fold is scored by a network trained on the others.")
    if not options.out and not (options.table and options.record):
        parser.error("--out, the folder for run folders, is required; with --table, --record is enough.")
    if not 1 <= options.jobs <= len(cores()):
        parser.error(f"--jobs must be 1 to {len(cores())} on this machine, not {options.jobs}.")
    return options


def cores():
    """Indices of the CPU cores available to this process."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count()))


def fold_root(out, fold, stretched=False):
    """Data root in which the patients of a fold are held out."""
    return out / f"fold{fold}{'-stretched' * stretched}"


def make_fold_roots(root, out, count, stretch=False):
    """Create the data roots of all folds of `root`/train, unless they exist.

    Args:
        count: number of folds.
        stretch: stretch the contrast of each image, so that its darkest and brightest 1 % are black and white.
    """
    root = data_root(root or phantom.ensure())
    views = find_views(root, "train", ["all"])
    of_view = folds(views, count, seed=0)
    for fold in range(count):
        if fold_root(out, fold, stretch).is_dir():
            continue
        with whole_folder(fold_root(out, fold, stretch)) as partial:
            for path, held_out in zip(views["path"], of_view == fold, strict=True):
                copy = partial / ("valid" if held_out else "train") / Path(path).relative_to(root / "train")
                copy.parent.mkdir(parents=True, exist_ok=True)
                if stretch:
                    ImageOps.autocontrast(images.read_grey(path), cutoff=1).save(copy.with_suffix(".png"))
                else:
                    shutil.copy2(path, copy)
            if phantom.describe(root):
                shutil.copy2(root / phantom.NOTE, partial)


# ---------------------------------------------------------------------------------------------------------------------
# Runs


def train_all(runs, plan, record, out, options):
    """Train and score each (row, seed, fold). Returns: the names of those that failed."""
    left, failed, stopped = collections.deque(runs), [], threading.Event()

    def work(own_cores):
        while left:
            try:
                run = left.popleft()
            except IndexError:  # another thread took the last one
                return
            try:
                record.add(*run, *train_row(*run, plan, out, options, own_cores))
            except subprocess.CalledProcessError:
                failed.append(name_of(*run))
            except KeyboardInterrupt:
                left.clear()
                stopped.set()
                end_scripts()

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


def train_row(name, seed, fold, plan, out, options, own_cores):
    """Train and score one row with one seed on one fold, and skip finished steps.

    Returns: (folder, seconds): of the scored run, and of the training of all stages.
    """
    row, weights = plan.rows[name], ""
    root, also = fold_root(out, fold, row.stretched), [options.also] * row.also
    stages = [stage_folder(out, name, seed, fold, left) for left in reversed(range(len(row.stages)))]
    for folder, arguments in zip(stages, row.stages, strict=True):
        if row.trained_as:
            reuse_training(stage_folder(out, row.trained_as, seed, fold, 0), folder, arguments)
        if not is_finished(folder):
            data = ["--data", root, *also, "--study-type", *options.study_type]
            fresh = [*data, *f"{plan.base} {arguments} {weights} --seed {seed}".split()]
            has_begun = (folder / "run.json").is_file()
            if not has_begun:
                shutil.rmtree(folder, ignore_errors=True)
            run_script(["mura.py", "--out", folder, *(["--resume"] if has_begun else fresh)], folder, own_cores)
            if not is_finished(folder):  # stopped by Ctrl-C
                raise KeyboardInterrupt
        weights = f"--weights {folder / 'last.h5'}"
    if not (folder / "scores.json").is_file():
        for split, data in (("tuning", []), ("held-out", ["--data", root])):
            run_script(["model_test.py", folder, "--json", "--split", split, *data], folder, own_cores)
    return folder, sum(training_seconds(stage) for stage in stages)


def reuse_training(other, folder, arguments):
    """Copy a finished run folder and change its scoring settings."""
    if is_finished(other) and not folder.exists():
        shutil.copytree(other, folder, ignore=shutil.ignore_patterns("scores.json", "predictions.csv"))
        run = RunFolder.open(folder)
        content = run.record()
        texts = dict(text.split("=") for text in arguments.removeprefix("--set ").split())
        options = content.options.changed(**{name: from_text(name, text) for name, text in texts.items()})
        # The training is complete, but the threshold is fitted again.
        run.write_record(content.changed(options=options, finished=None, training_seconds=None))


def training_seconds(folder):
    """Training time of a finished run folder."""
    return RunFolder.open(folder).record().training_seconds


def name_of(row, seed, fold):
    """Name of a run."""
    return f"{row}-{seed}-fold{fold}"


def stage_folder(out, row, seed, fold, left):
    """Run folder of a stage of a row with so many stages left; the last one has the row's name."""
    return out / (name_of(row, seed, fold) + f"-before{left}" * (left > 0))


def is_finished(folder):
    """Whether a run folder contains a finished training."""
    return (folder / "run.json").is_file() and bool(training_seconds(folder))


def end_scripts():
    """Ask all scripts that run to save their state and end: Ctrl-C reaches them, too, but SIGTERM this process alone."""
    for process in list(RUNNING):
        process.terminate()


def run_script(arguments, folder, own_cores):
    """Run a script of this repository on some cores; its output goes to a .log file beside its run folder."""
    # One run per core has higher throughput than one run on all cores, because operations of a step wait for each other.
    pin = (lambda: os.sched_setaffinity(0, own_cores)) if hasattr(os, "sched_setaffinity") else None
    command = [sys.executable, *map(str, arguments)]
    with folder.with_name(folder.name + ".log").open("a") as log:
        log.write(shlex.join(command[1:]) + "\n")
        log.flush()
        process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=log, stderr=log, preexec_fn=pin)
        RUNNING.add(process)
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
        finally:
            RUNNING.discard(process)
        if status:
            raise subprocess.CalledProcessError(status, command)


if __name__ == "__main__":
    sys.exit(scripts.run(main))

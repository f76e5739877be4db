"""Kill a training repeatedly at random moments, resume it, and compare the result with that of an uninterrupted training.

    python tests/soak.py                 fifty kills: 15 minutes on two cores
    python tests/soak.py --kills 5 --seed 1

A moment is a stage of the work, the n-th entry into it, and a delay after that; the process then kills itself with SIGKILL,
which cannot be handled. After each kill, every file under a final name must be complete.
Exit status: 0 all runs gave the same result; 1 one did not.
"""

import argparse
import collections
import contextlib
import importlib
import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd

from bones.data.phantoms import sets as phantom
from bones.runs import checkpoints
from bones.runs.folder import HISTORY

REPOSITORY = Path(__file__).parent.parent
EPOCHS = 4
NEVER = ("never", 1, 0, 0)
PRELOADED = [
    "tiny",
    "bones.training.batch_statistics",
    "bones.training.saving",
    "bones.training.trainer",
    "bones.training.callbacks",
]  # tiny registers the network, the others contain stages
# Stage -> the function in which the process dies: "module.name" or "module.Class.name".
STAGES = {
    "decoding into the cache": "bones.data.pixels.decode_all",
    "training step": "bones.training.saving.SaveRun.on_train_batch_end",
    "statistics of batch normalisation": "bones.training.batch_statistics.Averager.estimate",
    "scoring of tuning views": "bones.training.callbacks.ScoreTuning.on_epoch_end",
    "writing a network": "bones.runs.checkpoints.save_network",
    "writing the state": "bones.runs.checkpoints.save_state",
    "writing a table": "bones.runs.folder.RunFolder.write_csv",
    "writing run.json": "bones.runs.folder.RunFolder.write_json",
    "fitting the threshold": "bones.scores.fitting.fit",
    "scoring held-out views": "bones.runs.folder.RunFolder.write_predictions",
}
# Settings with state: plateau, moving average, batch statistics, mixup, erasing, dropout.
OPTIONS = ["--recipe", "paper", "--epochs", str(EPOCHS), "--network", "tiny", "--weights", "none", "--size", "32"]
OPTIONS += ["--precision", "float32", "--tuning-fraction", "0.3"]
OPTIONS += ["--set", "ema=0.9", "statistics_views=16", "mixup=0.2", "erasing=0.5", "dropout=0.1"]


# ---------------------------------------------------------------------------------------------------------------------
# The killed process


def child(folder, outputs, plan, script, arguments):
    """Run a script in a folder, and send signals to this process, starting a delay after the n-th entry into a stage.

    Args:
        outputs: two files, for stdout and stderr.
    """
    for path, number in zip(outputs, (1, 2), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    for name in PRELOADED:  # already imported, unless forkserver failed to load them
        importlib.import_module(name)
    stage, nth, delay, signals = plan
    if stage in STAGES:
        plant(STAGES[stage], nth, delay, [int(number) for number in str(signals).split(",")])
    sys.argv = [script, *map(str, arguments)]
    runpy.run_path(str(REPOSITORY / script), run_name="__main__")


def plant(place, nth, delay, signals):
    """Make the n-th call of a function send the signals after the delay; with several signals the call takes a minute."""
    names = place.split(".")
    depth = next(depth for depth, name in enumerate(names) if name[0].isupper() or depth == len(names) - 1)
    owner, names = importlib.import_module(".".join(names[:depth])), names[depth:]
    for name in names[:-1]:
        owner = getattr(owner, name)
    before, calls = getattr(owner, names[-1]), [0]

    def send():
        for number in signals:
            time.sleep(delay)
            os.kill(os.getpid(), number)

    def deadly(*arguments, **more):
        calls[0] += 1
        if calls[0] == nth:
            threading.Thread(target=send, daemon=True).start()
            time.sleep(60 * (len(signals) > 1))
        return before(*arguments, **more)

    setattr(owner, names[-1], deadly)


# ---------------------------------------------------------------------------------------------------------------------
# Training, checks and comparison


def run(folder, plan, script, *arguments):
    """Run a script as `child` in a folder. Returns: its subprocess.CompletedProcess."""
    with tempfile.TemporaryDirectory() as outside, forkserver() as context:
        outputs = [Path(outside) / name for name in ("stdout", "stderr")]
        process = context.Process(target=child, args=(folder, outputs, plan, script, arguments))
        process.start()
        process.join(600)
        if process.exitcode is None:
            process.kill()
            raise AssertionError(f"{script} did not end within ten minutes")
        said = [path.read_text() for path in outputs]
    return subprocess.CompletedProcess([script, *arguments], process.exitcode, *said)


@contextlib.contextmanager
def forkserver():
    """A multiprocessing context whose processes start with the libraries imported, which saves six seconds each.

    They are forked from a server that has only imported them; it starts with the first process.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    needed = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(sys.path)}
    before = {name: os.environ.get(name) for name in needed}
    os.environ.update(needed)
    try:
        yield context
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def train(folder, root, plan=NEVER):
    """Start a training or resume it, as a user would after a kill. Returns: subprocess.CompletedProcess."""
    how = ["--resume"] if (folder / "run" / "run.json").exists() else ["--data", root, *OPTIONS]
    return run(folder, plan, "mura.py", "--out", "run", *how)


def advance(folder, root, plan=NEVER):
    """Train, then score. Returns: True when both are done, False when killed as planned."""
    scripts = [] if is_trained(folder / "run") else [lambda: train(folder, root, plan)]
    for script in [*scripts, lambda: run(folder, plan, "model_test.py", "run")]:
        done = script()
        if done.returncode == -signal.SIGKILL:
            return False
        assert done.returncode == 0, f"{plan}: ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return True


def is_trained(out):
    """Whether the training of a run folder is finished."""
    return (out / "run.json").exists() and bool(json.loads((out / "run.json").read_text())["finished"])


def check_whole(out):
    """Raise unless every file of a run folder can be read."""
    import keras

    for path in out.rglob("*"):
        if path.is_dir() or path.name.startswith("."):
            continue
        if path.suffix == ".h5":
            keras.models.load_model(path, compile=False)
        elif path.suffix == ".npz":
            with np.load(path) as state:
                assert all(state[name] is not None for name in state.files)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            assert len(pd.read_csv(path))
        else:
            assert path.read_text().endswith("\n")
    history = out / "history.csv"
    if history.exists():
        epochs = pd.read_csv(history)["epoch"].tolist()
        assert epochs == list(range(1, len(epochs) + 1)), f"epochs {epochs}"


def compare(first, second):
    """Raise unless two runs have the same history, networks, state, decisions and predictions."""
    from bones.runs.folder import RunFolder

    columns = [name for name in HISTORY if name not in ("seconds", "views_per_second")]
    pd.testing.assert_frame_equal(*(pd.read_csv(out / "history.csv")[columns] for out in (first, second)), rtol=0, atol=1e-6)
    pd.testing.assert_frame_equal(
        *(pd.read_csv(out / "predictions.csv").drop(columns="path") for out in (first, second)), rtol=0, atol=1e-5
    )
    runs = [RunFolder(out) for out in (first, second)]
    records = [one.read_json("run.json") for one in runs]
    assert records[0]["best_epoch"] == records[1]["best_epoch"]
    for name in ("threshold", "temperature"):
        np.testing.assert_allclose(records[0][name], records[1][name], atol=1e-5)
    for name in ("best.h5", "last.h5"):
        for one, other in zip(*(checkpoints.load_network(run, name).get_weights() for run in runs), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    states = [np.load(out / "resume" / "state.npz") for out in (first, second)]
    notes = [json.loads(str(state["notes"])) for state in states]
    assert notes[0]["plateau"]["wait"] == notes[1]["plateau"]["wait"] and not notes[0]["begun"] and not notes[1]["begun"]
    for name in states[0].files:
        if name != "notes":
            np.testing.assert_allclose(states[0][name], states[1][name], atol=1e-5)


def draw_plan(rng):
    """A moment: (stage, n-th entry, seconds into it, signals)."""
    stage = str(rng.choice(list(STAGES)))
    # Upper bounds of the entry: many steps, a few of what happens once per epoch, else two.
    most = {"training step": 3 * EPOCHS, "writing a network": 3, "writing a table": 3, "statistics of batch normalisation": 3}
    return stage, int(rng.integers(1, most.get(stage, 2) + 1)), round(float(rng.uniform(0, 0.03)), 4), int(signal.SIGKILL)


def soak(folder, kills, seed, plans=None, say=print):
    """Kill and resume trainings until `kills` of them have occurred.

    Args:
        plans: the moments; default: drawn from the seed.
    Returns: collections.Counter of kills by stage.
    """
    rng, hit, place = np.random.default_rng(seed), collections.Counter(), 0
    root = folder / "phantoms"
    phantom.draw_set(root, train_studies=40, held_out_studies=12, size=64, seed=1)
    whole = folder / "whole"
    whole.mkdir()
    assert advance(whole, root)
    plans = iter(plans or iter(lambda: draw_plan(rng), None))
    while hit.total() < kills:
        trial = folder / f"trial{place}"
        trial.mkdir()
        finished, place = False, place + 1
        while not finished:
            plan = next(plans, NEVER) if hit.total() < kills else NEVER
            finished = advance(trial, root, plan)
            if not finished:
                hit[plan[0]] += 1
                say(f"kill {hit.total()} of {kills}: {plan[0]}, entry {plan[1]}, {plan[2]:.4f} s after it", flush=True)
                if (trial / "run").exists():
                    check_whole(trial / "run")
        compare(whole / "run", trial / "run")
        say(f"run {place} equals the uninterrupted one", flush=True)
    return hit


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="number of kills (default 50)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the moments (default 0)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hit = soak(Path(folder), options.kills, options.seed)
    print("\n".join(f"{count:3} kills in: {stage}" for stage, count in hit.most_common()))
    print(f"{hit.total()} kills, seed {options.seed}: every run gave the same result")


if __name__ == "__main__":
    main()

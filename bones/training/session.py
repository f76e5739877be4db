"""Train a network to call radiographs in MURA's layout Positive (abnormal) or Negative (normal).

    python mura.py --data MURA-v1.1                   the default recipe: DenseNet-169, batch 8, 52 epochs, XR_HUMERUS
    python mura.py --data MURA-v1.1 --recipe paper    MURA's baseline; see recipes.py
    python mura.py --demo                             synthetic radiographs, small: minutes on two CPU cores
    python mura.py --out runs/NAME --resume           go on with a run that stopped

A run folder holds all that comes out: best.h5 (of the last epoch or the best one, as the recipe says), last.h5, history.csv,
run.json and resume/.
Ctrl-C or SIGTERM saves the state after the step at hand; a second one stops at once.
Exit status: 0 done, or stopped with its state saved; 1 a fault of data, checkpoint or numbers; 2 a wrong command line; 130
stopped before the training, or at once.
"""

import dataclasses
import datetime
import shlex
import sys
from pathlib import Path

if __name__ == "__main__":
    from bones.system import scripts as interrupts

    interrupts.quit_at_once()

from bones.system import backend
from bones.system.errors import DataError

backend.choose()

import keras
import numpy as np
import pandas as pd

from bones.data.layouts import data_root
from bones.data.phantoms import sets as phantom
from bones.data.pixels import Rows, load_pixels
from bones.data.splits import class_weights
from bones.data.views import find_views, fingerprint, is_same
from bones.networks import catalogue
from bones.networks.acceleration import speed_up
from bones.networks.batches import Batches
from bones.networks.parts import drop_features
from bones.networks.predict import predict
from bones.runs import card as model_card
from bones.runs.data import load_parts
from bones.runs.folder import Onlooker, RunFolder
from bones.scores.fitting import fit
from bones.system import collectives, devices, machine
from bones.system.errors import DevicesError, HostsError, PhantomError, RunError, WeightsError
from bones.training import command_line, saving
from bones.training import trainer as training

FAULTS = (
    DataError,
    DevicesError,
    HostsError,
    WeightsError,
    PhantomError,
    RunError,
    FloatingPointError,
    OSError,
)


def main(argv=None):
    """Train as the command line says; returns the exit status."""
    status = 1
    try:
        status = train(argv)
    except SystemExit as end:  # of the command line
        status = end.code
        raise
    finally:
        collectives.leave(status)
    return status


def train(argv):
    """What `main` does, without a word to other hosts."""
    options, resume = command_line.parse_options(argv, __doc__)
    if keras.backend.backend() == "openvino":
        print("mura.py: KERAS_BACKEND is openvino, which only scores. Train with tensorflow, jax or torch.", file=sys.stderr)
        return 1
    try:
        run = open_folder(options["out"], resume)
        with run.locked(), devices.together(options["devices"], options["hosts"]) as scope:
            train_run(run, options, resume, scope)
    except FAULTS as fault:
        print(f"mura.py: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mura.py: stopped at once; what was saved before is as it was", file=sys.stderr)
        return 130
    except Exception as error:
        if backend.is_out_of_memory(error):
            message = out_of_memory(options)
        elif options["hosts"] > 1 and collectives.is_lost(error):
            message = collectives.LOST
        else:
            raise
        print(f"mura.py: {message}", file=sys.stderr)
        return 1
    return 0


def open_folder(path, resume):
    """The run folder, which the first host makes and writes."""
    if not collectives.is_first():
        return Onlooker(path)
    return RunFolder.open(path) if resume else RunFolder.create(path)


def train_run(run, options, resume, scope):
    """From options to a finished run folder; `scope` is devices.together's."""
    keras.utils.set_random_seed(options["seed"])
    keras.mixed_precision.set_global_policy(options["precision"])
    train, tuning, left_out = load_views(options)
    data = describe_data(options, train, tuning, left_out)
    check_hosts_alike(options, data)
    check_a_step_has_views(options, data)
    record = resumed_record(run, options, data) if resume else describe_run(options, data)

    batches = Batches(
        train.pixels,
        command_line.views_a_step(options),
        train.label,
        train.weight,
        shuffle_seed=options["seed"],
        mixup=options["mixup"],
        readers=devices.readers(options["devices"]),
    )
    # A resumed network gets its weights from the saved state: the file or download that it started from may be gone.
    weights = "none" if run.has_state() else options["weights"]
    with scope():
        network = build_network(options, weights)
        trainer = training.build_trainer(network, options, steps_an_epoch=len(batches))
    stall = [training.plateau()] if options["schedule"] == "plateau" else []
    views_an_epoch = min(len(batches) * batches.batch_size, len(train.pixels))
    tuning_scores = training.ScoreTuning(network, tuning, views_an_epoch, options)
    stop = saving.StopSignal()
    saver = saving.SaveRun(run, network, trainer, tuning_scores, options["chosen"], stop, *stall)
    done = saver.restore() if resume else (0, 0)
    collectives.check_alike(resume=done)
    run.write_json("run.json", record)
    print(summary(record, network, run, done), flush=True)

    touches = training.final_touches(network, train.pixels, options, done)
    callbacks = [*touches, tuning_scores, *stall, training.StopOnFault(steps_done=done[1]), saver]
    try:
        with stop.heeded():
            training.fit(trainer, batches, options["epochs"], done, callbacks)
    except saving.StoppedError:
        say_it_has_stopped(run, options, saver)
        return
    if collectives.is_first():
        with collectives.by_itself():
            finish(run, record, saver, tuning)
    collectives.wait()  # for the first one


def finish(run, record, saver, tuning):
    """Fit threshold and temperature, and write the run's record and model card."""
    options = record["options"]
    if not record["finished"]:
        record |= how_it_went(saver.history, saver.best())
    try:
        record |= fit_decisions(run, tuning, options["flip_averaging"])
    except KeyboardInterrupt:  # all is saved that it hangs on
        say_it_has_stopped(run, options, saver)
        return
    run.write_json("run.json", record)
    model_card.write(run)
    say_what_is_next(run, record, saver.best())


def out_of_memory(options):
    """What to say when the device's memory did not suffice."""
    size, batches = options["batch_size"], options["accumulation"]
    halved = f"--batch-size {size // 2} --accumulation {2 * batches}, which trains on as many views a change, "
    half = halved if size > 1 and options["devices"] == 1 else ""  # several devices do not accumulate everywhere
    return (
        f"memory ran out at --batch-size {size} and --size {options['size']} on {machine.accelerator()['device']}.\n"
        f"Try {half}a smaller --size, or --precision mixed_bfloat16, in a new run; see that nothing else uses the device."
    )


def build_network(options, weights):
    """The uncompiled network of a run's options, with starting weights."""
    settings = {name: options[name] for name in ("standardise", "dropout")}
    network = catalogue.build(options["network"], options["size"], weights, **settings)
    return drop_features(network, options["stochastic_depth"]) if options["stochastic_depth"] else network


# ---------------------------------------------------------------------------------------------------------------------
# Data


@dataclasses.dataclass
class Part:
    """The views of one split with all that training needs of them."""

    views: pd.DataFrame
    pixels: Rows  # (n, size, size, 1) uint8
    label: np.ndarray  # (n,)
    weight: np.ndarray | None  # (n,) or None where all weigh the same


def load_views(options):
    """(train, tuning, left_out): two Parts and how many views were unreadable; draws the phantom set where no data is given."""
    if options["data"] is None:
        options["data"] = str(phantom.ensure(demo=options["demo"]))
    *parts, left_out = load_parts(options)
    check_held_out(options)
    weigh = class_weights if options["class_weighted"] else lambda views: None
    return *(Part(views, pixels, views["label"].to_numpy(), weigh(views)) for views, pixels in parts), left_out


def check_held_out(options):
    """Tell faults of valid/ before the training, not after it; decodes the held-out views into the cache."""
    if not (data_root(options["data"]) / "valid").is_dir():
        print(f"mura.py: {options['data']} holds no valid/ folder: there will be no held-out score.", file=sys.stderr)
        return
    views = find_views(options["data"], "held-out", options["study_type"], options["labels"])
    load_pixels(views, options["size"], options["resize"], options["skip_unreadable"])


def check_hosts_alike(options, data):
    """Raise HostsError unless all hosts train with the same options on the same data."""
    own = {"data", "labels", "out"}  # the data may lie elsewhere on each
    collectives.check_alike(
        versions=machine.versions(),
        train=data["train"],
        tuning=data["tuning"],
        **{name: value for name, value in options.items() if name not in own},
    )


def check_a_step_has_views(options, data):
    """Raise DataError where several devices would have to share fewer views than a step takes."""
    views, devices_in_all = command_line.views_a_step(options), options["devices"] * options["hosts"]
    if devices_in_all > 1 and data["train"]["views"] < views:
        raise DataError(
            f"a step of {devices_in_all} devices takes {views} views, and there are {data['train']['views']} to train on.\n"
            "Pass a smaller --batch-size or fewer --devices."
        )


def resumed_record(run, options, data):
    """run.json of a run that goes on, with the place of its data now.

    Raises: DataError when the data is not what the run started with.
    """
    record = run.read_json("run.json")
    for split in ("train", "tuning"):
        if not is_same(record["data"].get(split), data[split]):
            raise DataError(
                f"{data['root']} is not the data that {run.path} was trained on.\n"
                f"Its {split} views were {record['data'].get(split)},\nnow {data[split]}.\n"
                "Pass the folder with the same files as --data, or start a new run."
            )
    return {**record, "options": options, "data": data}


# ---------------------------------------------------------------------------------------------------------------------
# Record of the run


def describe_data(options, train, tuning, left_out):
    """What a run is trained on: where it lies, counts and hashes, and how many views were left out."""
    return {
        "root": str(Path(options["data"]).absolute()),  # absolute: scored from another folder, too
        "phantom": phantom.describe(options["data"]),
        "train": fingerprint(train.views, options["data"]),
        "tuning": fingerprint(tuning.views, options["data"]),
        "left_out": left_out,
    }


def describe_run(options, data):
    """Content of run.json: options, versions, commit, device, data, and what model_test.py decides with."""
    return {
        "command": shlex.join(["python", "mura.py", *sys.argv[1:]]),
        "options": options,
        "versions": machine.versions(),
        "commit": machine.commit(),
        "device": machine.accelerator()["device"],
        "data": data,
        "threshold": 0.5,
        "temperature": 1.0,
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "finished": None,
        "training_seconds": None,
        "best_epoch": None,
    }


def summary(record, network, run, done):
    """What the user should know before the first epoch."""
    options, data = record["options"], record["data"]
    lines = [
        f"Run       {run.path} (recipe {options['recipe']}, seed {options['seed']})",
        f"Data      {data['root']}: {' '.join(options['study_type'])}{' (PHANTOMS)' if data['phantom'] else ''}",
    ]
    for split in ("train", "tuning"):
        counts = data[split]
        lines.append(
            f"  {split:7} {counts['views']} views ({counts['positive_views']} positive), {counts['studies']} studies, "
            f"{counts['patients']} patients"
        )
    if data["left_out"]:
        lines.append(f"  {data['left_out']} unreadable views left out, with their labels")
    epochs, steps = done
    lines += [
        f"Network   {network.name}, {network.count_params():,} parameters, weights {options['weights']}, {options['size']} px",
        f"Training  {options['epochs']} epochs, batch {batch_in_words(options)}, {options['precision']} on {record['device']}"
        + (f"; {epochs} epochs" + (f" and {steps} steps" if steps else "") + " done" if any(done) else ""),
        "The first step takes a minute or so: the network is traced and compiled."
        if epochs < options["epochs"]
        else "Nothing is left to train.",
    ]
    return "\n".join(lines)


def batch_in_words(options):
    """Views a step, and those behind one change of the weights where these are more."""
    counts = [(options["devices"], "devices"), (options["hosts"], "hosts"), (options["accumulation"], "accumulated")]
    parts = [f" x {count} {of}" for count, of in counts if count > 1]
    whole = f" = {command_line.views_a_step(options) * options['accumulation']}" if parts else ""
    return "".join([str(options["batch_size"]), *parts, whole])


# ---------------------------------------------------------------------------------------------------------------------
# Training


def how_it_went(history, best):
    """What run.json says of a finished training."""
    return {
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "training_seconds": round(sum(row["seconds"] for row in history), 1),
        "best_epoch": best["epoch"],
    }


def fit_decisions(run, tuning, flip_averaging):
    """Threshold and temperature of best.h5 from the tuning studies, for run.json."""
    network = speed_up(run.load_network())
    probability = predict(network, tuning.pixels, flip_averaging=flip_averaging)
    return fit(tuning.views.assign(probability=probability))


def say_it_has_stopped(run, options, saver):
    """Print what is saved of a training that was asked to stop, and how to go on with it."""
    steps = saver.begun["steps"] if saver.begun else 0
    begun = f" and {steps} step{'s' * (steps > 1)} of the next" if steps else ""
    print(f"Stopped; {len(saver.history)} of {options['epochs']} epochs{begun} are saved.")
    print(f"Next: python mura.py --out {shlex.quote(str(run.path))} --resume")


def say_what_is_next(run, record, best):
    """Print the outcome and the next command."""
    scored = f"tuning AUROC {best['val_auroc']:.3f}, accuracy {best['val_accuracy']:.3f} (views)"
    print(f"best.h5 is of epoch {best['epoch']}: {scored}.")
    print(f"Fitted on the tuning studies: threshold {record['threshold']:.3f}, temperature {record['temperature']:.2f}.")
    print(f"{run.path} holds best.h5, last.h5, history.csv, run.json and MODEL_CARD.md.")
    print(f"Next: python model_test.py {shlex.quote(str(run.path))}")


if __name__ == "__main__":
    sys.exit(interrupts.run(main))

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

import argparse
import dataclasses
import datetime
import os
import shlex
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    import interrupts

    interrupts.quit_at_once()

import backend

backend.choose()

import keras
import numpy as np
import pandas as pd

import data_loader
import devices
import model_card
import networks
import phantom
import recipes
import run_folder
import saving
import scores
import training
from run_folder import RunError, RunFolder

FAULTS = (
    data_loader.DataError,
    devices.DevicesError,
    networks.WeightsError,
    phantom.PhantomError,
    RunError,
    FloatingPointError,
    OSError,
)
# What holds where neither the command line nor the recipe says otherwise.
DEFAULTS = {
    "data": None,
    "study_type": ["XR_HUMERUS"],
    "labels": None,
    "tuning_fraction": 0.1,
    "skip_unreadable": False,
    "recipe": "default",
    "precision": "auto",
    "seed": 0,
    "devices": "auto",
    "demo": False,
}
# The demo: DenseNet-169 at a size that trains, scores and plots on two CPU cores within five minutes.
DEMO = {"weights": "none", "size": 64, "epochs": 2, "batch_size": 16, "rotation": 0}
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


def main(argv=None):
    """Train as the command line says; returns the exit status."""
    options, resume = parse_options(argv)
    if keras.backend.backend() == "openvino":
        print("mura.py: KERAS_BACKEND is openvino, which only scores. Train with tensorflow, jax or torch.", file=sys.stderr)
        return 1
    try:
        run = RunFolder.open(options["out"]) if resume else RunFolder.create(options["out"])
        with run.locked(), devices.together(options["devices"]) as scope:
            train_run(run, options, resume, scope)
    except FAULTS as fault:
        print(f"mura.py: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mura.py: stopped at once; what was saved before is as it was", file=sys.stderr)
        return 130
    except Exception as error:
        if not backend.is_out_of_memory(error):
            raise
        print(f"mura.py: {out_of_memory(options)}", file=sys.stderr)
        return 1
    return 0


def train_run(run, options, resume, scope):
    """From options to a finished run folder; `scope` is devices.together's."""
    keras.utils.set_random_seed(options["seed"])
    keras.mixed_precision.set_global_policy(options["precision"])
    train, tuning, left_out = load_views(options)
    data = describe_data(options, train, tuning, left_out)
    record = resumed_record(run, options, data) if resume else describe_run(options, data)

    batches = data_loader.Batches(
        train.pixels,
        views_a_step(options),
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
        f"memory ran out at --batch-size {size} and --size {options['size']} on {run_folder.accelerator()['device']}.\n"
        f"Try {half}a smaller --size, or --precision mixed_bfloat16, in a new run; see that nothing else uses the device."
    )


def build_network(options, weights):
    """The uncompiled network of a run's options, with starting weights."""
    build = networks.BUILDERS[options["network"]]
    network = build(options["size"], weights, options["standardise"], options["dropout"])
    return networks.drop_features(network, options["stochastic_depth"]) if options["stochastic_depth"] else network


# ---------------------------------------------------------------------------------------------------------------------
# Command line


def parse_options(argv):
    """The command line -> (options, resume): a dict with every option resolved, and whether to go on with a run.

    What the command line says beats the demo's settings, which beat the recipe's, which beat DEFAULTS.
    """
    parser = build_parser()
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    given |= dict(given.pop("set", []))
    if given.pop("resume", False):
        return resumed_options(parser, given), True
    recipe = recipes.RECIPES[given.get("recipe", DEFAULTS["recipe"])]()
    demo = DEMO if given.get("demo") else {}
    options = {**DEFAULTS, **dataclasses.asdict(recipe), **demo, **given}
    if options["demo"] and options["data"]:
        parser.error("--demo brings its own data: leave out --data or --demo.")
    options["devices"] = resolved_devices(parser, options["devices"])
    if keras.backend.backend() == "tensorflow" and options["devices"] > 1 and options["accumulation"] > 1:
        parser.error("--accumulation does not go together with several --devices on TensorFlow; it does on KERAS_BACKEND=jax.")
    if options["precision"] == "auto":
        options["precision"] = "mixed_bfloat16" if run_folder.accelerator()["bfloat16"] else "float32"
    options.setdefault("out", time.strftime(f"runs/{options['recipe']}-%Y%m%d-%H%M%S"))
    try:
        recipes.check(options)
    except ValueError as error:
        parser.error(f"{error}.")
    return options, False


def build_parser():
    """Every option, with None where it is left out."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add_data_options(parser.add_argument_group("data"))
    add_network_options(parser.add_argument_group("network (left out: the recipe decides)"))
    add_training_options(parser.add_argument_group("training"))
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FOLDER", help="run folder to make (default runs/RECIPE-DATE-TIME)")
    output.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own options")
    return parser


def add_data_options(group):
    """What is trained on."""
    group.add_argument(
        "--data", metavar="ROOT", help="folder with train/ and valid/ as MURA unpacks; left out: phantoms are drawn"
    )
    group.add_argument("--study-type", nargs="+", metavar="XR_*", help="study types to train on, or all (default XR_HUMERUS)")
    group.add_argument(
        "--labels",
        type=os.path.abspath,
        metavar="FILE.csv",
        help="study paths and labels that override those of the folders' names",
    )
    group.add_argument(
        "--tuning-fraction",
        type=fraction,
        metavar="F",
        help="share of train/'s patients kept for choosing epoch, threshold and temperature (default 0.1)",
    )
    group.add_argument(
        "--skip-unreadable", action="store_true", default=None, help="leave out views that do not decode instead of stopping"
    )
    group.add_argument("--demo", action="store_true", default=None, help="a small phantom set and settings for two CPU cores")


def add_network_options(group):
    """What is trained, and from which weights."""
    group.add_argument("--recipe", choices=recipes.RECIPES, help="named settings, see recipes.py (default default)")
    group.add_argument(
        "--set",
        type=recipe_setting,
        nargs="+",
        action="extend",
        metavar="NAME=VALUE",
        help=f"settings of the recipe without an option of their own: {', '.join(recipes.FREE)}",
    )
    group.add_argument("--network", choices=networks.BUILDERS, help="architecture")
    group.add_argument("--weights", metavar="none|imagenet|FILE", help="starting weights: random, ImageNet's, or a file's")
    group.add_argument(
        "--size", type=positive(int), metavar="PX", help="side of the square input, pixels (recipe default: 320)"
    )
    group.add_argument(
        "--resize", choices=("pad", "stretch"), help="fit the long side and pad with black, or squeeze both sides"
    )


def add_training_options(group):
    """How it is trained."""
    group.add_argument("--epochs", type=positive(int), metavar="N", help="passes over the training views (recipe default: 52)")
    group.add_argument("--batch-size", type=positive(int), metavar="N", help="views a step and device (recipe default: 8)")
    group.add_argument(
        "--devices",
        type=number_of_devices,
        metavar="auto|N",
        help="devices that train together: auto is all GPUs (default auto); the learning rate stays as it is",
    )
    group.add_argument(
        "--accumulation",
        type=positive(int),
        metavar="N",
        help="average the gradients of N batches for each change of the weights: as if a batch were N times as large, but for "
        "batch normalisation, in the memory of one (recipe default: 1)",
    )
    group.add_argument("--learning-rate", type=positive(float), metavar="X", help="Adam's, before the recipe's schedule")
    group.add_argument(
        "--precision", choices=PRECISIONS, help="arithmetic; auto is mixed_bfloat16 where the processor has it (default auto)"
    )
    group.add_argument(
        "--seed", type=seed, metavar="N", help="draws the tuning patients, weights, order and augmentation (default 0)"
    )


def recipe_setting(text):
    """argparse type: a setting of the recipe."""
    try:
        return recipes.setting(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(kind):
    """argparse type: an int or float above 0."""

    def convert(text):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    convert.__name__ = kind.__name__
    return convert


def number_of_devices(text):
    """argparse type: auto, or an int above 0."""
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is neither auto nor a whole number above 0")
    return int(text)


def seed(text):
    """argparse type: an int that random number generators take."""
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**31 - 1}")
    return value


def fraction(text):
    """argparse type: a float above 0 and below 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def resumed_options(parser, given):
    """Options of the run in --out; only --data may differ, for data that has moved, and --devices, at the same views a step."""
    if "out" not in given:
        parser.error("--resume needs --out with the folder of the run to go on with.")
    try:
        settings = RunFolder.open(given["out"]).settings()
    except (RunError, OSError) as error:
        parser.exit(1, f"mura.py: {error}\n")
    options = settings["options"]
    fields = dataclasses.fields(recipes.Recipe)
    later = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    options = {**DEFAULTS, **later, **options}  # a run of an earlier version lacks the options that came later
    missing = sorted({field.name for field in fields} - options.keys())
    if missing:
        parser.exit(1, f"mura.py: {given['out']}/run.json lacks the options {', '.join(missing)}. Restore it from a copy.\n")
    try:
        recipes.check(options)
        if options["network"] not in networks.BUILDERS or options["precision"] not in PRECISIONS:
            raise ValueError(f"nobody knows the network {options['network']!r} or the precision {options['precision']!r}")
    except ValueError as error:
        parser.exit(1, f"mura.py: {given['out']}/run.json: {error}. Restore it from a copy.\n")
    changed = [name for name, value in given.items() if name not in ("out", "data", "devices") and options.get(name) != value]
    if changed:
        names = ", ".join(f"--set {name}" if name in recipes.FREE else "--" + name.replace("_", "-") for name in changed)
        parser.error(f"--resume goes on with the run's own options; it cannot change {names}. Start a new run for that.")
    return {**options, "data": settings["data"]["root"], **given, **divided_anew(parser, options, given.get("devices"))}


def divided_anew(parser, options, asked):
    """Devices, and views a device, of a run that goes on, perhaps on other devices than before."""
    views, count = views_a_step(options), resolved_devices(parser, asked or options["devices"])
    if views % count:
        parser.error(f"--devices {count}: the run takes {views} views a step, which do not divide by {count}.")
    return {"devices": count, "batch_size": views // count}


def resolved_devices(parser, asked):
    """How many devices to train on; ends the script where they are not to be had."""
    try:
        return devices.resolve(asked)
    except devices.DevicesError as error:
        parser.exit(1, f"mura.py: {error}\n")


# ---------------------------------------------------------------------------------------------------------------------
# Data


@dataclasses.dataclass
class Part:
    """The views of one split with all that training needs of them."""

    views: pd.DataFrame
    pixels: data_loader.Rows  # (n, size, size, 1) uint8
    label: np.ndarray  # (n,)
    weight: np.ndarray | None  # (n,) or None where all weigh the same


def load_views(options):
    """(train, tuning, left_out): two Parts and how many views were unreadable; draws the phantom set where no data is given."""
    if options["data"] is None:
        options["data"] = str(phantom.ensure(demo=options["demo"]))
    *parts, left_out = data_loader.load_parts(options)
    check_held_out(options)
    weigh = data_loader.class_weights if options["class_weighted"] else lambda views: None
    return *(Part(views, pixels, views["label"].to_numpy(), weigh(views)) for views, pixels in parts), left_out


def check_held_out(options):
    """Tell faults of valid/ before the training, not after it; decodes the held-out views into the cache."""
    if not (data_loader.data_root(options["data"]) / "valid").is_dir():
        print(f"mura.py: {options['data']} holds no valid/ folder: there will be no held-out score.", file=sys.stderr)
        return
    views = data_loader.find_views(options["data"], "held-out", options["study_type"], options["labels"])
    data_loader.load_pixels(views, options["size"], options["resize"], options["skip_unreadable"])


def resumed_record(run, options, data):
    """run.json of a run that goes on, with the place of its data now.

    Raises: DataError when the data is not what the run started with.
    """
    record = run.read_json("run.json")
    for split in ("train", "tuning"):
        if not data_loader.is_same(record["data"].get(split), data[split]):
            raise data_loader.DataError(
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
        "train": data_loader.fingerprint(train.views, options["data"]),
        "tuning": data_loader.fingerprint(tuning.views, options["data"]),
        "left_out": left_out,
    }


def describe_run(options, data):
    """Content of run.json: options, versions, commit, device, data, and what model_test.py decides with."""
    return {
        "command": shlex.join(["python", "mura.py", *sys.argv[1:]]),
        "options": options,
        "versions": run_folder.versions(),
        "commit": run_folder.commit(),
        "device": run_folder.accelerator()["device"],
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
    size, copies, batches = options["batch_size"], options["devices"], options["accumulation"]
    parts = [f" x {copies} devices"] * (copies > 1) + [f" x {batches} accumulated"] * (batches > 1)
    return "".join([str(size), *parts, *([f" = {size * copies * batches}"] if parts else [])])


def views_a_step(options):
    """Views that all devices together take in one step."""
    return options["batch_size"] * options["devices"]


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
    network = networks.speed_up(run.load_network())
    probability = data_loader.predict(network, tuning.pixels, flip_averaging=flip_averaging)
    return scores.fit(tuning.views.assign(probability=probability))


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

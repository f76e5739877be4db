"""What a training prints before the first epoch, when it stops, and at the end."""

import datetime
import shlex

from bones.data.phantoms import sets as phantom
from bones.scores.text import patients_text
from bones.system import machine


def summary(record, network, run, done):
    """Text printed before the first epoch: run, data, network and training."""
    options, data = record.options, record.data
    lines = [
        f"Run       {run.path} (recipe {options.recipe}, seed {options.seed})",
        f"Data      {', '.join(data.roots)}: {' '.join(options.study_type)}{phantom.mark(data.phantom)}",
    ]
    for split in ("train", "tuning"):
        counts = getattr(data, split)
        lines.append(
            f"  {split:7} {counts['views']} views ({counts['positive_views']} positive), {counts['studies']} studies, "
            f"{patients_text(counts['patients'], data.has_patients)}"
        )
    if data.left_out:
        lines.append(f"  {data.left_out} files left out with their labels, unreadable or no radiographs")
    lines.append(
        f"Network   {network.name}, {network.count_params():,} parameters, weights {options.weights}, {options.size} px"
    )
    return "\n".join([*lines, *training_lines(record, *done)])


def training_lines(record, epochs, steps):
    """How a run trains, and what is done of it."""
    options = record.options
    where = f"{options.precision} on {record.device}"
    if options.epochs == 0:
        return [f"Training  the output layer alone, by logistic regression on the features of every view; {where}"]
    done = f"; {epochs} epochs" + f" and {steps} steps" * bool(steps) + " done" if epochs or steps else ""
    return [
        f"Training  {options.epochs} epochs, batch {batch_in_words(options)}, {where}{done}",
        "The first step takes a minute or so: the network is traced and compiled."
        if epochs < options.epochs
        else "Nothing is left to train.",
    ]


def batch_in_words(options):
    """Views per step, and per weight update where these are more."""
    counts = [(options.devices, "devices"), (options.hosts, "hosts"), (options.accumulation, "accumulated")]
    parts = [f" x {count} {of}" for count, of in counts if count > 1]
    whole = f" = {options.global_batch_size * options.accumulation}" if parts else ""
    return "".join([str(options.batch_size), *parts, whole])


def training_outcome(seconds, best):
    """The entries of run.json for a finished training; `best` is the history row of the selected epoch, if any."""
    return {
        "finished": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "training_seconds": round(seconds, 1),
        "best_epoch": best["epoch"] if best else None,
    }


def print_stopped(run, options, epochs, steps=0):
    """Print what is saved of a stopped training, and the command that resumes it."""
    begun = f" and {steps} step{'s' * (steps > 1)} of the next" if steps else ""
    print(f"Stopped; {epochs} of {options.epochs} epochs{begun} are saved.")
    print(f"Next: python mura.py --out {shlex.quote(str(run.path))} --resume")


def print_finished(run, record, best, has_held_out):
    """Print the outcome and the next command; `best` is the history row of the selected epoch, if any."""
    best_file, last_file = (run.network_file(name).name for name in ("best.h5", "last.h5"))
    if best:
        scored = f"tuning AUROC {best['val_auroc']:.3f}, accuracy {best['val_accuracy']:.3f} (views)"
        print(f"{best_file} is of epoch {best['epoch']}: {scored}.")
    else:
        print(f"{best_file} has the starting weights and an output layer fitted to the training views.")
    print(f"Fitted on the tuning studies: threshold {record.threshold:.3f}, temperature {record.temperature:.2f}.")
    print(f"{run.path} contains {best_file}, {last_file}, history.csv, run.json and MODEL_CARD.md.")
    print(f"Next: python model_test.py {shlex.quote(str(run.path))}{'' if has_held_out else ' --split tuning'}")


def out_of_memory(options):
    """The error message when the device runs out of memory."""
    size, batches = options.batch_size, options.accumulation
    halved = f"--batch-size {size // 2} --accumulation {2 * batches}, which uses as many views per weight update, "
    half = halved if size > 1 and options.devices == 1 else ""  # accumulation is not available on several devices everywhere
    return (
        f"memory ran out at --batch-size {size} and --size {options.size} on {machine.accelerator()['device']}.\n"
        f"Try {half}a smaller --size, or --precision mixed_bfloat16, in a new run; check that nothing else uses the device."
    )

"""A training, from the parsed command line to a finished run folder, in the order of execution."""

import datetime
import shlex
import sys
import time

import keras

from bones.data.phantoms import sets as phantom
from bones.data.roots import data_roots, notes
from bones.networks import catalogue, frozen
from bones.networks.acceleration import accelerate
from bones.networks.batches import Batches, predict
from bones.networks.parts import weights_file, with_stochastic_depth
from bones.runs import card, checkpoints, first_stage
from bones.runs import data as run_data
from bones.runs.folder import ReadOnlyRun, RunFolder, selected_epoch
from bones.runs.options import SHARED
from bones.runs.record import RunRecord
from bones.scores.fitting import fit
from bones.system import backend, collectives, devices, machine
from bones.system.errors import BonesError, DataError, DeviceMemoryError, HostsError, MissingPackageError, UsageError
from bones.training import callbacks, head, saving, summary, trainer


def train(request):
    """Train according to a command_line.Request; returns the exit status."""
    if keras.backend.backend() == "openvino" and request.options.epochs:
        raise MissingPackageError("KERAS_BACKEND is openvino, which only scores. Train with tensorflow, jax or torch.")
    collectives.join(request.plan)  # before devices are initialised
    options = resolve(request)
    try:
        run = open_folder(options.out, request.resume)
        with run.locked(), devices.distribution_scope(options.devices, options.hosts) as scope:
            train_run(run, options, request.resume, scope)
    except KeyboardInterrupt:
        print("mura.py: stopped immediately; what was saved before is unchanged", file=sys.stderr)
        return 130
    except (BonesError, OSError):
        raise
    except Exception as error:
        if backend.is_out_of_memory(error):
            raise DeviceMemoryError(summary.out_of_memory(options)) from None
        if options.hosts > 1 and collectives.is_lost(error):
            raise HostsError(collectives.LOST) from None
        raise
    return 0


def train_run(run, options, resume, scope):
    """From options to a finished run folder; `scope` is devices.distribution_scope's."""
    keras.utils.set_random_seed(options.seed)
    keras.mixed_precision.set_global_policy(options.precision)
    if not resume and options.weights not in ("none", "imagenet"):
        weights_file(options.weights)  # reports a wrong path before images are drawn or decoded
    if options.data is None:
        options = options.changed(data=(str(phantom.ensure(demo=options.demo)),))
    if resume:
        run_data.check_here(options.source)
    stage = None if resume else find_first_stage(options)
    train, tuning, left_out = load_views(options, run.record().data.tuning_patients if resume else None, stage)
    data = run_data.describe(options, train, tuning, left_out, stage)
    check_hosts_alike(options, data)
    check_batch_fits_data(options, data)
    record = resumed_record(run, options, data) if resume else new_record(options, data)

    # A resumed network gets its weights from the saved state: the original file or download may be gone.
    weights = "none" if checkpoints.has_state(run) else options.weights
    with scope():
        network = build_network(options, weights)
    learn = train_epochs if options.epochs else fit_output_layer
    history, seconds = learn(run, record, network, train, tuning, resume, scope)
    if history is None:
        return
    if collectives.is_first():
        with collectives.on_this_host():
            finish(run, record, history, seconds, tuning)
    collectives.barrier()  # wait for the first host


def train_epochs(run, record, network, train, tuning, resume, scope):
    """Train to the last epoch. Returns: (history, seconds), or (None, None) when stopped."""
    options = record.options
    below, learner = constant_part(network, options, len(train.views) + len(tuning.views)) or (None, network)
    order = {"shuffle_seed": options.seed, "mixup": options.mixup, "readers": devices.readers(options.devices)}
    batches = Batches(train.pixels, options.global_batch_size, train.label, train.weight, **order)
    with scope():
        model = trainer.build_trainer(learner, options, steps_an_epoch=len(batches))
    stall = [trainer.plateau()] if options.schedule == "plateau" else []
    views_an_epoch = min(len(batches) * batches.batch_size, len(train.pixels))
    tuning_scores = callbacks.ScoreTuning(learner, tuning, views_an_epoch, options)
    stop = saving.StopSignal()
    saver = saving.SaveRun(run, network, model, tuning_scores, options.chosen, stop, *stall)
    done = saver.restore() if resume else (0, 0)
    collectives.check_alike(resume=done)
    run.write_record(record)
    print(summary.summary(record, network, run, done), flush=True)
    saver.names = checkpoints.network_names(run, network, tuning.pixels[: options.batch_size])

    if options.head_first and not any(done):
        head.fit(network, train)
    if below:
        batches.pixels, tuning_scores.pixels = (frozen.features(below, part.pixels) for part in (train, tuning))
    touches = callbacks.weight_callbacks(learner, batches.pixels, options, done)
    callback_list = [*touches, tuning_scores, *stall, callbacks.StopOnFault(steps_done=done[1]), saver]
    try:
        with stop.listen():
            trainer.fit(model, batches, options.epochs, done, callback_list)
    except saving.StoppedError:
        steps = saver.partial_epoch["steps"] if saver.partial_epoch else 0
        summary.print_stopped(run, options, len(saver.history), steps)
        return None, None
    return saver.history, sum(row["seconds"] for row in saver.history)


def fit_output_layer(run, record, network, train, tuning, resume, scope):
    """Fit the output layer alone, for a run of no epochs. Returns: (history, seconds), of which the first is empty."""
    run.write_record(record)
    print(summary.summary(record, network, run, (0, 0)), flush=True)
    names = checkpoints.network_names(run, network, tuning.pixels[: record.options.batch_size])
    start = time.perf_counter()
    head.fit(network, train)
    for name in names:
        checkpoints.save_network(run, network, name)
    run.write_history([])
    return [], time.perf_counter() - start


def finish(run, record, history, seconds, tuning):
    """Fit threshold and temperature, and write the run's record and model card."""
    options = record.options
    best = history[selected_epoch(history, options.chosen)] if history else None
    if not record.finished:
        record = record.changed(**summary.training_outcome(seconds, best))
    try:
        record = record.changed(**fit_decisions(run, tuning, options.flip_averaging))
    except KeyboardInterrupt:  # everything it depends on is saved
        summary.print_stopped(run, options, len(history))
        return
    run.write_record(record)
    card.write(run)
    summary.print_finished(run, record, best, run_data.has_held_out(options.source))


# ---------------------------------------------------------------------------------------------------------------------
# Values that depend on the machine


def resolve(request):
    """Options of a request with their values on this machine: devices, hosts, precision, run folder.

    Raises: DevicesError, UsageError where devices or options are incompatible.
    """
    options, count, num_hosts = request.options, devices.resolve(request.devices), request.plan.count
    batch_size = redistributed(options, count, num_hosts) if request.resume else options.batch_size
    precision, out = options.precision, request.out or time.strftime(f"runs/{options.recipe}-%Y%m%d-%H%M%S")
    if keras.backend.backend() == "tensorflow" and count > 1 and options.accumulation > 1:
        raise UsageError("--accumulation does not support several --devices on TensorFlow. Use KERAS_BACKEND=jax.")
    if precision == "auto":
        precision = "mixed_bfloat16" if machine.accelerator()["bfloat16"] else "float32"
    return options.changed(devices=count, hosts=num_hosts, batch_size=batch_size, precision=precision, out=out)


def redistributed(options, count, num_hosts):
    """Views per device and step of a resumed run, whose hosts and devices may have changed."""
    views = options.global_batch_size
    if views % (count * num_hosts):
        by = f"--devices {count}" + f" on {num_hosts} hosts" * (num_hosts > 1)
        raise UsageError(f"{by}: the run takes {views} views per step, which is not divisible by {count * num_hosts}.")
    return views // (count * num_hosts)


def open_folder(path, resume):
    """The run folder, which only the first host creates and writes."""
    if not collectives.is_first():
        return ReadOnlyRun(path)
    return RunFolder.open(path) if resume else RunFolder.create(path)


def build_network(options, weights):
    """The uncompiled network of a run's options, accelerated for training, with initial weights.

    Raises: WeightsError, see `catalogue.build`; UsageError when a setting does not exist for the network.
    """
    settings = {"standardise": options.standardise, "dropout": options.dropout, "pooling": options.pooling}
    if options.stochastic_depth and not catalogue.NETWORKS[options.network].is_dense:
        raise UsageError(f"{options.network} has no dense blocks, which stochastic_depth needs. Pass --set stochastic_depth=0.")
    network = catalogue.build(options.network, options.size, weights, **settings)
    if options.stochastic_depth:
        network = with_stochastic_depth(network, options.stochastic_depth)
    frozen.freeze(network, options.frozen, options.frozen_normalisation)
    return accelerate(network) if options.epochs else network  # of which only a part will compute


def constant_part(network, options, count):
    """See frozen.split; None also where its output depends on the epoch, for so many views is large, or on several devices."""
    if options.devices * options.hosts > 1 or options.mixup or options.flip_averaging or trainer.augmentation(options):
        return None
    parts = frozen.split(network)
    return parts if parts and frozen.can_store(parts[0], count) else None


# ---------------------------------------------------------------------------------------------------------------------
# Data


def find_first_stage(options):
    """The FirstStage of a new run; prints what it means for the tuning patients."""
    stage = first_stage.find(options)
    if stage and stage.same_root:
        print(f"Weights of {stage.folder}: its tuning patients stay tuning patients.")
    elif stage:
        other = f"another data root ({', '.join(stage.roots)})"
        print(f"mura.py: {stage.folder} was trained on {other}: its tuning patients have no effect.", file=sys.stderr)
    return stage


def load_views(options, tuning_patients, stage):
    """(train, tuning, left_out), see run_data; also decodes valid/."""
    parts = run_data.load_train_and_tuning(options, tuning_patients, stage)
    for note in notes(data_roots(options.source)):
        print(f"mura.py: {note}.", file=sys.stderr)
    if run_data.has_held_out(options.source):
        run_data.load_held_out(options.source, options)  # reports its errors before training, not after
    else:
        places = {"mura": "valid/ folder", "classes": "folder test/ or val/", "table": "held-out rows (column split)"}
        absent = f"{', '.join(options.data)} contains no {places[options.layout]}"
        print(f"mura.py: {absent}: there will be no held-out score.", file=sys.stderr)
    return parts


def check_hosts_alike(options, data):
    """Raise HostsError unless all hosts have the same options and data."""
    shared = {name: value for name, value in options if name in SHARED}
    collectives.check_alike(versions=machine.versions(), train=data.train, tuning=data.tuning, **shared)


def check_batch_fits_data(options, data):
    """Raise DataError where several devices have fewer training views than a step takes."""
    views, devices_in_all = options.global_batch_size, options.devices * options.hosts
    if devices_in_all > 1 and data.train["views"] < views:
        raise DataError(
            f"a step of {devices_in_all} devices takes {views} views, but only {data.train['views']} are for training.\n"
            "Pass a smaller --batch-size or fewer --devices."
        )


# ---------------------------------------------------------------------------------------------------------------------
# Record of the run


def new_record(options, data):
    """The RunRecord of a new training."""
    return RunRecord(
        command=shlex.join(["python", "mura.py", *sys.argv[1:]]),
        options=options,
        versions=machine.versions(),
        commit=machine.commit(),
        device=machine.accelerator()["device"],
        data=data,
        started=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    )


def resumed_record(run, options, data):
    """The RunRecord of a resumed run, with the current location of its data.

    Raises: DataError when the data differs from the run's.
    """
    record = run.record()
    for part in ("train", "tuning"):
        advice = "Pass the folder with the same files as --data, or start a new run."
        run_data.check_same(run, record, data.roots, part, getattr(data, part), advice)
    recorded = {name: getattr(record.data, name) for name in ("tuning_patients", "trained_types")}
    return record.changed(options=options, data=data.model_copy(update={k: v for k, v in recorded.items() if v is not None}))


def fit_decisions(run, tuning, flip_averaging):
    """Threshold and temperature of the best network from the tuning studies, for run.json."""
    network = accelerate(checkpoints.load_network(run))
    probability = predict(network, tuning.pixels, flip_averaging=flip_averaging)
    return fit(tuning.views.assign(probability=probability))

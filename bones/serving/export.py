"""Export a run's network to other runtimes; each file is loaded again and compared with Keras before it is installed."""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from bones.data.phantoms import sets as phantom
from bones.data.pixels import load_pixels
from bones.data.roots import data_roots, in_list
from bones.data.views import find_views
from bones.evaluation.classifier import Classifier
from bones.runs.data import check_here, has_held_out
from bones.scores.probabilities import decisions
from bones.scores.text import DISCLAIMER
from bones.serving.formats import FORMATS
from bones.system import backend, files
from bones.system.errors import DataError, ExportError

COMPARED = 32  # maximum number of views


def check_surroundings(formats):
    """Raise ExportError or MissingPackageError unless Keras runs on TensorFlow and the formats' packages are installed."""
    name = keras.backend.backend()
    if name != "tensorflow":
        raise ExportError(f"Keras runs on {name}, but exports need TensorFlow. Set KERAS_BACKEND=tensorflow.")
    for form in formats:
        for module in FORMATS[form].modules:
            with silence_stderr():
                backend.require(module, f"export.py --format {form}")


def export_run(run, formats, out=None, source=None):
    """Write the requested formats, and print one line each.

    Args:
        run: RunFolder.
        formats: keys of FORMATS.
        out: path of the file, for a single format; None: in the run folder.
        source: Source of the views to compare on; None: the run's training data.
    Raises: ExportError, MissingPackageError, DataError or RunError.
    """
    check_surroundings(formats)
    classifier = Classifier(run, exact=True)
    record, network = classifier.record, classifier.network
    temperature, size = record.temperature, record.options.size
    targets = {name: target_path(run, name, out) for name in formats}
    grey, about = load_sample(record, source)
    expected = classifier.predict(grey)
    graph, metadata = with_calibration(network, temperature, classifier.flip_averaging), describe(record)
    averaging = " and flip averaging" if classifier.flip_averaging else ""
    print(f"{run.path}: {network.name}, {size} px, temperature {temperature:.2f}{averaging} in the graph")
    print(f"Compared with Keras in float32 on {about}, threshold {record.threshold:.3f}")
    print(f"{run.network_file()}: {megabytes([run.network_file()])}")
    for name, target in targets.items():
        found = export(FORMATS[name], graph, metadata, target, grey, expected)
        difference = compare(found, expected, record.threshold)
        print(f"{target}: {megabytes(FORMATS[name].files(target))}, {difference}", flush=True)
    print(DISCLAIMER)
    print("Next:", FORMATS[formats[0]].example(targets[formats[0]], size))


def compare(found, expected, threshold):
    """Describe the differences of probabilities and decisions from Keras's."""
    differ = np.count_nonzero(decisions(found, threshold) != decisions(expected, threshold))
    largest = np.abs(found - expected).max()
    return f"largest difference of probability {largest:.1e}, {differ} of {len(found)} decisions differ"


def target_path(run, name, out):
    """Path of a format's file.

    Raises: ExportError when --out exists.
    """
    target = Path(out) if out else run / "export" / f"best{FORMATS[name].ending}"
    for file in FORMATS[name].files(target):
        if out and (file.exists() or file.is_symlink()):
            raise ExportError(f"{file} exists and is not replaced. Remove it, or pass another --out.")
    return target


def load_sample(record, source=None):
    """Load views to compare on, evenly spaced over the held-out split, or over train/ if there is no valid/.

    Returns: ((n, size, size, 1) uint8, their description).
    Raises: DataError when there are none.
    """
    trained, types = record.options, ["all"] if source else record.options.study_type
    if not source:
        check_here(record.source)
    source = source or record.source
    root = in_list(data_roots(source))
    split = "held-out" if has_held_out(source) else "train"
    views = find_views(source, split, types)
    views = views.iloc[np.unique(np.linspace(0, len(views) - 1, COMPARED).astype(int))]
    views, pixels = load_pixels(views, trained.size, trained.resize, skip_unreadable=True, cache=None)
    if views.empty:
        raise DataError(f"{root}: none of the selected views decodes, so the export cannot be compared. Pass --data ROOT.")
    mark = phantom.mark(phantom.describe(source))
    return pixels[np.arange(len(views))], f"{len(views)} {split} views of {root}{mark}"


def describe(record):
    """Metadata of an exported file: {name: text}."""
    trained = record.options
    size = trained.size
    averaged = "included in the graph" if trained.flip_averaging else "none"
    return {
        "network": trained.network,
        "recipe": trained.recipe,
        "study_types": " ".join(trained.study_type),
        "trained_on": record.data.phantom or "radiographs",
        "threshold": repr(float(record.threshold)),
        "temperature": f"{record.temperature}, included in the graph",
        "flip_averaging": averaged,
        "size": str(size),
        "resize": trained.resize,
        "input": f"grey, (n, {size}, {size}, 1) float32, 0 to 255, brought to a square as resize says",
        "output": "probability of abnormal, (n, 1) float32; a study's is the mean over its views, Positive from threshold on",
        "note": DISCLAIMER,
    }


def megabytes(files):
    """Total size of files and folders as text."""
    parts = [part for file in files for part in (file.rglob("*") if file.is_dir() else [file]) if part.is_file()]
    return f"{sum(part.stat().st_size for part in parts) / 1e6:.1f} MB"


# ---------------------------------------------------------------------------------------------------------------------
# One format: written under a temporary name, loaded again, compared and renamed


def export(form, network, metadata, target, grey, expected):
    """Write one format; it gets its final name only after it was verified.

    Args:
        form: one of FORMATS' values.
        network: keras.Model of `with_calibration`.
        metadata: {name: text}.
        target: path of the file.
        grey: (n, size, size, 1) uint8 to compare on.
        expected: (n,) probabilities from Keras.
    Returns: (n,) probabilities from the format's own runtime.
    Raises: ExportError when it cannot be written or is wrong; an earlier export is unchanged.
    """
    try:
        with files.scratch_folder(target) as scratch:  # a folder, because a format may have several files
            with silence_stderr():
                form.write(network, scratch / target.name, metadata)
                found = predict_from_file(form, scratch / target.name, metadata, grey)
            check(found, expected, form.limit, target)
            install(form.files(scratch / target.name), form.files(target))
            return found
    except ExportError:
        raise
    except Exception as error:  # each converter and runtime raises its own
        reason = (files.reason(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{target} cannot be written ({reason}); an earlier export is unchanged.\n"
            "Expected a writable folder, free disk space, and the package versions of requirements/extra.txt."
        ) from None


def predict_from_file(form, path, metadata, grey):
    """Load a file with its own runtime and predict the views in batches of two sizes. Returns: (n,) float64 probabilities.

    Raises: ExportError when the metadata is wrong, or a view's probability depends on its batch.
    """
    found = form.read_metadata(path)
    if any(found.get(name) != text for name, text in metadata.items()):
        raise ExportError(f"{path.name} lost its metadata (found {found}). Install the versions of requirements/extra.txt.")
    score = form.load(path)
    grey = grey.astype(np.float32)
    alone, all_views = score(grey[:1]), score(grey)
    if alone.shape != (1, 1) or all_views.shape != (len(grey), 1):
        raise ExportError(
            f"{path.name} returns shape {all_views.shape} for {len(grey)} views and {alone.shape} for one; expected (n, 1)."
        )
    if not abs(alone[0, 0] - all_views[0, 0]) <= form.limit:
        raise ExportError(f"{path.name} predicts {alone[0, 0]} alone and {all_views[0, 0]} in a batch; expected the same.")
    return all_views[:, 0].astype(float)


def check(found, expected, limit, target):
    """Raise ExportError unless probabilities agree with Keras's."""
    difference = np.abs(found - expected).max()
    if not difference <= limit:  # NaN is not
        raise ExportError(
            f"{target} was not written: probabilities are up to {difference:.2g} from Keras's (expected {limit:g} or less)."
            "\nTry another --format, and check that the package versions are those of requirements/extra.txt."
        )


def install(files, targets):
    """Give new files, or folders, their final names, after removing an earlier export completely."""
    for target in targets:
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    for file, target in zip(files, targets, strict=True):
        os.replace(file, target)


@contextlib.contextmanager
def silence_stderr():
    """Hide stderr output of converters, including that of C++ code; errors are raised as exceptions."""
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as chatter:
        os.dup2(chatter.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(terminal, 2)
            os.close(terminal)


def with_calibration(network, temperature, flip_averaging=False):
    """Build a network that returns the probability that model_test.py prints, for other runtimes.

    The graph includes `networks.batches.predict` and `scores.probabilities.calibrate`.

    Args:
        network: keras.Model in float32.
        temperature: of the run.
        flip_averaging: average the probabilities of a view and its mirror image.
    Returns: keras.Model from "grey", (n, size, size, 1) float32 of 0 to 255, to {"probability": (n, 1) float32}. The weights
        are those of `network`, not copies.
    """
    from bones.networks import fused  # imports TensorFlow

    fused.fuse_depthwise(network)  # a convolution that XLA compiles cannot be converted to ONNX
    grey = keras.Input(network.input_shape[1:], name="grey")
    # Both sides are one batch: two calls would store the network twice in the file.
    sides = ops.concatenate([grey, grey[:, :, ::-1]], axis=0) if flip_averaging else grey  # (2n or n, size, size, 1)
    probability = network(sides)
    if flip_averaging:
        probability = ops.mean(ops.reshape(probability, (2, -1, 1)), axis=0)
    if temperature != 1.0:
        # In float32 1 - 1e-7 is 1 - 1.2e-7, so 1 - probability is clipped separately. tf2onnx does not support log1p.
        logit = ops.log(ops.clip(probability, 1e-7, 1.0)) - ops.log(ops.clip(1.0 - probability, 1e-7, 1.0))
        probability = ops.sigmoid(logit / temperature)
    return keras.Model(grey, {"probability": probability}, name=network.name)

"""What a script inherits from its user's environment, put in order before libraries are imported: one place for all scripts.

A notebook's kernel, a container, a cluster or a configuration file may ask for what no script here needs or survives.
"""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings

SET = {
    "MPLBACKEND": "agg",  # no script shows a window; a notebook's kernel names a backend that may not be installed here
    "MATPLOTLIBRC": os.devnull,  # figures have a style of their own, whatever a user's file asks for, such as LaTeX
    "HDF5_USE_FILE_LOCKING": "FALSE",  # some file systems have no locks; a run folder has a lock of its own
    "ORT_DISABLE_TELEMETRY": "1",  # onnxruntime looks up Microsoft's host, and keeps a device's number in the home folder
}
PAGE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1"}
KEPT_OF_GRADIO = "GRADIO_ROOT_PATH"  # of a page behind a proxy; others may share the page, or files of this machine
UNSET = (
    *("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"),  # would end each training early
    "KERAS_NNX_ENABLED",  # other variables under JAX, which the networks do not have
    "NUMBA_DISABLE_JIT",  # batch normalisation's kernels are compiled functions
    "PYTHONWARNINGS",  # of processes that a script starts
)
GENERAL = (Warning, UserWarning, DeprecationWarning, FutureWarning, RuntimeWarning, ImportWarning, ResourceWarning)
DEFAULTS_OF_KERAS = {"floatx": "float32", "epsilon": 1e-7, "image_data_format": "channels_last"}
NO_TELEMETRY = "openvino_telemetry"  # reports to Google Analytics, and ends a process without a home folder
# What TensorFlow prints on every start, whatever its log level.
NOTICES = (
    r"WARNING: All log messages before absl::InitializeLog\(\)",
    r"I\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] (oneDNN custom operations are on|Could not find cuda drivers)",
    r"E\d{4} [\d:.]+ +\d+ cuda_platform\.cc:\d+\] failed call to cuInit: .*(UNKNOWN ERROR \(303\)|no CUDA-capable device)",
)
FILTER = """
import re, signal, sys
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, signal.SIG_IGN)
notice = re.compile(sys.argv[1].encode())
for line in sys.stdin.buffer:
    if not notice.match(line):
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
"""


def open_standard_streams():
    """Open the null device where a shell has closed a standard stream (2>&-).

    Otherwise the next file that is opened takes its number, and C++ code writes messages into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115, stays open
            setattr(sys, name, stream)


def prepare():
    """Prepare this process, and those that it starts. Called before NumPy's users, Keras and Matplotlib are imported."""
    os.environ.update(SET)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors alone of TensorFlow's messages
    for name in UNSET:
        os.environ.pop(name, None)
    sys.modules.setdefault(NO_TELEMETRY, None)  # OpenVINO then takes its own stub, as where the package is not installed
    # Under python -W error, the first deprecation in a library would end a script.
    warnings.filters[:] = [one for one in warnings.filters if one[0] != "error" or one[2] not in GENERAL]
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns where the home folder has no place for its cache
    if not is_good_keras_json():
        os.environ["KERAS_HOME"] = os.path.join(tempfile.gettempdir(), "keras-without-keras.json")
    if not os.path.isabs(os.path.expanduser("~")):  # no HOME, and a user without an entry, as in a container
        os.environ["HOME"] = tempfile.gettempdir()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not one of a notebook or a test
            stream.reconfigure(errors="backslashreplace")  # a console of ASCII shows an escape


def is_good_keras_json():
    """Whether Keras survives the keras.json that it reads at its import: one that is missing or not JSON has no effect."""
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    try:
        with open(os.path.join(home, "keras.json"), encoding="utf-8") as file:
            content = json.load(file)
        values = {**DEFAULTS_OF_KERAS, **content}
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except (OSError, TypeError):  # a folder, or no object
        return False
    formats = values["image_data_format"] in ("channels_last", "channels_first")
    return formats and values["floatx"] in ("float16", "float32", "float64") and isinstance(values["epsilon"], float)


def prepare_page(folder):
    """Prepare this process for Gradio, before it is imported: nothing leaves the machine, and nothing else is served.

    Args:
        folder: for uploads.
    """
    for name in list(os.environ):
        # The page asks itself whether it is served, which no proxy can tell.
        is_proxy = name.lower() in ("http_proxy", "https_proxy", "all_proxy")
        if is_proxy or (name.startswith("GRADIO_") and name != KEPT_OF_GRADIO):
            del os.environ[name]
    os.environ.update(PAGE, GRADIO_TEMP_DIR=folder)


def settle():
    """Undo what files of settings ask of libraries that are imported.

    keras.json may ask for a format, precision or constant that the networks do not have, and a matplotlibrc in the working
    directory, which comes before MATPLOTLIBRC, for LaTeX.
    """
    if "matplotlib" in sys.modules:
        sys.modules["matplotlib"].rcdefaults()
    keras = sys.modules.get("keras")
    if keras is not None:
        keras.config.set_image_data_format("channels_last")
        keras.config.set_floatx("float32")
        keras.config.set_epsilon(1e-7)


@contextlib.contextmanager
def without_notices():
    """Standard error without NOTICES while TensorFlow starts; all other lines pass at once, also where the process crashes.

    They are written by C++ code, which no log level and no Python stream reaches: a process filters the file descriptor.
    """
    sys.stderr.flush()
    plain = os.dup(2)
    command = [sys.executable, "-I", "-S", "-c", FILTER, "|".join(NOTICES)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=plain) as filtering:
        os.dup2(filtering.stdin.fileno(), 2)
        try:
            yield
            list_devices()
        finally:
            sys.stderr.flush()
            os.dup2(plain, 2)
            filtering.stdin.close()
    os.close(plain)


def list_devices():
    """Make TensorFlow look for devices, if it is imported: it prints notices when it does so first."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None:
        tensorflow.config.list_physical_devices()

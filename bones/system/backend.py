"""Required packages: Keras's backend, chosen before Keras is imported, and packages that only some parts need."""

import contextlib
import importlib
import importlib.util
import os
import platform
import sys
import types

from bones.system.errors import MissingPackageError, short_message

BACKENDS = ("tensorflow", "jax", "torch", "openvino")
# Names of the exceptions of TensorFlow and JAX, PyTorch, Python.
MEMORY_FAULTS = ("ResourceExhaustedError", "OutOfMemoryError", "MemoryError")


def is_out_of_memory(error):
    """Whether an exception of TensorFlow, JAX, PyTorch or NumPy means that memory ran out."""
    said = any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "std::bad_alloc"))
    return said or any(kind.__name__ in MEMORY_FAULTS for kind in type(error).__mro__)


def choose(preferred=None):
    """Check, before Keras is imported, that the backend of KERAS_BACKEND is installed.

    Args:
        preferred: the backend to set where KERAS_BACKEND is not set, if it is installed.
    Raises: MissingPackageError when the requested backend is unknown or not installed.
    """
    if "keras" in sys.modules:
        return
    if preferred and importlib.util.find_spec(preferred):
        os.environ.setdefault("KERAS_BACKEND", preferred)
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        raise MissingPackageError(
            f"KERAS_BACKEND is {name}; expected one of {', '.join(BACKENDS)}. Set one of them, or unset it."
        )
    if importlib.util.find_spec(name) is None:
        raise MissingPackageError(not_installed(name))
    os.environ["KERAS_BACKEND"] = name  # or Keras would ask keras.json


def not_installed(name):
    """The message for a backend that is not installed, or does not exist for this system."""
    if os.environ.get("KERAS_BACKEND"):
        return f"KERAS_BACKEND is {name}, which is not installed: pip install {name}. Or unset KERAS_BACKEND."
    if (platform.system(), platform.machine()) == ("Darwin", "x86_64"):
        return (
            "TensorFlow 2.21 does not exist for Macs with Intel processors. data_loader.py and plot_results.py run without it; "
            'for the others, use Linux, such as in a container: docker run -it -v "$PWD:/bones" -w /bones python:3.13 bash'
        )
    return "TensorFlow is not installed: pip install -r requirements.txt"


def import_keras():
    """Import Keras alone: it would also import packages for functions that no script here uses, which takes two seconds.

    On other backends, it would import TensorFlow when it first seeds or saves something, to ask whether that is installed.
    """
    if "keras" in sys.modules:
        return
    with hidden("sklearn", "matplotlib.pyplot", *({"jax"} - {os.environ["KERAS_BACKEND"]})):
        # SciPy imports its parts on use, so Keras's OpenVINO backend needs no more of this one than a name.
        is_new = "scipy.signal" not in sys.modules
        sys.modules.setdefault("scipy.signal", types.ModuleType("scipy.signal"))
        keras = importlib.import_module("keras")  # not above: command lines are parsed without it
        if is_new:
            del sys.modules["scipy.signal"]
    with hide_tensorflow():
        keras.utils.set_random_seed(0)  # asks, and remembers the answer


@contextlib.contextmanager
def hidden(*modules):
    """Context in which the import of some modules raises ImportError, but for those that are imported already."""
    new = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(new))
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


def hide_tensorflow():
    """On other backends, prevent Keras from importing TensorFlow, which it does not need there and which takes four seconds."""
    return hidden(*({"tensorflow"} - {sys.modules["keras"].backend.backend()}))


def require(module, what):
    """Import an optional package.

    Args:
        module: its name in Python, such as "onnxruntime".
        what: what needs it, for the message, such as "export.py --format onnx".
    Returns: the module.
    Raises: MissingPackageError when it is not installed, or does not load.
    """
    try:
        found = importlib.import_module(module)
        if found.__file__ is None:  # a folder that pip left behind imports as a package
            raise ModuleNotFoundError(name=module.split(".")[0])
        return found
    except ImportError as error:
        is_absent = isinstance(error, ModuleNotFoundError) and error.name == module.split(".")[0]
        fault = "is not installed" if is_absent else f"does not load ({short_message(error)})"
        raise MissingPackageError(f"{module} {fault}, and {what} needs it: pip install -r requirements/extra.txt") from None

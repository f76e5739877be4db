"""Which backend Keras computes with: chosen, and found to be installed, before Keras is imported."""

import importlib.util
import os
import sys

BACKENDS = ("tensorflow", "jax", "torch", "openvino")


# What engines call it: TensorFlow and JAX, PyTorch, Python.
MEMORY_FAULTS = ("ResourceExhaustedError", "OutOfMemoryError", "MemoryError")


def is_out_of_memory(error):
    """Whether an exception of TensorFlow, JAX, PyTorch or NumPy says that memory ran out."""
    return any(kind.__name__ in MEMORY_FAULTS for kind in type(error).__mro__) or "RESOURCE_EXHAUSTED" in str(error)


def choose(scoring=False):
    """Set KERAS_BACKEND where nobody has: to openvino, if it is installed, for scoring alone. Ends the script if it cannot be.

    Args:
        scoring: whether the script trains nothing; OpenVINO opens the same best.h5 and scores faster on a CPU.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's own notices; it must be set before Keras loads it
    if "keras" in sys.modules:
        return
    if scoring and importlib.util.find_spec("openvino"):
        os.environ.setdefault("KERAS_BACKEND", "openvino")
    name = os.environ.get("KERAS_BACKEND") or "tensorflow"
    if name not in BACKENDS:
        sys.exit(f"KERAS_BACKEND is {name}; expected one of {', '.join(BACKENDS)}. Set one of them, or unset it.")
    if importlib.util.find_spec(name) is None:
        sys.exit(f"KERAS_BACKEND is {name}, which is not installed: pip install {name}. Or unset KERAS_BACKEND.")

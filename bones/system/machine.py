"""The machine and software that run.json records: processor, accelerator, versions, commit."""

import functools
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np


def accelerator():
    """What the backend computes on: {"device": name, "bfloat16": whether it has fast bfloat16 arithmetic}."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        for gpu in tf.config.list_physical_devices("GPU"):
            details = tf.config.experimental.get_device_details(gpu)
            return {
                "device": details.get("device_name", "GPU"),
                "bfloat16": details.get("compute_capability", (0, 0)) >= (8, 0),
            }
    elif backend == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform != "cpu":
            return {"device": device.device_kind, "bfloat16": True}
    elif backend == "torch":
        import torch

        if torch.cuda.is_available():
            return {"device": torch.cuda.get_device_name(), "bfloat16": torch.cuda.is_bf16_supported(including_emulation=False)}
    return processor()


def has_accelerator():
    """Whether the backend computes on something other than the processor."""
    return accelerator() != processor()


def processor():
    """Name of this machine's processor, and whether it has bfloat16 arithmetic (AVX512-BF16 or AMX, read on Linux)."""
    name, flags = name_and_flags()
    return {"device": f"{name}, {os.cpu_count()} cores", "bfloat16": bool(flags & {"amx_bf16", "avx512_bf16"})}


def has_avx2_alone():
    """Whether this is an x86 processor with AVX2 and without AVX-512, read on Linux."""
    flags = name_and_flags()[1]
    return "avx2" in flags and "avx512f" not in flags


@functools.cache
def name_and_flags():
    """(the processor's name, set of its instruction sets); the set is empty elsewhere than on Linux."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name") or platform.processor() or platform.machine()
    return name, frozenset(fields.get("flags", "").split())


def versions():
    """Versions of the packages that affect results: {"python", "keras", the backend's name, "numpy"}."""
    import keras

    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        "keras": keras.__version__,
        backend: sys.modules[backend].__version__,
        "numpy": np.__version__,
    }


def commit():
    """The commit of this repository, with + where files differ from it; None outside a git checkout."""
    here = Path(__file__).parents[2]
    try:
        git = ["git", "-C", str(here)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout.strip()
        return head + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None

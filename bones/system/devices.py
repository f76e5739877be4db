"""Data-parallel training on several devices of one machine: each batch is divided among them; gradients are averaged.

TensorFlow uses tf.distribute.MirroredStrategy, JAX keras.distribution.DataParallel, also over several hosts (collectives.py);
PyTorch trains on one device. Without a GPU, devices are logical devices of the CPU, for tests; they are no faster than one.
"""

import contextlib
import functools
import os

import keras

from bones.system import collectives
from bones.system.errors import DevicesError

MULTI_DEVICE_BACKENDS = ("tensorflow", "jax")  # backends whose devices can train together


def resolve(asked):
    """How many devices to train on. It may divide the CPU into logical devices, so call it before anything is computed.

    Args:
        asked: a number, or "auto": all GPUs, or else one device.
    Raises: DevicesError when so many are not available.
    """
    name = keras.backend.backend()
    if asked == "auto":
        return max(1, gpus()) if name in MULTI_DEVICE_BACKENDS else 1
    if asked == 1:
        return 1
    if name not in MULTI_DEVICE_BACKENDS:
        raise DevicesError(
            f"--devices {asked}: with {name} one device trains. Set KERAS_BACKEND to {' or '.join(MULTI_DEVICE_BACKENDS)}."
        )
    if name == "jax" or not gpus():  # `gpus` initialises JAX, after which the CPU cannot be divided
        split_cpu(asked)
    if 0 < gpus() < asked:
        raise DevicesError(f"--devices {asked}: there are {gpus()} GPUs. Pass at most that many, or auto.")
    return asked


def gpus():
    """How many GPUs the backend, TensorFlow or JAX, has."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return len(tf.config.list_physical_devices("GPU"))
    import jax

    return sum(device.platform != "cpu" for device in jax.local_devices())


def split_cpu(count):
    """Divide the CPU into `count` logical devices.

    Raises: DevicesError when the backend was initialised with fewer.
    """
    try:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            (processor,) = tf.config.list_physical_devices("CPU")
            tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
        else:
            import jax

            # XLA reads NPROC for the size of its thread pool. With one thread a device, a step can deadlock.
            os.environ.setdefault("NPROC", str(2 * count + 2))
            jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        raise DevicesError(f"--devices {count}: this process has computed on fewer. Train in a new process.") from None


@contextlib.contextmanager
def distribution_scope(count, num_hosts=1):
    """Context for training on several devices: `count` of each host.

    Yields: a function whose context is the one to build networks and optimizers in.
    """
    if count * num_hosts == 1:
        yield contextlib.nullcontext
    elif keras.backend.backend() == "tensorflow":
        yield mirrored(count).scope
    else:
        with keras.distribution.DataParallel(devices=of_each_host(count), auto_shard_dataset=False).scope():
            collectives.barrier()  # Gloo waits 30 s for the first collective, longer for later ones
            yield contextlib.nullcontext


def of_each_host(count):
    """Keras's names of the first devices of each host, on JAX.

    Raises: DevicesError when a host has fewer.
    """
    import jax

    names = {}
    for device in jax.devices():
        names.setdefault(device.process_index, []).append(f"{device.platform}:{device.id}")
    if any(len(own) < count for own in names.values()):
        raise DevicesError(f"--devices {count}: some host has fewer. Pass a number that each has.")
    return [name for own in names.values() for name in own[:count]]


@functools.cache
def mirrored(count):
    """TensorFlow's strategy, one a process: two would use the same keys for collective operations, and mix up their values."""
    import tensorflow as tf

    kind = "GPU" if gpus() else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def readers(count):
    """Number of reader threads for `count` devices."""
    # MirroredStrategy starts reading an epoch twice; Keras's reader threads would then continue the first pass.
    return 0 if count > 1 and keras.backend.backend() == "tensorflow" else 2

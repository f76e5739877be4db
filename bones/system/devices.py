"""Several devices of one machine train together: each batch is divided among them, and their gradients are averaged.

TensorFlow does so with tf.distribute.MirroredStrategy, JAX with keras.distribution.DataParallel, also over several hosts
(collectives.py); PyTorch has one.
Without a GPU, devices are parts of the processor: a way to test, no faster than one.
"""

import contextlib
import functools
import os

import keras

from bones.system import collectives
from bones.system.errors import DevicesError

MULTI_DEVICE_BACKENDS = ("tensorflow", "jax")  # backends whose devices can train together


def resolve(asked):
    """How many devices to train on. The processor is divided where that is asked for, so call it before anything is computed.

    Args:
        asked: a number, or "auto": all GPUs, or else one device.
    Raises: DevicesError when so many are not to be had.
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
    if name == "jax" or not gpus():  # JAX starts when it is asked for GPUs, and then it is too late
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
    """Make so many devices of the processor.

    Raises: DevicesError when the backend has started with fewer.
    """
    try:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            (processor,) = tf.config.list_physical_devices("CPU")
            tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * count)
        else:
            import jax

            # XLA reads it for its pool of threads. With one a device, those of a step can wait for one another without end.
            os.environ.setdefault("NPROC", str(2 * count + 2))
            jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        raise DevicesError(f"--devices {count}: this process has computed on fewer. Train in a new one.") from None


@contextlib.contextmanager
def distribution_scope(count, num_hosts=1):
    """Where networks are trained by several devices at once: so many of each host.

    Yields: a function whose context is the one to build networks and optimizers in.
    """
    if count * num_hosts == 1:
        yield contextlib.nullcontext
    elif keras.backend.backend() == "tensorflow":
        yield mirrored(count).scope
    else:
        with keras.distribution.DataParallel(devices=of_each_host(count), auto_shard_dataset=False).scope():
            collectives.barrier()  # all are here now: Gloo waits half a minute for a first meeting, and for later ones longer
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
        raise DevicesError(f"--devices {count}: not every host has so many. Pass a number that each has.")
    return [name for own in names.values() for name in own[:count]]


@functools.cache
def mirrored(count):
    """TensorFlow's strategy, one a process: two would number what devices exchange alike, and take it for each other's."""
    import tensorflow as tf

    kind = "GPU" if gpus() else "CPU"
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def readers(count):
    """Threads that read batches ahead for so many devices."""
    # MirroredStrategy begins to read an epoch twice, and Keras's threads then go on with the batches of the first time.
    return 0 if count > 1 and keras.backend.backend() == "tensorflow" else 2

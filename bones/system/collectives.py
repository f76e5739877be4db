"""Collective operations of several hosts on JAX. Each host provides its share of every batch; only the first writes and prints.

All hosts run the same steps, and JAX computes over the devices of all. With one host, each function here does nothing, or
returns that host's values.
"""

import contextlib
import json
import os
import sys
import traceback
import zlib

import keras
import numpy as np

from bones.system import scripts
from bones.system.errors import HostsError, short_message
from bones.system.hosts import HEARTBEAT_SECONDS, START, announce, wait_for_hosts

LOST = (
    "another host has ended, or cannot be reached; its own message gives the cause.\n"
    "Start all hosts again with --resume: training resumes from the last epoch that was saved, also with fewer hosts."
)


def join(one):
    """Connect to the other hosts of a Plan; from here on only the first one prints.

    Raises: HostsError when the backend does not support it, or when the others do not connect.
    """
    if one.count == 1:
        return
    if keras.backend.backend() != "jax":
        raise HostsError(
            f"--hosts: with {keras.backend.backend()} one host trains (TensorFlow's MultiWorkerMirroredStrategy does not work "
            "with Keras 3). Set KERAS_BACKEND to jax."
        )
    print(f"Host {one.number} of {one.count}: waiting for the others at {one.coordinator}.", file=sys.stderr, flush=True)
    (wait_for_hosts if one.number == 0 else announce)(one)
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would replace our handler of SIGTERM
    try:
        jax.distributed.initialize(
            one.coordinator,
            one.count,
            one.number,
            cluster_detection_method="deactivate",
            initialization_timeout=START,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except RuntimeError as error:
        raise HostsError(f"--hosts: JAX could not start at {one.coordinator} ({short_message(error)}). Try again.") from None
    scripts.on_exit(leave)
    if one.number:
        print("Only the first host prints. If JAX aborts this process, another host has ended.", file=sys.stderr)
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, it stays open


def is_first():
    """Whether this is the host that writes: the first of those that have joined, or the only one."""
    return keras.backend.backend() != "jax" or sys.modules["jax"].process_index() == 0


def place():
    """(number, count): which of the hosts that train together this is; (0, 1) where one trains, or inside `on_this_host`."""
    if keras.distribution.distribution() is None:
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def share(views, number, count):
    """The slice of a batch of `views` views that a host reads."""
    return slice(number * views // count, (number + 1) * views // count)


def all_gather(value):
    """An array, or a scalar, of each host: (hosts, ...)."""
    value, (_, count) = np.asarray(value)[None], place()
    if count == 1:
        return value
    import jax

    # One row for each training device: Gloo connects all of them in the first collective; later connections may be slow.
    devices = keras.distribution.distribution().num_model_replicas // count
    layout = keras.distribution.distribution().get_data_layout(value.shape).backend_layout
    rows = jax.make_array_from_process_local_data(layout, np.repeat(value, devices, axis=0))
    return np.asarray(jax.jit(unchanged, out_shardings=replicated_sharding(value.ndim))(rows))[::devices]


def unchanged(array):
    """What `all_gather` computes: a named function, so that JAX compiles it once."""
    return array


def replicated_sharding(dimensions):
    """The JAX sharding of an array that is replicated on each device."""
    shared = keras.distribution.distribution()
    return keras.distribution.TensorLayout([None] * dimensions, shared.device_mesh).backend_layout


def barrier():
    """Wait until all hosts have reached this point."""
    all_gather(0)


def any_host(yes):
    """Whether the value is true on any host; all hosts get the same answer."""
    return bool(all_gather(yes).any())


def check_alike(**facts):
    """Raise HostsError, on every host, unless all hosts have the same facts: JSON values by name."""
    sums = [zlib.crc32(json.dumps(value, sort_keys=True).encode()) for value in facts.values()]
    found = all_gather(np.array(sums, np.uint32))
    others = [name for name, same in zip(facts, (found == found[0]).all(axis=0), strict=True) if not same]
    if others:
        raise HostsError(
            f"the hosts differ in {', '.join(others)}. Run the same command, on the same data and versions, on each."
        )


@contextlib.contextmanager
def replicated_predictions(network):
    """Context in which every host gets a network's predictions for all views, in place of those for its own share."""
    if place()[1] == 1:
        yield
        return
    import jax

    before = network.predict_step

    def step(state, data):
        outputs, state = before(state, data)
        return jax.lax.with_sharding_constraint(outputs, replicated_sharding(outputs.ndim)), state

    network.predict_step = step
    try:
        yield
    finally:
        del network.predict_step


@contextlib.contextmanager
def on_this_host():
    """Context in which a host computes without the others, on one of its own devices."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def is_lost(error):
    """Whether an exception means that another host has ended."""
    words = ("gloo", "nccl", "coordination service", "connection reset", "remote process")
    return any(word in str(error).lower() for word in words)


def leave(status):
    """Disconnect: after an error at once, so that the others notice; otherwise when all have reached this point."""
    jax = sys.modules.get("jax")
    if jax is None or not jax.distributed.is_initialized():
        return
    if sys.exc_info()[0] not in (None, SystemExit):
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        os._exit(status)
    jax.distributed.shutdown()

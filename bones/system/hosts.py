"""Several hosts train as one, on JAX: each hands over its share of every batch, and only the first one writes and speaks.

    KERAS_BACKEND=jax python mura.py --data ROOT --out FOLDER --hosts 2@node1:7777 --host-number 0      on node1
    KERAS_BACKEND=jax python mura.py --data ROOT --out FOLDER --hosts 2@node1:7777 --host-number 1      on node2

A host here is a process; two on one machine are two hosts. Each goes through the same steps by itself, and they meet where JAX
computes over the devices of all. TensorFlow's MultiWorkerMirroredStrategy does not work with Keras 3 (keras issue 20585).
"""

import contextlib
import dataclasses
import json
import os
import re
import socket
import sys
import time
import traceback
import zlib

import keras
import numpy as np

from bones.system.errors import HostsError

# Seconds after which a host that says nothing counts as dead, and the others end. One whose connections break is known at once.
SILENCE = 60
# Seconds in which all hosts must have started.
START = 300
SLURM = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST")
LOST = (
    "another host has ended, or cannot be reached; what it says of itself is the cause.\n"
    "Start all hosts again with --resume: the training goes on from the last epoch that was saved, also with fewer hosts."
)
NOT_COME = (
    "--hosts: {who} did not come to {meeting} within {seconds} s.\n"
    "See that each runs the same command with its own --host-number, and that the first one's port is open to the others."
)


@dataclasses.dataclass
class Plan:
    """How many hosts there are, which one this is, from 0, and ADDRESS:PORT of the first, where they meet."""

    count: int = 1
    number: int = 0
    meeting: str = ""


def plan(text, number=None, environment=os.environ):
    """What --hosts and --host-number say.

    Args:
        text: N@ADDRESS:PORT, slurm, or None: one host.
        number: this host's, from 0; None: what Slurm or an indexed job of Kubernetes says.
    Raises: HostsError when they say nothing that can be.
    """
    if text is None:
        if number is not None:
            raise HostsError("--host-number goes with --hosts N@ADDRESS:PORT.")
        return Plan()
    if text == "slurm":
        return slurm_plan(environment)
    found = re.fullmatch(r"(\d+)@(.+:(\d+))", text)
    if not found or int(found[1]) == 0 or not 0 < int(found[3]) < 65536:
        raise HostsError(f"--hosts {text}: expected N@ADDRESS:PORT, as in 2@node1:7777 (the first host's address), or slurm.")
    if number is None:
        known = [environment[name] for name in ("JOB_COMPLETION_INDEX", "SLURM_PROCID") if name in environment]
        if not known:
            raise HostsError(f"--hosts {text}: pass --host-number, which of the {found[1]} this host is, from 0.")
        number = int(known[0])
    if not 0 <= number < int(found[1]):
        raise HostsError(f"--host-number {number}: expected 0 to {int(found[1]) - 1}, as --hosts says {found[1]}.")
    return Plan(int(found[1]), number, found[2])


def slurm_plan(environment):
    """What Slurm says of the step that this process is a task of."""
    missing = [name for name in SLURM if name not in environment]
    if missing:
        raise HostsError(f"--hosts slurm: {', '.join(missing)} not set. Start it with srun, one task a node.")
    job, count, number, nodes = (environment[name] for name in SLURM)
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)  # node1, node1,other or node[001-004,7]
    port = 61440 + int(job) % 4096  # jobs that share a node do not meet
    return Plan(int(count), int(number), f"{first[1]}{first[2] or ''}:{port}")


def join(one):
    """Meet the other hosts of a Plan; from here on only the first one prints.

    Raises: HostsError when the backend cannot, or when the others do not come.
    """
    if one.count == 1:
        return
    if keras.backend.backend() != "jax":
        raise HostsError(
            f"--hosts: with {keras.backend.backend()} one host trains (TensorFlow's MultiWorkerMirroredStrategy does not work "
            "with Keras 3). Set KERAS_BACKEND to jax."
        )
    print(f"Host {one.number} of {one.count}: waiting for the others at {one.meeting}.", file=sys.stderr, flush=True)
    (gather if one.number == 0 else report)(one)
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away from us
    try:
        jax.distributed.initialize(
            one.meeting,
            one.count,
            one.number,
            cluster_detection_method="deactivate",
            initialization_timeout=START,
            heartbeat_timeout_seconds=SILENCE,
        )
    except RuntimeError as error:
        raise HostsError(f"--hosts: JAX could not start at {one.meeting} ({str(error).splitlines()[0]}). Try again.") from None
    if one.number:
        print("What the first host prints is for all. Should JAX abort this process, another host has ended.", file=sys.stderr)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, it stays open


# JAX aborts the whole process, with a stack trace, when a host does not come. So they meet by themselves before: the first one
# listens where JAX will, each other one says its number there, and is told "go" when all have come.


def gather(one):
    """Wait, as the first host, until all others have reported."""
    until, here = time.monotonic() + START, {}
    with listening(int(one.meeting.rsplit(":", 1)[1])) as server, contextlib.ExitStack() as connections:
        while len(here) < one.count - 1:
            server.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection = connections.enter_context(server.accept()[0])
                connection.settimeout(10)
                said = connection.recv(16)
            except OSError:  # of accept, or of a stranger who says nothing
                if time.monotonic() >= until:
                    missing = ", ".join(str(number) for number in range(1, one.count) if number not in here)
                    raise HostsError(NOT_COME.format(who=f"host {missing}", meeting=one.meeting, seconds=START)) from None
                continue
            number = int(said) if said.isdigit() else 0
            if 0 < number < one.count and number not in here:
                here[number] = connection
            else:
                connection.sendall(b"no")
        for connection in here.values():
            connection.sendall(b"go")
        for connection in here.values():
            connection.recv(16)  # the other closes first, so that the port is free at once


def listening(port):
    """A socket that takes connections at a port of this machine, by IPv6 too where it has that."""
    both = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
    except OSError as error:
        raise HostsError(f"--hosts: port {port} cannot be listened at ({error.strerror}). Take another.") from None


def report(one):
    """Tell the first host this one's number, and wait for its word."""
    address, port = one.meeting.rsplit(":", 1)
    until, answer = time.monotonic() + START, b""
    while not answer and time.monotonic() < until:
        try:
            with socket.create_connection((address.strip("[]"), int(port)), timeout=10) as connection:
                connection.sendall(str(one.number).encode())
                connection.settimeout(max(0.01, until - time.monotonic()))
                answer = connection.recv(16)
        except OSError:  # it is not there yet
            time.sleep(1)
    if answer == b"no":
        raise HostsError(f"--host-number {one.number}: another host has said so, or the first one expects fewer. Number each.")
    if not answer:
        raise HostsError(NOT_COME.format(who="the first host, or not all others,", meeting=one.meeting, seconds=START))


def is_first():
    """Whether this is the host that writes: the first of those that have joined, or the only one."""
    return keras.backend.backend() != "jax" or sys.modules["jax"].process_index() == 0


def place():
    """(number, count): which of the hosts that train together this is; (0, 1) where one trains, or computes by itself."""
    if keras.distribution.distribution() is None:
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def share(views, number, count):
    """A host's part of a batch of so many views, as a slice."""
    return slice(number * views // count, (number + 1) * views // count)


def gathered(value):
    """An array, or a scalar, of each host: (hosts, ...)."""
    value, (_, count) = np.asarray(value)[None], place()
    if count == 1:
        return value
    import jax

    # A row a device, of those that train: Gloo connects them once, at the first meeting; later ones may take long.
    devices = keras.distribution.distribution().num_model_replicas // count
    layout = keras.distribution.distribution().get_data_layout(value.shape).backend_layout
    rows = jax.make_array_from_process_local_data(layout, np.repeat(value, devices, axis=0))
    return np.asarray(jax.jit(unchanged, out_shardings=everywhere(value.ndim))(rows))[::devices]


def unchanged(array):
    """What `gathered` computes: a function of its own, for JAX to know again."""
    return array


def everywhere(dimensions):
    """The JAX sharding of an array that each device has whole."""
    shared = keras.distribution.distribution()
    return keras.distribution.TensorLayout([None] * dimensions, shared.device_mesh).backend_layout


def wait():
    """Until all hosts have come so far."""
    gathered(0)


def any_says(yes):
    """Whether any host says yes; all hear the same answer."""
    return bool(gathered(yes).any())


def check_alike(**facts):
    """Raise HostsError, on every host, unless what each knows is the same: JSON values by name."""
    sums = [zlib.crc32(json.dumps(value, sort_keys=True).encode()) for value in facts.values()]
    found = gathered(np.array(sums, np.uint32))
    others = [name for name, same in zip(facts, (found == found[0]).all(axis=0), strict=True) if not same]
    if others:
        raise HostsError(
            f"the hosts differ in {', '.join(others)}. Run the same command, on the same data and versions, on each."
        )


@contextlib.contextmanager
def heard_by_all(network):
    """Where what a network predicts reaches all hosts whole; else each would have the predictions of its own share."""
    if place()[1] == 1:
        yield
        return
    import jax

    before = network.predict_step

    def step(state, data):
        outputs, state = before(state, data)
        return jax.lax.with_sharding_constraint(outputs, everywhere(outputs.ndim)), state

    network.predict_step = step
    try:
        yield
    finally:
        del network.predict_step


@contextlib.contextmanager
def by_itself():
    """Where a host computes alone, on one of its own devices."""
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def is_lost(error):
    """Whether an exception says that another host is gone."""
    words = ("gloo", "nccl", "coordination service", "connection reset", "remote process")
    return any(word in str(error).lower() for word in words)


def leave(status):
    """End the meeting: at a fault at once, where the others see the connections break; else when all have come so far."""
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

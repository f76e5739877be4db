"""The options --hosts and --host-number, and how hosts connect before JAX starts; collective operations: collectives.py.

    KERAS_BACKEND=jax python mura.py --data ROOT --out FOLDER --hosts 2@node1:7777 --host-number 0      on node1
    KERAS_BACKEND=jax python mura.py --data ROOT --out FOLDER --hosts 2@node1:7777 --host-number 1      on node2

A host here is a process; two on one machine are two hosts. TensorFlow's MultiWorkerMirroredStrategy does not work with Keras 3
(keras issue 20585). Nothing here imports Keras.
"""

import contextlib
import dataclasses
import os
import re
import socket
import time

from bones.system.errors import HostsError

# Seconds without a heartbeat after which a host counts as dead, and the others end. Broken connections are noticed at once.
HEARTBEAT_SECONDS = 60
# Seconds in which all hosts must have started.
START = 300
SLURM = ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST")
HOST_MISSING = (
    "--hosts: {who} did not connect to {coordinator} within {seconds} s.\n"
    "Check that each runs the same command with its own --host-number, and that the first one's port is open to the others."
)


@dataclasses.dataclass
class Plan:
    """How many hosts there are, which one this is, from 0, and ADDRESS:PORT of the first, which they connect to."""

    count: int = 1
    number: int = 0
    coordinator: str = ""


def plan(text, number=None, environment=os.environ):
    """The Plan that --hosts and --host-number describe.

    Args:
        text: N@ADDRESS:PORT, slurm, or None: one host.
        number: this host's, from 0; None: as Slurm or an indexed Kubernetes job sets it.
    Raises: HostsError when they are invalid.
    """
    if text is None:
        if number is not None:
            raise HostsError("--host-number needs --hosts N@ADDRESS:PORT.")
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
    """The Plan of the Slurm step that this process is a task of."""
    missing = [name for name in SLURM if name not in environment]
    if missing:
        raise HostsError(f"--hosts slurm: {', '.join(missing)} not set. Start it with srun, one task a node.")
    job, count, number, nodes = (environment[name] for name in SLURM)
    first = re.match(r"([^,\[]+)(?:\[(\d+))?", nodes)  # node1, node1,other or node[001-004,7]
    port = 61440 + int(job) % 4096  # jobs that share a node use different ports
    return Plan(int(count), int(number), f"{first[1]}{first[2] or ''}:{port}")


# JAX aborts the process, with a stack trace, when a host does not connect. So hosts first connect without JAX: the first one
# listens where JAX will, each other one sends its number there, and receives "go" when all have connected.


def wait_for_hosts(one):
    """Wait, as the first host, until all others have reported."""
    until, here = time.monotonic() + START, {}
    with listening(int(one.coordinator.rsplit(":", 1)[1])) as server, contextlib.ExitStack() as connections:
        while len(here) < one.count - 1:
            server.settimeout(max(0.01, until - time.monotonic()))
            try:
                connection = connections.enter_context(server.accept()[0])
                connection.settimeout(10)
                said = connection.recv(16)
            except OSError:  # of accept, or of a client that sends nothing
                if time.monotonic() >= until:
                    missing = ", ".join(str(number) for number in range(1, one.count) if number not in here)
                    raise HostsError(
                        HOST_MISSING.format(who=f"host {missing}", coordinator=one.coordinator, seconds=START)
                    ) from None
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
    """A socket that accepts connections at a port of this machine, over IPv6 too where it is available."""
    both = socket.has_dualstack_ipv6()
    try:
        return socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
    except OSError as error:
        raise HostsError(f"--hosts: cannot listen at port {port} ({error.strerror}). Choose another.") from None


def announce(one):
    """Send this host's number to the first host, and wait for its answer."""
    address, port = one.coordinator.rsplit(":", 1)
    until, answer = time.monotonic() + START, b""
    while not answer and time.monotonic() < until:
        try:
            with socket.create_connection((address.strip("[]"), int(port)), timeout=10) as connection:
                connection.sendall(str(one.number).encode())
                connection.settimeout(max(0.01, until - time.monotonic()))
                answer = connection.recv(16)
        except OSError:  # it does not listen yet
            time.sleep(1)
    if answer == b"no":
        raise HostsError(
            f"--host-number {one.number}: another host has this number, or the first one expects fewer. Number each."
        )
    if not answer:
        raise HostsError(
            HOST_MISSING.format(who="the first host, or not all others,", coordinator=one.coordinator, seconds=START)
        )

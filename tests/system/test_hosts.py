"""Several hosts train as one: processes of this machine that meet at a port of it, on JAX."""

import concurrent.futures
import json
import os
import re
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import soak
from support import HOSTS_OPTIONS, TESTS
from tiny import TINY

from bones.networks.batches import Batches
from bones.runs.folder import RunFolder
from bones.system import collectives, hosts
from bones.system.errors import HostsError


@pytest.fixture
def meeting():
    """ADDRESS:PORT that nobody listens at."""
    pytest.importorskip("jax", reason="no jax: pip install -r requirements/test.txt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start(folder, name, plan, *arguments):
    """A process that trains in a folder on JAX, signalled as soak.child says."""
    outputs = [str(folder / f"{name}.{stream}") for stream in ("out", "err")]
    code = f"import soak; soak.child({str(folder)!r}, {outputs!r}, {plan!r}, 'mura.py', {[str(each) for each in arguments]!r})"
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return subprocess.Popen([sys.executable, "-c", code], env=environment)


def train(folder, name, plans, *arguments):
    """Train with a process for each plan; one trains without a word of hosts.

    Returns: [(exit status, output, errors)] of each.
    """
    hosts_of = [["--host-number", number] if len(plans) > 1 else [] for number in range(len(plans))]
    running = [start(folder, f"{name}-{place}", plan, *arguments, *hosts_of[place]) for place, plan in enumerate(plans)]
    statuses = [process.wait(300) for process in running]
    said = [[(folder / f"{name}-{place}.{stream}").read_text() for stream in ("out", "err")] for place in range(len(plans))]
    return [(status, *texts) for status, texts in zip(statuses, said, strict=True)]


@pytest.mark.slow  # seven processes that compile a training
@pytest.mark.xdist_group("whole")
def test_two_hosts_train_as_one_process_stop_together_and_lose_nothing(tmp_path, phantoms, meeting):
    """The second host is asked to stop, then killed; what one process goes on with ends as if nothing had happened."""
    command = ["--data", phantoms, *HOSTS_OPTIONS]
    ((status, _, errors),) = train(tmp_path, "whole", [soak.NEVER], *command, "--batch-size", 8, "--out", "one")
    assert status == 0, errors

    several = [*command, "--batch-size", 4, "--hosts", f"2@{meeting}", "--out", "two"]
    first, second = train(tmp_path, "stopped", [soak.NEVER, ("training step", 5, 0, 15)], *several)
    assert first[0] == second[0] == 0, first[2] + second[2]
    # The signal comes while the fifth step is at hand, or the sixth.
    assert "batch 4 x 2 hosts = 8" in first[1] and re.search("0 of 3 epochs and [56] steps of the next are saved", first[1])
    assert "Run " in first[1] and "Run " not in second[1], "only the first speaks"

    again = ["--resume", "--hosts", f"2@{meeting}", "--out", "two"]
    begun = time.monotonic()
    first, second = train(tmp_path, "killed", [soak.NEVER, ("training step", 14, 0, 9)], *again)
    assert second[0] == -9 and first[0] == 1 and first[2].count("mura.py: another host has ended") == 1, first[2]
    assert "Traceback" not in first[2] and time.monotonic() - begun < 2 * hosts.HEARTBEAT_SECONDS

    assert len(RunFolder(tmp_path / "two").read_history()) == 2, "epochs that both trained"
    ((status, output, errors),) = train(tmp_path, "alone", [soak.NEVER], "--resume", "--out", "two")
    assert status == 0 and "batch 8," in output, errors
    one, two = (RunFolder(tmp_path / name) for name in ("one", "two"))
    for column in ("loss", "auroc", "val_loss", "val_auroc", "learning_rate"):
        np.testing.assert_allclose(one.read_history()[column], two.read_history()[column], atol=1e-4, err_msg=column)
    assert abs(one.record().threshold - two.record().threshold) < 1e-4
    assert json.loads((tmp_path / "two" / "run.json").read_text())["options"]["hosts"] == 1


def test_hosts_that_differ_are_told(tmp_path, phantoms, meeting):
    command = [*TINY, "--epochs", "1", "--hosts", f"2@{meeting}", "--out", "run"]
    both = [
        start(tmp_path, f"seed-{n}", soak.NEVER, "--data", phantoms, *command, "--host-number", n, "--seed", n) for n in (0, 1)
    ]
    assert [process.wait(300) for process in both] == [1, 1]
    for n in (0, 1):
        errors = (tmp_path / f"seed-{n}.err").read_text()
        assert "mura.py: the hosts differ in train, tuning, seed." in errors and "Traceback" not in errors
    assert not (tmp_path / "run" / "run.json").exists()


class Read(np.ndarray):
    """An array that knows which of its rows were asked for."""

    def __getitem__(self, places):
        self.rows.extend(places)
        return np.asarray(super().__getitem__(places))


@pytest.mark.parametrize("mixup", [0.0, 0.3])
def test_hosts_share_each_batch(monkeypatch, mixup):
    pixels = np.random.default_rng(0).integers(0, 256, (26, 4, 4, 1)).astype(np.uint8)
    parts, read = [], []
    for place in [(0, 1), (0, 3), (1, 3), (2, 3)]:
        monkeypatch.setattr(collectives, "place", lambda place=place: place)
        array = pixels.view(Read)
        array.rows = []
        batches = Batches(array, 6, np.arange(26), shuffle_seed=1, mixup=mixup)
        parts.append([batches[step] for step in range(len(batches))])
        read.append(array.rows)
    for whole, *shares in zip(*parts, strict=True):
        for each, *of_each in zip(whole, *shares, strict=True):
            np.testing.assert_array_equal(each, np.concatenate(of_each))
    if not mixup:  # a mixed view needs another of its batch, wherever that is
        assert sorted(read[0]) == sorted(read[1] + read[2] + read[3]) and len({*read[1]} & {*read[2]}) == 0


SLURM = {"SLURM_JOB_ID": "4097", "SLURM_NTASKS": "3", "SLURM_PROCID": "2", "SLURM_STEP_NODELIST": "gpu[07-09]"}


@pytest.mark.parametrize(
    ("text", "number", "environment", "expected"),
    [
        (None, None, {}, (1, 0, "")),
        ("4@node1:7777", 3, {}, (4, 3, "node1:7777")),
        ("2@[::1]:7777", None, {"JOB_COMPLETION_INDEX": "1"}, (2, 1, "[::1]:7777")),
        ("2@a:1", None, {"SLURM_PROCID": "0"}, (2, 0, "a:1")),
        ("slurm", None, SLURM, (3, 2, "gpu07:61441")),
        ("slurm", None, {**SLURM, "SLURM_STEP_NODELIST": "node1"}, (3, 2, "node1:61441")),
        ("slurm", None, {**SLURM, "SLURM_STEP_NODELIST": "a1,b[2-3]"}, (3, 2, "a1:61441")),
    ],
)
def test_plans(text, number, environment, expected):
    assert hosts.plan(text, number, environment) == hosts.Plan(*expected)


@pytest.mark.parametrize(
    ("text", "number", "message"),
    [
        ("2", 0, "expected N@ADDRESS:PORT"),
        ("0@a:1", 0, "expected N@ADDRESS:PORT"),
        ("2@a", 0, "expected N@ADDRESS:PORT"),
        ("2@a:99999", 0, "expected N@ADDRESS:PORT"),
        ("2@a:1", None, "pass --host-number, which of the 2"),
        ("2@a:1", 2, "expected 0 to 1"),
        ("2@a:1", -1, "expected 0 to 1"),
        (None, 1, "needs --hosts"),
        ("slurm", None, "SLURM_JOB_ID, SLURM_NTASKS, SLURM_PROCID, SLURM_STEP_NODELIST not set. Start it with srun"),
    ],
)
def test_plans_that_cannot_be(text, number, message):
    with pytest.raises(HostsError, match=message):
        hosts.plan(text, number, {})


def test_tensorflow_trains_on_one_host():
    with pytest.raises(HostsError, match="Set KERAS_BACKEND to jax"):
        collectives.join(hosts.Plan(2, 0, "127.0.0.1:7777"))


def exceptions(meeting, *numbers):
    """What three hosts' meeting says to those of some numbers, by number; None where all came."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        plans = [hosts.Plan(3, number, meeting) for number in numbers]
        found = [pool.submit(hosts.announce if plan.number else hosts.wait_for_hosts, plan) for plan in plans]
    return [str(each.exception() or "") for each in found]


def test_hosts_meet_before_jax_does(meeting, monkeypatch):
    monkeypatch.setattr(hosts, "START", 20)
    assert exceptions(meeting, 2, 0, 1) == ["", "", ""]
    monkeypatch.setattr(hosts, "START", 2)
    first, *seconds = exceptions(meeting, 0, 1, 1)
    assert f"host 2 did not connect to {meeting} within 2 s" in first
    other, one = sorted(seconds)
    assert (
        "--host-number 1: another host has this number" in other and "the first host, or not all others, did not connect" in one
    )
    first, stranger = exceptions(meeting, 0, 7)
    assert (
        "host 1, 2 did not connect" in first
        and "--host-number 7: another host has this number, or the first one expects fewer" in stranger
    )
    with socket.create_server(("127.0.0.1", int(meeting.split(":")[1]))):
        assert "cannot listen at port" in exceptions(meeting, 0)[0]

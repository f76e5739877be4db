"""The examples for Slurm and Kubernetes are what these expect, and start the hosts that they promise."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from support import HOSTS_OPTIONS, ROOT, TESTS

from bones.runs.folder import RunFolder
from bones.system import hosts

CLUSTER = ROOT / "tools" / "cluster"
# As srun does: the command once a task, each told which it is.
SRUN = """#!/bin/bash
shift
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=localhost
for SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@" & done
wait -n && wait -n
"""


@pytest.fixture
def checkout(tmp_path):
    """A folder whose Python runs our scripts with the tiny network, and programs of Slurm that are found first."""
    python = f'#!/bin/bash\nPYTHONPATH={ROOT} exec {sys.executable} {TESTS / "tiny.py"} "$@"\n'
    for name, text in {".venv/bin/python": python, "bin/srun": SRUN}.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def test_slurm_script_is_clean():
    assert subprocess.run(["bash", "-n", CLUSTER / "slurm.sh"]).returncode == 0
    if shutil.which("shellcheck") is None:
        pytest.skip("no shellcheck: apt install shellcheck")
    checked = subprocess.run(["shellcheck", CLUSTER / "slurm.sh"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_slurm_script_asks_for_what_it_needs(checkout):
    command, environment = ["bash", CLUSTER / "slurm.sh"], {"PATH": os.environ["PATH"]}
    told = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    assert told.returncode == 1 and "DATA: set DATA to the folder that MURA unpacks to" in told.stderr


@pytest.mark.slow
def test_slurm_script_trains_on_two_hosts_and_scores(checkout, phantoms):
    pytest.importorskip("jax", reason="no jax: pip install -r requirements/test.txt")
    environment = {**os.environ, "PATH": f"{checkout}/bin:{os.environ['PATH']}", "DATA": str(phantoms), "RUN": "run"}
    environment |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_SUBMIT_DIR": str(checkout)}
    command = ["bash", CLUSTER / "slurm.sh", *HOSTS_OPTIONS, "--batch-size", "4"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "batch 4 x 2 hosts = 8" in done.stdout and "Wrote predictions.csv, scores.json" in done.stdout
    assert len(RunFolder(checkout / "run").read_history()) == 3


def parts():
    """{kind: part} of the manifest."""
    return {part["kind"]: part for part in yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())}


def test_manifest_is_valid():
    for part in parts().values():
        kubernetes_validate.validate(part, kubernetes_validate.latest_version(), strict=True)


def test_manifest_starts_the_hosts_that_meet():
    service, job = parts()["Service"], parts()["Job"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command = container["command"]
    for number in range(job["spec"]["completions"]):
        plan = hosts.plan(command[command.index("--hosts") + 1], None, {"JOB_COMPLETION_INDEX": str(number)})
        assert (plan.count, plan.number) == (job["spec"]["parallelism"], number)
    address, port = plan.coordinator.split(":")
    # Kubernetes names the first pod of an indexed job so, within a headless service that is its subdomain.
    assert address == f"{job['metadata']['name']}-0.{pod['subdomain']}" and pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert port == str(container["ports"][0]["containerPort"]) and job["spec"]["completionMode"] == "Indexed"


@pytest.mark.slow
def test_manifests_command_trains(checkout, phantoms):
    """Its command, with paths and the first pod's name those of this machine, as two processes that know their index."""
    pytest.importorskip("jax", reason="no jax: pip install -r requirements/test.txt")
    (container,) = parts()["Job"]["spec"]["template"]["spec"]["containers"]
    here = {"mura-0.mura": "localhost", "/mura/MURA-v1.1": str(phantoms), "/mura/runs/humerus": "run"}
    words = [*container["command"], *container["args"]]
    for there, own in here.items():
        words = [word.replace(there, own) for word in words]
    assert words[0] == "python"
    command = [checkout / ".venv/bin/python", *words[1:], *HOSTS_OPTIONS, "--batch-size", "4"]
    environment = {**os.environ, **{each["name"]: each["value"] for each in container["env"]}}
    running = [
        subprocess.Popen(command, cwd=checkout, env={**environment, "JOB_COMPLETION_INDEX": str(number)}) for number in (0, 1)
    ]
    assert [process.wait(300) for process in running] == [0, 0]
    assert len(RunFolder(checkout / "run").read_history()) == 3 and Path(checkout / "run" / "best.h5").exists()

"""benchmark.py's PyTorch peer is our network, a missing peer is said, and medians are medians."""

import importlib.util
import json
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, as_if_trained

from bones.networks import catalogue
from bones.scores.text import markdown_table
from bones.system.errors import BenchmarkError
from tools import benchmark


@pytest.fixture
def films(phantoms):
    return sorted(str(path) for path in (phantoms / "valid").rglob("*.png"))[:6]


def load_job(engine, films):
    return {"task": "load", "engine": engine, "precision": "png", "size": 32, "batch_size": 8, "paths": films}


def compared(jobs, rounds):
    rows = []
    benchmark.compare(jobs, rounds, "views/s", rows)
    return rows


def test_engines_are_measured_in_turns(films):
    rows = compared([load_job("ours", films), load_job("tf.data", films)], 3)
    assert [(row["engine"], row["what"], row["unit"]) for row in rows] == [
        ("ours", "decode, cold", "views/s"),
        ("tf.data", "decode, cold", "views/s"),
    ]
    assert all(0 < row["low"] <= row["value"] <= row["high"] for row in rows)
    share = f"{rows[1]['value'] / rows[0]['value']:.2f}"
    assert markdown_table(benchmark.as_cells(rows)).splitlines()[-1].endswith(f"| {share} |")


def test_a_missing_peer_is_said_and_left_out(films, tmp_path, monkeypatch, capsys):
    (tmp_path / "cv2.py").write_text("raise ModuleNotFoundError('absent', name='cv2')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    rows = compared([load_job("ours", films), load_job("opencv", films)], 1)
    assert [row["engine"] for row in rows] == ["ours"]
    assert "opencv is left out, cv2 is not installed: pip install" in capsys.readouterr().err


def test_a_failing_engine_is_a_fault_with_its_reason(films, tmp_path):
    with pytest.raises(BenchmarkError, match=r"(?s)load, ours \(png\) stopped with status 1.*no such file"):
        compared([load_job("ours", [*films, str(tmp_path / "absent.png")])], 1)


@pytest.mark.parametrize("asked", [signal.SIGINT, signal.SIGTERM])
def test_stopping_it_alone_leaves_no_engine_behind(asked, tmp_path):
    out = tmp_path / "out.json"
    command = [
        sys.executable,
        "-m",
        "tools.benchmark",
        "--only",
        "score",
        "--engine",
        "ours",
        "--precision",
        "float32",
        "--json",
        out,
    ]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "warming up ours" in process.stderr.readline()
        engines = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="utf-8").split()
        process.send_signal(asked)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "benchmark.py: stopped" in told and "Traceback" not in told
    assert len(engines) == 1 and not Path(f"/proc/{engines[0]}").exists()
    assert json.loads(out.read_text()) == []


def test_what_was_measured_is_written_when_it_is_stopped(tmp_path):
    out = tmp_path / "out.json"
    command = [sys.executable, "-m", "tools.benchmark", "--only", "load", "--engine", "ours", "--precision", "png"]
    command += ["--size", "32", "--rounds", "100000", "--json", out]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "round 3 of" in line:
                break
        process.terminate()
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    (row,) = json.loads(out.read_text())
    assert row["rounds"] >= 2 and row["engine"] == "ours" and 0 < row["low"] <= row["value"] <= row["high"]
    assert f"{row['value']:.3g} views/s" in printed


def test_other_programs_are_reported(monkeypatch, capsys):
    fake = types.SimpleNamespace(cpu_percent=lambda interval: 25.0, cpu_count=lambda: 8)
    monkeypatch.setitem(sys.modules, "psutil", fake)
    benchmark.warn_if_busy()
    assert "other programs use 2.0 of 8 processors" in capsys.readouterr().err
    fake.cpu_percent = lambda interval: 1.0
    benchmark.warn_if_busy()
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "psutil", None)
    benchmark.warn_if_busy()
    assert "psutil is not installed" in capsys.readouterr().err


def test_a_missing_backend_is_said_in_the_first_answer(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "run_script", lambda *arguments, scoring=None: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else name)
    options = benchmark.parse_options(["--only", "start", "--size", "32"])
    rows = []
    benchmark.time_first_answer(tmp_path, options, rows)
    assert [row["engine"] for row in rows] == ["ours"]
    assert "ours, openvino is left out, openvino is not installed" in capsys.readouterr().err


def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "measure", lambda task, options, folder, rows: rows.append(ROW | {"task": task}))
    assert benchmark.main(["--only", "train", "--json", str(tmp_path / "out.json")]) == 0
    (row,) = json.loads((tmp_path / "out.json").read_text())
    assert row.items() >= (ROW | {"task": "train", "size": 320, "batch_size": 8}).items() and row["device"] and row["date"]
    assert "| torch | bfloat16 | views trained | 2.5 views/s | 2 to 3 |  |" in capsys.readouterr().out
    nothing = [["--only", "load", "--engine", "torch"], ["--only", "score", "--precision", "png"], ["--rounds", "0"]]
    nothing += [
        ["--network", "inception_v3", "--size", "64"],
        ["--network", "MobileNet", "--only", "train", "--engine", "torch"],
    ]
    for wrong in (["--only", "fly"], ["--size", "8"], ["--json", str(tmp_path / "no" / "out.json")], ["--json", "."], *nothing):
        with pytest.raises(SystemExit) as stop:
            benchmark.main(wrong)
        assert stop.value.code == 2


ROW = {
    "task": "train",
    "engine": "torch",
    "precision": "bfloat16",
    "what": "views trained",
    "value": 2.5,
    "low": 2,
    "high": 3,
    "unit": "views/s",
}


@pytest.mark.parametrize(("name", "weights"), [("densenet169", "none"), ("efficientnet_lite0", "imagenet")])
def test_the_pytorch_peer_is_our_network(name, weights):
    torch = pytest.importorskip("torch", reason="PyTorch is a peer of benchmark.py alone: requirements/benchmark.txt")
    from tools import torch_networks

    rng = np.random.default_rng(0)
    network = catalogue.build(name, 64, weights)
    network = as_if_trained(network, rng) if weights == "none" else network
    assert {*torch_networks.NETWORKS} == {*benchmark.IN_TORCH}
    peer = torch_networks.NETWORKS[name]().eval()
    torch_networks.copy_weights(network, peer)
    buffers = [value for name, value in peer.named_buffers() if "running" in name]
    assert sum(value.numel() for value in (*peer.parameters(), *buffers)) == network.count_params()
    pixels = rng.uniform(0, [[[[20]]], [[[90]]], [[[255]]]], (3, 64, 64, 1)).astype("float32")
    with torch.no_grad():
        found = torch.sigmoid(peer(torch.tensor(pixels).permute(0, 3, 1, 2))).numpy()
    expected = network.predict(pixels, verbose=0)
    assert np.ptp(expected) > 1e-3, "the network says the same of all views"
    np.testing.assert_allclose(found, expected, atol=1e-5)

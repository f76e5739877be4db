"""scaling.py does every stage on as many films as it is asked for, and estimates by its formula."""

from pathlib import Path

import pytest

from bones.data.views import find_views
from bones.networks.applications import densenet169
from tools import scaling


def test_stages_of_two_sizes(in_tmp, monkeypatch, capsys):
    monkeypatch.setattr(scaling, "DRAWN", 12)
    monkeypatch.setattr(scaling, "in_a_process", scaling.measure)
    root = in_tmp / "films"
    assert scaling.main(["--views", "40", "61", "--out", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "| Stage | 40 views | 61 views |" in printed
    assert [printed.count(f"| {stage} |") for stage in scaling.STAGES] == [2] * len(scaling.STAGES)
    views = find_views(root / "61", "train")
    assert len(views) == 61 and len(list((root / "61" / "data" / "cache").glob("*.npy"))) == 1
    contents = {Path(path).read_bytes() for path in views["path"]}
    assert len(contents) == 61, "no film twice"


def test_estimating():
    rows = scaling.estimate(rate=400, devices=2, gbit=10, disk=1)
    assert [row["Hosts"] for row in rows] == [1, 2, 4, 8, 16, 32, 64] and rows[0]["Views a second"] == "800"
    gradients = 4 * densenet169(320, "none").count_params()
    assert rows[1]["network, ms"] == f"{1000 * gradients / 1.25e9:.1f}", "of two hosts each sends all it has once"
    assert rows[6]["disk, ms"] == f"{1000 * 16 * 64 * 320**2 / 1e9:.1f}" and rows[6]["Most"] == "disk"
    assert rows[6]["Views a second"] == f"{1e9 / 320**2:,.0f}", "no more than the disk gives"


def test_wrong_options_are_told(capsys):
    for wrong in (["--rate", "0"], ["--views", "0"], ["--rate", "1", "--network", "-1"]):
        with pytest.raises(SystemExit) as error:
            scaling.main(wrong)
        assert error.value.code == 2 and "expected" in capsys.readouterr().err


def test_a_fault_of_the_data_is_one_message(in_tmp, capfd):
    (in_tmp / "films" / "8").mkdir(parents=True)
    assert scaling.main(["--views", "8", "--out", str(in_tmp / "films")]) == 1
    errors = capfd.readouterr().err
    assert "contains neither train/ nor valid/" in errors and "Traceback" not in errors
    assert "scaling.py: the stage 'find' of " in errors

"""A record of scored runs prints what model_test.py prints of the runs themselves, and names no folder of this machine."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from support import train

import model_test
from tools import results


@pytest.fixture(scope="module")
def scored(phantoms, tmp_path_factory):
    """A folder with two scored runs of different seeds in runs/."""
    folder = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (0, 1):
            assert train(phantoms, f"runs/tiny-{seed}", "--epochs", 1, "--seed", seed) == 0
        assert model_test.main(["runs/tiny-0", "runs/tiny-1"]) == 0
    return folder


def test_the_record_prints_what_the_runs_print(scored, monkeypatch, capsys):
    monkeypatch.chdir(scored)
    assert model_test.main(["runs/tiny-0", "runs/tiny-1", "--markdown"]) == 0
    expected = capsys.readouterr().out
    assert results.main(["record", "--add", "runs/tiny-0", "runs/tiny-1"]) == 0
    assert capsys.readouterr().out == expected
    assert results.main(["record", "--add", "runs/tiny-0"]) == 0, "adding a run again replaces it"
    assert pd.read_csv("record/predictions.csv").columns.is_unique


def test_the_record_names_no_folder_of_this_machine(scored, monkeypatch):
    monkeypatch.chdir(scored)
    results.main(["record", "--add", "runs/tiny-0"])
    content = json.loads(Path("record/tiny-0.json").read_text(encoding="utf-8"))
    assert content["data"]["roots"] == content["options"]["data"] == ["phantoms"]
    assert "path" not in pd.read_csv("record/predictions.csv")


def test_the_short_table(scored, monkeypatch, capsys):
    """A mean and an ensemble, each also without the views that show hardware."""
    monkeypatch.chdir(scored)
    results.main(["records/own", "--add", "runs/tiny-0", "runs/tiny-1"])
    views = pd.read_csv("records/own/predictions.csv")
    views["hardware"] = views["view"].eq("image1.png").astype(int)
    views[[*results.VIEW[:-1], "hardware"]].to_csv("records/own/groups.csv", index=False)
    capsys.readouterr()
    assert results.main(["records", "--rows", "own/default:mean", "own/default:ensemble"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| Recipe | Record | Studies | AUROC | Accuracy | AUROC without hardware | Minutes |"
    names = ("default, mean of 2 seeds", "default, 2 seeds together", "always Negative")
    starts = tuple(f"| {name} | own | 24 | 0." for name in names)
    assert all(line.startswith(start) for line, start in zip(lines[2:], starts, strict=True))
    assert max(map(len, lines)) <= 128
    kept = views[views["hardware"] == 0].groupby(["patient", "study"])[["label", "tiny-0", "tiny-1"]].mean()
    expected = [
        metrics.roc_auc_score(kept["label"], one)
        for one in (kept["tiny-0"], kept["tiny-1"], kept[["tiny-0", "tiny-1"]].mean(axis=1))
    ]
    found = [line.split("|")[6].split()[0] for line in lines[2:4]]
    assert found == [f"{np.mean(expected[:2]):.3f}", f"{expected[2]:.3f}"]
    assert results.main(["records", "--rows", "own/light:mean"]) == 1
    assert "own/light:mean: 0 groups of runs" in capsys.readouterr().err


def test_faults_are_reported(in_tmp, capsys):
    assert results.main(["absent"]) == 1
    assert "absent/predictions.csv" in capsys.readouterr().err
    assert results.main(["record", "--add", "runs/absent"]) == 1
    assert "runs/absent" in capsys.readouterr().err

"""The table of settings: which patients it is made on, what is trained, and what it says."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from tiny import TINY

import model_test
import mura
from bones.data import images
from bones.data.views import find_views
from bones.runs.folder import RunFolder
from bones.scores.fitting import fit_threshold
from bones.training import command_line
from tools import ablation as ablate
from tools import ablation_record as record


@pytest.mark.parametrize("row", ablate.ROWS)
def test_rows_are_command_lines(row):
    for added in ablate.ROWS[row]:
        options = command_line.parse(f"{ablate.BASE} {added}".split()).options
        assert options.weights == "none" and options.recipe == "default"
    changed = [name for name, value in options if value != getattr(BASE, name)]
    assert bool(changed) == (row not in ("base", *ablate.STRETCHED))


BASE = command_line.parse(ablate.BASE.split()).options


def test_patients_set_apart_come_out_of_train(phantoms, tmp_path):
    root = tmp_path / "develop"
    ablate.make_development_split(phantoms, root)
    before = find_views(phantoms, "train")
    train, held_back = (find_views(root, split) for split in ("train", "held-out"))
    patients = [set(views["patient"]) for views in (train, held_back)]
    assert not patients[0] & patients[1] and patients[0] | patients[1] == set(before["patient"])
    assert len(train) + len(held_back) == len(before)
    assert len(patients[1]) / len(set(before["patient"])) == pytest.approx(0.25, abs=0.05)
    assert (root / "PHANTOM.json").is_file(), "phantoms are still marked as such"
    stamp = root.stat().st_mtime_ns
    ablate.make_development_split(phantoms, root)
    assert root.stat().st_mtime_ns == stamp, "made once"
    ablate.make_development_split(phantoms, tmp_path / "stretched", stretch=True)
    stretched = find_views(tmp_path / "stretched", "train")
    assert stretched[["patient", "label"]].equals(train[["patient", "label"]])
    grey = np.asarray(images.read_grey(stretched["path"].iloc[0]))
    assert grey.min() == 0 and grey.max() == 255 and not np.array_equal(grey, images.read_grey(train["path"].iloc[0]))


ROWS = {"base": [""], "two-stages": ["--learning-rate 0.01", "--epochs 2"], "mirrored": ["--set flip_averaging=true"]}


@pytest.fixture
def small_table(phantoms, tmp_path, monkeypatch):
    """(ablate's arguments, list of commands run): two rows of the tiny network, run in this process."""
    commands = []

    def run_script(arguments, folder, own_cores):
        commands.append(arguments[0])
        script = {"mura.py": mura.main, "model_test.py": model_test.main}[arguments[0]]
        assert script([str(argument) for argument in arguments[1:]]) == 0

    monkeypatch.setattr(ablate, "run_script", run_script)
    monkeypatch.setattr(ablate, "BASE", " ".join([*TINY, "--tuning-fraction 0.3 --epochs 1"]))
    monkeypatch.setattr(ablate, "ROWS", ROWS)
    monkeypatch.setattr(ablate, "TRAINED_AS", {"mirrored": "base"})
    return ["--data", str(phantoms), "--out", str(tmp_path / "out"), "--seeds", "0", "1"], commands


def test_table(small_table, tmp_path, capsys):
    arguments, commands = small_table
    rows = ["--rows", "base", "two-stages", "mirrored"]
    assert ablate.main([*arguments, *rows]) == 0
    assert sorted(commands) == ["model_test.py"] * 12 + ["mura.py"] * 8  # both splits; two stages; a threshold fitted anew
    first = capsys.readouterr().out
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines() if line.startswith("|")]
    base, other = (dict(zip(lines[0], line, strict=True)) for line in lines[2:4])
    assert lines[0][:3] == ["Row", "Added to the base", "Seeds"] and base["Row"] == "base" and other["Seeds"] == "2"
    out = Path(arguments[3])
    auroc = {
        row: np.mean(
            [json.loads((out / f"{row}-{seed}" / "scores.json").read_text())["studies"]["auroc"]["value"] for seed in (0, 1)]
        )
        for row in ("base", "two-stages")
    }
    assert base["AUROC"].startswith(f"{auroc['base']:.3f} [")
    assert other[ablate.GAIN].startswith(f"{auroc['two-stages'] - auroc['base']:.3f} [") and ", p " in other[ablate.GAIN]
    assert "| always Negative |" in first and "Rows of one seed are screening" in first and "(Holm)" in first
    second_stage = json.loads((out / "two-stages-0" / "run.json").read_text())["options"]
    assert second_stage["weights"] == str(out / "two-stages-0-stage1" / "last.h5") and second_stage["epochs"] == 2
    weights = [(out / f"{row}-0" / "best.h5").read_bytes() for row in ("base", "mirrored")]
    assert weights[0] == weights[1], "it scores otherwise, and is not trained again"
    own, others = (RunFolder.open(out / f"{row}-0").read_predictions() for row in ("mirrored", "base"))
    assert not np.allclose(own["probability"], others["probability"], atol=1e-4)
    commands.clear()
    assert ablate.main([*arguments, *rows]) == 0 and not commands, "what is done is not done again"
    capsys.readouterr()
    for name in ("runs.csv", "probabilities.csv"):  # all that the table needs
        (tmp_path / "record").mkdir(exist_ok=True)
        shutil.copy(out / name, tmp_path / "record")
    assert ablate.main(["--record", str(tmp_path / "record"), "--seeds", "0", "1", *rows, "--table"]) == 0
    table = capsys.readouterr().out
    assert table.startswith("| Row") and first.endswith(table)


def test_a_row_of_one_seed_has_no_interval(small_table, capsys):
    arguments, _ = small_table
    assert ablate.main([*arguments[:4], "--seeds", "0", "--rows", "base", "two-stages"]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    other = dict(zip(lines[0], lines[3], strict=True))
    assert other["Row"] == "two-stages" and other[ablate.GAIN] == "-" and "[" not in other["AUROC"]


def test_rules_for_the_threshold():
    rng = np.random.default_rng(0)
    label, probability = rng.integers(0, 2, 60), rng.random(60)
    found = ablate.RULES["highest kappa"](label, probability)
    kappas = [metrics.cohen_kappa_score(label, probability >= threshold) for threshold in np.linspace(0.0005, 0.9995, 1000)]
    assert metrics.cohen_kappa_score(label, probability >= found) == pytest.approx(max(kappas))
    assert next(iter(ablate.RULES.values())) is fit_threshold, "the first is what a run does"
    views = pd.DataFrame({"study_type": "XR", "patient": range(60), "study": "s", "label": label, "probability": probability})
    run = record.Trained(views, views)
    for rule in ablate.RULES.values():
        expected = metrics.accuracy_score(label, probability >= rule(label, probability))
        assert run.scores(rule)["accuracy"] == pytest.approx(expected)


def test_a_row_that_has_changed_is_trained_again(small_table, monkeypatch, capsys):
    arguments, _ = small_table
    assert ablate.main([*arguments, "--rows", "base"]) == 0
    kept = record.Record(arguments[3], ablate.settings)
    assert kept.holds("base", 0) and kept.scored("base", [0, 1]).keys() == {0, 1}
    monkeypatch.setitem(ablate.ROWS, "base", ["--epochs 3"])
    assert not kept.holds("base", 0) and not kept.scored("base", [0, 1])
    assert not record.Record(Path(arguments[3]) / "nowhere", ablate.settings).holds("base", 0)


@pytest.mark.parametrize("content", ["", "row,seed\nbase,0\n", '"'])
def test_damaged_records_are_told(tmp_path, capsys, content):
    (tmp_path / "runs.csv").write_text(content)
    assert ablate.main(["--record", str(tmp_path), "--table"]) == 1
    assert "runs.csv" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ablate.main(["--table"])
    assert ablate.main(["--record", str(tmp_path / "nowhere"), "--table"]) == 0
    assert "nowhere contains no run" in capsys.readouterr().out


def test_failures_are_named(small_table, monkeypatch, capsys):
    def fail(arguments, folder, own_cores):
        raise subprocess.CalledProcessError(1, arguments)

    monkeypatch.setattr(ablate, "run_script", fail)
    assert ablate.main([*small_table[0], "--rows", "base"]) == 1
    assert "failed: base-0, base-1" in capsys.readouterr().err

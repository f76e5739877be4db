"""The table of settings: which patients it is made on, what is trained, and what it says."""

import json
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from tiny import TINY

import model_test
import mura
from bones.data import images
from bones.data.splits import folds
from bones.data.views import find_views
from bones.runs.folder import RunFolder
from bones.scores.fitting import fit_threshold
from bones.training import command_line
from tools import ablation as ablate
from tools import ablation_record as record
from tools import ablation_table
from tools.ablation_plans import PLANS, Ablation, Row, added


@pytest.mark.parametrize(("plan", "name"), [(plan, name) for plan in PLANS for name in PLANS[plan].rows])
def test_rows_are_command_lines(plan, name):
    """Each row trains otherwise than the row that it is compared with, or on other images, or is scored otherwise."""
    study, row = PLANS[plan], PLANS[plan].rows[name]
    base = command_line.parse(study.base.split()).options
    assert row.against is None or row.against in study.rows
    if row.recorded_as:
        assert row.recorded_as in study.rows and (row.maximum or row.study_type)
        return
    options = [command_line.parse(f"{study.base} {arguments}".split()).options for arguments in row.stages][-1]
    changed = [setting for setting, value in options if value != getattr(base, setting)]
    assert bool(changed) == (name != "base" and not row.stretched and not (row.also and row.stages == ("",)))


def test_folds_are_of_the_training_patients(phantoms, tmp_path):
    ablate.make_fold_roots(phantoms, tmp_path, 3)
    before = find_views(phantoms, "train")
    held_out = []
    for fold in range(3):
        root = ablate.fold_root(tmp_path, fold)
        train, apart = (find_views(root, split) for split in ("train", "held-out"))
        assert not {*train["patient"]} & {*apart["patient"]} and len(train) + len(apart) == len(before)
        assert {*apart["patient"]} == {*before["patient"][folds(before, 3, seed=0) == fold]}
        assert (root / "PHANTOM.json").is_file(), "phantoms are still marked as such"
        held_out += {*apart["patient"]}
    assert sorted(held_out) == sorted({*before["patient"]}), "each patient is held out once"
    stamp = root.stat().st_mtime_ns
    ablate.make_fold_roots(phantoms, tmp_path, 3, stretch=True)
    assert root.stat().st_mtime_ns == stamp, "made once"
    stretched = find_views(ablate.fold_root(tmp_path, 2, stretched=True), "train")
    assert stretched[["patient", "label"]].equals(train[["patient", "label"]])
    grey = np.asarray(images.read_grey(stretched["path"].iloc[0]))
    assert grey.min() == 0 and grey.max() == 255 and not np.array_equal(grey, images.read_grey(train["path"].iloc[0]))


SMALL = Ablation(
    " ".join([*TINY, "--tuning-fraction 0.3 --epochs 1"]),
    {
        "base": Row(against=None),
        "two-stages": Row(("--learning-rate 0.01", "--epochs 2")),
        "mirrored": added("--set flip_averaging=true", trained_as="base"),
        "maximum": Row(recorded_as="base", maximum=True),
        "also": Row(also=True),
    },
)


@pytest.fixture
def small_table(phantoms, tmp_path, monkeypatch):
    """(ablate's arguments, list of commands run): rows of the tiny network on two folds, run in this process."""
    commands = []

    def run_script(arguments, folder, own_cores):
        commands.append(arguments[0])
        script = {"mura.py": mura.main, "model_test.py": model_test.main}[arguments[0]]
        assert script([str(argument) for argument in arguments[1:]]) == 0

    monkeypatch.setattr(ablate, "run_script", run_script)
    monkeypatch.setitem(PLANS, "light", SMALL)
    return ["--data", str(phantoms), "--out", str(tmp_path / "out"), "--folds", "2", "--seeds", "0", "1"], commands


def cells(text):
    """Rows of the first Markdown table in a text, as dicts."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:] if len(line) == len(lines[0])]


def test_table(small_table, tmp_path, capsys):
    arguments, commands = small_table
    rows = ["--rows", "base", "two-stages", "maximum"]
    assert ablate.main([*arguments, *rows]) == 0
    assert sorted(commands) == ["model_test.py"] * 16 + ["mura.py"] * 12  # two seeds and folds: both splits; one and two stages
    first = capsys.readouterr().out
    base, other, *_ = cells(first)
    assert base["Row"] == "base" and other["Seeds"] == "2" and other["Compared with"] == "base"
    auroc = {row: np.mean([pooled_auroc(Path(arguments[3]), row, seed) for seed in (0, 1)]) for row in ("base", "two-stages")}
    assert base["AUROC"].startswith(f"{auroc['base']:.3f} [")
    gained = other[ablation_table.GAIN]
    assert gained.startswith(f"{auroc['two-stages'] - auroc['base']:.3f} [") and ", p " in gained
    assert "| always Negative |" in first and "Rows of one seed are screening" in first and "(Holm)" in first
    commands.clear()
    assert ablate.main([*arguments, *rows]) == 0 and not commands, "what is done is not done again"
    capsys.readouterr()
    for name in ("runs.csv", "probabilities.csv"):  # all that the table needs
        (tmp_path / "record").mkdir(exist_ok=True)
        shutil.copy(Path(arguments[3]) / name, tmp_path / "record")
    assert ablate.main(["--record", str(tmp_path / "record"), "--folds", "2", *rows, "--table"]) == 0
    table = capsys.readouterr().out
    assert table.startswith("| Row") and first.endswith(table)


def pooled_auroc(out, row, seed):
    """AUROC of the studies of both folds together, by the network's own probabilities."""
    studies = []
    for fold in (0, 1):
        run = RunFolder.open(out / f"{row}-{seed}-fold{fold}")
        views = run.read_predictions()
        odds = views["probability"] / (1 - views["probability"])
        views["probability"] = 1 / (1 + odds ** -run.record().temperature)  # at temperature 1
        studies.append(views.groupby(["patient", "study"])[["label", "probability"]].mean())
    together = pd.concat(studies)
    return metrics.roc_auc_score(together["label"], together["probability"])


def test_stages_and_shared_trainings(small_table):
    arguments, _ = small_table
    assert ablate.main([*arguments[:6], "--rows", "base", "two-stages", "mirrored"]) == 0
    out = Path(arguments[3])
    second_stage = json.loads((out / "two-stages-0-fold1" / "run.json").read_text())["options"]
    assert second_stage["weights"] == str(out / "two-stages-0-fold1-before1" / "last.h5") and second_stage["epochs"] == 2
    weights = [(out / f"{row}-0-fold0" / "best.h5").read_bytes() for row in ("base", "mirrored")]
    assert weights[0] == weights[1], "it scores otherwise, and is not trained again"
    own, others = (RunFolder.open(out / f"{row}-0-fold0").read_predictions() for row in ("mirrored", "base"))
    assert not np.allclose(own["probability"], others["probability"], atol=1e-4)


def test_a_row_may_train_on_a_further_root(small_table, small_root, capsys):
    arguments, _ = small_table
    with pytest.raises(SystemExit):
        ablate.main([*arguments, "--rows", "also"])
    assert "also need --also ROOT" in capsys.readouterr().err
    assert ablate.main([*arguments[:6], "--rows", "also", "--also", str(small_root)]) == 0
    run = RunFolder.open(Path(arguments[3]) / "also-0-fold0")
    assert run.record().data.roots == (str(Path(arguments[3]) / "fold0"), str(small_root))
    assert {*run.read_predictions()["patient"]} == {*find_views(Path(arguments[3]) / "fold0", "held-out")["patient"]}


def test_a_row_of_one_seed_has_no_interval(small_table, capsys):
    arguments, _ = small_table
    assert ablate.main([*arguments[:6], "--rows", "base", "maximum"]) == 0
    base, other, *_ = cells(capsys.readouterr().out)
    assert (
        other["Row"] == "maximum" and "[" not in other[ablation_table.GAIN] + other["AUROC"] and other["AUROC"] != base["AUROC"]
    )


def test_rules_for_the_threshold():
    rng = np.random.default_rng(0)
    label, probability = rng.integers(0, 2, 60), rng.random(60)
    found = ablation_table.RULES["highest kappa"](label, probability)
    kappas = [metrics.cohen_kappa_score(label, probability >= threshold) for threshold in np.linspace(0.0005, 0.9995, 1000)]
    assert metrics.cohen_kappa_score(label, probability >= found) == pytest.approx(max(kappas))
    assert next(iter(ablation_table.RULES.values())) is fit_threshold, "the first is what a run does"
    views = pd.DataFrame({"study_type": "XR", "patient": range(60), "study": "s", "label": label, "probability": probability})
    run = record.Trained(views, views)
    for rule in ablation_table.RULES.values():
        expected = metrics.accuracy_score(label, probability >= rule(label, probability))
        assert run.scores(rule)["accuracy"] == pytest.approx(expected)


def test_a_row_that_has_changed_is_trained_again(small_table, monkeypatch, capsys):
    arguments, _ = small_table
    assert ablate.main([*arguments, "--rows", "base"]) == 0
    kept = record.Record(arguments[3], SMALL.settings, 2)
    assert kept.holds("base", 0, 1) and kept.scored("base", [0, 1]).keys() == {0, 1}
    assert not record.Record(arguments[3], SMALL.settings, 3).scored("base", [0, 1]), "a fold is missing"
    monkeypatch.setitem(SMALL.rows, "base", added("--epochs 3"))
    assert not kept.holds("base", 0, 1) and not kept.scored("base", [0, 1])
    assert not record.Record(Path(arguments[3]) / "nowhere", SMALL.settings, 2).holds("base", 0, 1)


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
    assert "failed: base-0-fold0, base-0-fold1, base-1-fold0, base-1-fold1" in capsys.readouterr().err


def test_a_stop_ends_the_scripts_of_all_threads(in_tmp):
    (in_tmp / "sleep.py").write_text("import time; time.sleep(60)")
    codes = []

    def work():
        try:
            ablate.run_script([str(in_tmp / "sleep.py")], in_tmp / "run", {0})
        except subprocess.CalledProcessError as error:
            codes.append(error.returncode)

    other = threading.Thread(target=work)
    other.start()
    while not ablate.RUNNING:
        time.sleep(0.05)
    ablate.end_scripts()
    other.join(30)
    assert codes == [-signal.SIGTERM] and not ablate.RUNNING

"""Figures of one run and of several."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import ROOT

import model_test
import plot_results
from bones.evaluation import figures as figures_room
from bones.runs.folder import PREDICTIONS, RunFolder
from bones.scores import metrics as scores
from bones.scores.probabilities import study_probabilities

NAMES = (
    "plot_MURA_train_acc.png",
    "plot_MURA_valid_acc.png",
    "plot_MURA_train_loss.png",
    "plot_MURA_valid_loss.png",
    "plot_MURA_curves.png",
)


SCORE_NAMES = (
    "plot_MURA_roc.png",
    "plot_MURA_precision_recall.png",
    "plot_MURA_reliability.png",
    "plot_MURA_histogram.png",
    "plot_MURA_confusion.png",
)


def test_figures(trained, in_tmp, capsys):
    assert plot_results.main([str(trained)]) == 0
    assert {path.name for path in Path("figures").iterdir()} == set(NAMES)
    for name in NAMES:
        with Image.open(Path("figures") / name) as image:
            assert image.width >= 800 and np.asarray(image.convert("L")).std() > 5
    assert "Next: " in capsys.readouterr().out


@pytest.fixture
def figures(monkeypatch):
    """{file name: figure} of what is drawn, in place of files."""
    drawn = {}

    def keep(figure, path):
        drawn[path.name] = figure
        return path

    monkeypatch.setattr(figures_room, "save", keep)
    return drawn


def test_what_is_drawn(trained, in_tmp, figures):
    shutil.copytree(trained, in_tmp / "second")
    assert plot_results.main([str(trained), str(in_tmp / "second")]) == 0
    axes = figures["plot_MURA_valid_acc.png"].axes[0]
    history = RunFolder(trained).read_history()
    curves = [line for line in axes.lines if len(line.get_xdata()) == len(history)]
    assert len(curves) == 2 and curves[0].get_ydata() == pytest.approx(history["val_accuracy"])
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert axes.get_xlabel() == "epoch" and "accuracy" in axes.get_ylabel()
    ring = next(line for line in axes.lines if len(line.get_xdata()) == 1)
    kept = history[history["epoch"] == json.loads((trained / "run.json").read_text())["best_epoch"]].iloc[0]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (kept["epoch"], kept["val_accuracy"])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "tiny (phantoms)" in labels and "second (phantoms)" in labels


@pytest.mark.parametrize(("chosen", "epoch"), (("best", 1), ("last", 2), (None, 1)))
def test_the_ring_is_at_the_epoch_that_best_h5_is_of(trained, in_tmp, chosen, epoch):
    """Also of a run of an earlier version, which does not say."""
    run = Path(shutil.copytree(trained, in_tmp / "run"))
    history = pd.read_csv(run / "history.csv").assign(val_auroc=[0.8, 0.7])
    history.to_csv(run / "history.csv", index=False)
    record = json.loads((run / "run.json").read_text())
    record["options"].pop("chosen")
    record["options"] |= {"chosen": chosen} if chosen else {}
    (run / "run.json").write_text(json.dumps(record))
    (found,) = figures_room.read_runs([run])[0].values()
    assert found.loc[found["kept"], "epoch"].tolist() == [epoch]


@pytest.fixture
def scored(trained, tmp_path):
    """A copy of the trained run with predictions of both splits."""
    shutil.copytree(trained, tmp_path / "scored")
    assert model_test.main([str(tmp_path / "scored"), "--split", "tuning"]) == 0
    assert model_test.main([str(tmp_path / "scored")]) == 0
    return tmp_path / "scored"


def test_figures_of_predictions(scored, trained, in_tmp, figures, capsys):
    capsys.readouterr()
    assert plot_results.main([str(scored), str(trained)]) == 0
    assert f"{trained} has not been scored" in capsys.readouterr().out
    assert set(figures) == {*NAMES, *SCORE_NAMES}
    studies = study_probabilities(pd.read_csv(scored / "predictions.csv").query("split == 'held-out'"))
    report = json.loads((scored / "scores.json").read_text())
    threshold = json.loads((scored / "run.json").read_text())["threshold"]

    roc = figures["plot_MURA_roc.png"].axes[0]
    fp_rate, tp_rate = roc.lines[0].get_data()
    assert np.trapezoid(tp_rate, fp_rate) == pytest.approx(report["studies"]["auroc"]["value"])
    dot = [axis[0] for axis in roc.lines[1].get_data()]
    assert dot == pytest.approx([1 - report["studies"]["specificity"]["value"], report["studies"]["sensitivity"]["value"]])
    text = roc.get_legend().get_texts()[0].get_text()
    auroc = report["studies"]["auroc"]
    assert text == f"scored (phantoms), 24 studies\nAUROC {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]"
    assert len(roc.collections) == 1, "a band"

    bars = figures["plot_MURA_histogram.png"].axes[0].patches
    assert sum(bar.get_height() for bar in bars) == len(studies)
    cells = [int(text.get_text().split("\n")[0]) for text in figures["plot_MURA_confusion.png"].axes[0].texts]
    table = report["studies"]["confusion"]
    assert cells == [table[name] for name in ("true_negative", "false_positive", "false_negative", "true_positive")]
    assert f"{threshold:.3f}" in figures["plot_MURA_confusion.png"].axes[0].get_title()
    reliability = figures["plot_MURA_reliability.png"].axes[0]
    counts = [int(text.get_text()) for text in reliability.texts if text.get_text().isdecimal()]
    assert sum(counts) == len(studies) and f"ECE {report['studies']['ece']['value']:.3f}" in reliability.get_title()
    lines = figures["plot_MURA_precision_recall.png"].axes[0].lines
    assert lines[1].get_ydata()[0] == pytest.approx(studies["label"].mean())


def test_figures_of_predictions_are_files(scored, in_tmp):
    """Of one run, of four in two rows, and of a run of which only tuning was scored."""
    copies = [scored]
    for number in range(3):
        copies.append(shutil.copytree(scored, in_tmp / f"copy{number}"))
    tuning = pd.read_csv(scored / "predictions.csv").query("split == 'tuning'")
    tuning.to_csv(copies[1] / "predictions.csv", index=False)
    _, found = figures_room.read_runs(copies)
    count = len(study_probabilities(tuning))
    assert list(found)[1] == f"copy0 (phantoms), {count} studies, tuning" and len(found[list(found)[1]][0]) == count
    for runs, folder in ((copies[:1], "one"), (copies, "four")):
        assert plot_results.main([*map(str, runs), "--out", folder]) == 0
        for name in SCORE_NAMES:
            with Image.open(Path(folder) / name) as image:
                assert image.width >= 600 and np.asarray(image.convert("L")).std() > 5


def test_several_study_types_are_drawn_side_by_side(scored, in_tmp, figures):
    assert plot_results.main([str(scored)]) == 0
    assert "plot_MURA_study_types.png" not in figures, "there is one type"
    table = pd.read_csv(scored / "predictions.csv")
    patients = sorted(table["patient"].unique())
    wrist = table["patient"].isin(patients[::2])
    table.assign(study_type=np.where(wrist, "XR_WRIST", "XR_ELBOW")).to_csv(scored / "predictions.csv", index=False)
    assert plot_results.main([str(scored)]) == 0
    axes = figures["plot_MURA_study_types.png"].axes[0]
    studies = study_probabilities(table[table["split"] == "held-out"].assign(study_type="all"))
    expected = {"all": studies}
    for study_type, part in (("XR_ELBOW", ~wrist), ("XR_WRIST", wrist)):
        expected[study_type] = study_probabilities(table[part & (table["split"] == "held-out")])
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [f"{name}\n{len(part)} ({part['label'].sum()})" for name, part in expected.items()]
    dots = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([scores.auroc(part["label"], part["probability"]) for part in expected.values()])


@pytest.mark.parametrize(
    ("content", "message"),
    (
        ("", "is not a CSV table"),
        ("a,b\n1,2\n", "lacks the columns"),
        ("{header}\n", "no rows, or labels or probabilities out of range"),
        ("{header}\nheld-out,XR,p,s,v,path,1,1.5\n", "out of range"),
        ("{header}\nheld-out,XR,p,s,v,path,maybe,0.5\n", "out of range"),
        ("{header}\nheld-out,XR,p,s,v,path,1,0.5\n", "only one label"),
        ("{header}\nheld-out,XR,p,s,v,path,1,0.5\nheld-out,XR,p,s,w,path,0,0.5\n", "two labels for one study"),
        ("{header}\nheld-out,XR,p,s,v,path,1,0.5\nheld-out,XR,p,s,v,path,1,0.5\n", "a duplicate view"),
        ("{header}\nheld-out,XR,,s,v,path,1,0.5\nheld-out,XR,p,s,v,path,0,0.5\n", "rows without a name"),
    ),
)
def test_faults_of_predictions(content, message, scored, capsys):
    (scored / "predictions.csv").write_text(content.format(header=",".join(PREDICTIONS)))
    assert plot_results.main([str(scored)]) == 1
    assert message in capsys.readouterr().err


def test_odd_names_are_drawn_and_named(trained, tmp_path):
    for name in ("$x_$", "_under"):
        shutil.copytree(trained, tmp_path / name)
    histories, _ = figures_room.read_runs([tmp_path / "$x_$", tmp_path / "_under"])
    assert list(histories) == [r"\$x_\$ (phantoms)", "run _under (phantoms)"]
    assert plot_results.main([str(tmp_path / "$x_$"), str(tmp_path / "_under")]) == 0


def test_faults(trained, tmp_path, capsys):
    assert plot_results.main([str(tmp_path / "absent")]) == 1
    assert "is not a run folder" in capsys.readouterr().err
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    (broken / "history.csv").write_text("epoch,loss\n1,0.5\n")
    assert plot_results.main([str(broken)]) == 1
    assert "history.csv lacks the columns accuracy" in capsys.readouterr().err
    header = (trained / "history.csv").read_text().split("\n")[0]
    for rows in ("", "1,low,0,0,0,0,0,0,0,0\n", "1,0.5\n"):
        (broken / "history.csv").write_text(f"{header}\n{rows}")
        assert plot_results.main([str(broken)]) == 1
        assert "no rows, or cells that are not numbers" in capsys.readouterr().err
    (broken / "history.csv").unlink()
    assert plot_results.main([str(broken)]) == 1
    assert "history.csv cannot be read" in capsys.readouterr().err


def test_needs_no_keras():
    code = "import plot_results, sys; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0

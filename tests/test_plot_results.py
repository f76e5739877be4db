"""Figures of one run and of several."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import plot_results

NAMES = (
    "plot_MURA_train_acc.png",
    "plot_MURA_valid_acc.png",
    "plot_MURA_train_loss.png",
    "plot_MURA_valid_loss.png",
    "plot_MURA_curves.png",
)


def test_figures(trained, in_tmp, capsys):
    assert plot_results.main([str(trained)]) == 0
    assert {path.name for path in Path("figures").iterdir()} == set(NAMES)
    for name in NAMES:
        with Image.open(Path("figures") / name) as image:
            assert image.width >= 800 and np.asarray(image.convert("L")).std() > 5
    assert "Next: " in capsys.readouterr().out


def test_what_is_drawn(trained, in_tmp, monkeypatch):
    figures = {}
    monkeypatch.setattr(plot_results, "save", lambda figure, path: figures.setdefault(path.name, figure) and path)
    shutil.copytree(trained, in_tmp / "second")
    assert plot_results.main([str(trained), str(in_tmp / "second")]) == 0
    axes = figures["plot_MURA_valid_acc.png"].axes[0]
    history = plot_results.RunFolder(trained).read_history()
    curves = [line for line in axes.lines if len(line.get_xdata()) == len(history)]
    assert len(curves) == 2 and curves[0].get_ydata() == pytest.approx(history["val_accuracy"])
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    assert axes.get_xlabel() == "epoch" and "accuracy" in axes.get_ylabel()
    ring = next(line for line in axes.lines if len(line.get_xdata()) == 1)
    best = history.loc[history["val_auroc"].idxmax()]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (best["epoch"], best["val_accuracy"])
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert "tiny (phantoms)" in labels and "second (phantoms)" in labels


def test_odd_names_are_drawn_and_named(trained, tmp_path):
    for name in ("$x_$", "_under"):
        shutil.copytree(trained, tmp_path / name)
    histories = plot_results.read_runs([tmp_path / "$x_$", tmp_path / "_under"])
    assert list(histories) == [r"\$x_\$ (phantoms)", "run _under (phantoms)"]
    assert plot_results.main([str(tmp_path / "$x_$"), str(tmp_path / "_under")]) == 0


def test_faults(trained, tmp_path, capsys):
    assert plot_results.main([str(tmp_path / "absent")]) == 1
    assert "is no run folder" in capsys.readouterr().err
    broken = tmp_path / "broken"
    shutil.copytree(trained, broken)
    (broken / "history.csv").write_text("epoch,loss\n1,0.5\n")
    assert plot_results.main([str(broken)]) == 1
    assert "history.csv lacks the columns accuracy" in capsys.readouterr().err
    header = (trained / "history.csv").read_text().split("\n")[0]
    for rows in ("", "1,low,0,0,0,0,0,0,0,0\n", "1,0.5\n"):
        (broken / "history.csv").write_text(f"{header}\n{rows}")
        assert plot_results.main([str(broken)]) == 1
        assert "no rows, or cells that are no numbers" in capsys.readouterr().err
    (broken / "history.csv").unlink()
    assert plot_results.main([str(broken)]) == 1
    assert "history.csv cannot be read" in capsys.readouterr().err


def test_needs_no_keras():
    code = "import plot_results, sys; sys.exit('keras' in sys.modules or 'tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent).returncode == 0

"""A run on phantoms is marked as one everywhere, also where --data names the folder above them."""

import json
from pathlib import Path

from support import train

import model_test
from bones.runs.folder import RunFolder
from bones.serving import export
from bones.serving.page import Page


def test_phantoms_one_folder_too_high_are_marked_everywhere(phantoms, in_tmp, capsys):
    assert phantoms.parent != phantoms and not (phantoms.parent / "train").exists()
    assert train(phantoms.parent, "run", "--epochs", 1) == 0
    assert "(PHANTOMS)" in capsys.readouterr().out
    run = RunFolder("run")
    assert run.record().data.phantom.startswith("phantom, version ")
    assert "Trained on phantoms" in Path("run/MODEL_CARD.md").read_text(encoding="utf-8")
    assert export.describe(run.record())["trained_on"].startswith("phantom, ")
    assert "trained on phantoms" in Page(run).reliability_note
    assert model_test.main(["run"]) == 0 and "(PHANTOMS: " in capsys.readouterr().out
    assert json.loads(Path("run/scores.json").read_text(encoding="utf-8"))["phantom"]

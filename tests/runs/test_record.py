"""run.json of earlier versions loads, is complete for a resumed training, and makes a card."""

import json
import shutil

import pytest
from support import TESTS

from bones.runs import card, record
from bones.runs.options import FIELDS
from bones.system.errors import RunError
from bones.training import command_line

OLD_RUNS = sorted((TESTS / "old_runs").glob("*.json"))  # each named by the commit that wrote it


@pytest.fixture(params=OLD_RUNS, ids=lambda file: file.stem)
def old_run(request, in_tmp):
    (in_tmp / "run").mkdir()
    shutil.copy(request.param, in_tmp / "run" / "run.json")
    return in_tmp / "run"


def test_there_are_three():
    assert len(OLD_RUNS) == 3


def test_earlier_runs_load_with_every_option(old_run):
    recorded = json.loads((old_run / "run.json").read_text())["options"]
    recorded["data"] = [recorded["data"]]  # a data root of these versions is a text
    request = command_line.parse(["--out", str(old_run), "--resume"])
    found = request.options.model_dump(mode="json")
    assert found.keys() == FIELDS.keys() and {name: found[name] for name in recorded} == recorded
    assert request.devices == 1 and request.options.labels is None and request.options.flip_averaging is False


def test_earlier_runs_have_a_card(old_run):
    text = card.card("run", record.read(old_run), None)
    assert "`densenet169_k12` at 32 px" in text and "Trained on phantoms" in text and "left out" not in text
    assert "| train | 28 | 25 | 65 | 36 |" in text


def test_a_folder_without_a_run_is_refused(in_tmp):
    with pytest.raises(RunError, match="no such folder"):
        record.read("absent")

"""The one command for an accelerator: what it says of a history, and of a wrong command line."""

import pandas as pd
import pytest

from tools import accelerator


def test_seconds_until_an_auroc_is_reached():
    history = pd.DataFrame({"val_auroc": [0.7, 0.86, 0.8], "seconds": [5.0, 2.0, 2.0]})
    assert accelerator.in_words(history, 0.85) == "an AUROC of 0.85 was reached after epoch 2, 7.0 s of epochs"
    assert accelerator.in_words(history, 0.9) == "an AUROC of 0.9 was not reached; the highest is 0.860"


def test_wrong_folders_are_refused(tmp_path, capsys):
    (tmp_path / "out" / "light").mkdir(parents=True)
    for data, out, message in ((tmp_path / "none", tmp_path, "is not a folder"), (tmp_path, tmp_path / "out", "has a run")):
        with pytest.raises(SystemExit) as stopped:
            accelerator.main(["--data", str(data), "--out", str(out)])
        assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_a_part_that_fails_ends_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(accelerator.sys, "executable", "false")
    assert accelerator.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "tools.benchmark" in capsys.readouterr().err

"""Tables of images and folders of classes: trained, resumed, checked, scored and drawn; that patients are unknown is told."""

import json
import shutil
from pathlib import Path

import pytest
from study_folders import write_image
from support import one_message, real_data
from tiny import TINY

import data_loader
import model_test
import mura
import plot_results
from bones.scores.text import UNKNOWN

TRAINING = [*TINY, "--epochs", "1", "--tuning-fraction", "0.5"]


@pytest.fixture
def classes(in_tmp):
    """A set with train/, val/ and test/ of two classes."""
    for split in ("train", "val", "test"):
        for name in ("fractured", "not fractured"):
            for number in range(6):
                write_image(f"set/{split}/{name}/{split}{number}.png")
    return ["--data", "set", "--layout", "classes"]


@pytest.fixture
def table(in_tmp):
    """A table of 24 images of 12 patients."""
    lines = ["path;label;patient;split"]
    for number in range(24):
        write_image(f"films/{number}.png")
        lines.append(f"films\\{number}.png;{number // 2 % 2};p{number // 2};{'train' if number < 16 else 'test'}")
    Path("table.csv").write_text("\r\n".join(lines), encoding="utf-16")
    return ["--table", "table.csv"]


def test_a_set_of_class_folders_is_trained_and_scored(classes, capsys):
    assert mura.main([*classes, *TRAINING, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert "set: patients are unknown: each image counts as a patient and a study of its own." in err
    assert "  train   12 views (6 positive), 12 studies, patients unknown (12 counted)" in out
    assert "  tuning  12 views (6 positive)" in out, "all of val/"
    for form in ([], ["--markdown"], ["--json"], ["--split", "tuning"]):
        assert model_test.main(["run", *form]) == 0
        out = capsys.readouterr().out
        assert {"--markdown": "(patients unknown)", "--json": '"has_patients": false'}.get(
            form[0] if form else "", UNKNOWN
        ) in out
        assert "valid/" not in out
    assert UNKNOWN in Path("run/MODEL_CARD.md").read_text(encoding="utf-8")
    assert model_test.main(["run", "--suspects", "3"]) == 0
    out = capsys.readouterr().out
    assert "fractured/test" in out and "move images into the folder of the other class" in out and "--labels" not in out
    assert plot_results.main(["run"]) == 0
    assert model_test.main(["run", "--data", "set", "--layout", "classes"]) == 0


def test_a_run_is_not_scored_on_its_own_training_images(classes, capsys):
    assert mura.main([*classes, *TRAINING, "--out", "run"]) == 0
    capsys.readouterr()
    assert model_test.main(["run", "--data", "set/train", "--layout", "classes"]) == 1
    message = one_message(capsys, "model_test")
    assert "12 of the 12 views are among those that run was trained on" in message and "not valid" in message


def test_the_next_command_of_a_set_without_held_out_images_works(classes, capsys):
    shutil.rmtree("set/test")
    shutil.rmtree("set/val")
    assert mura.main([*classes, *TRAINING, "--out", "run"]) == 0
    command = capsys.readouterr().out.splitlines()[-1]
    assert command == "Next: python model_test.py run --split tuning"
    assert model_test.main(["run"]) == 1 and "--split tuning" in one_message(capsys, "model_test")
    assert model_test.main(["run", "--split", "tuning"]) == 0


def test_a_run_of_class_folders_is_resumed(classes, capsys):
    assert mura.main([*classes, *TRAINING, "--out", "run"]) == 0
    shutil.move("set", "moved")
    assert model_test.main(["run"]) == 1 and "--data ROOT" in one_message(capsys, "model_test")
    assert mura.main(["--out", "run", "--resume"]) == 1 and "--data ROOT" in one_message(capsys, "mura")
    assert mura.main(["--out", "run", "--resume", "--data", "moved"]) == 0
    assert model_test.main(["run"]) == 0
    assert mura.main(["--data", "moved", "--layout", "classes", *TRAINING, "--weights", "run", "--out", "second"]) == 0
    assert "its tuning patients stay tuning patients" in capsys.readouterr().out


def test_a_table_is_trained_checked_and_scored(table, capsys):
    assert data_loader.main(table) in (0, 1)
    assert "note  table.csv: no column study" in capsys.readouterr().out
    assert mura.main([*table, *TRAINING, "--out", "run"]) == 0
    assert "8 views" in capsys.readouterr().out
    assert model_test.main(["run"]) == 0
    out = capsys.readouterr().out
    assert "held-out of" in out and "4 patients, resampled" in out and UNKNOWN not in out
    record = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    assert record["options"]["layout"] == "table" and Path(record["data"]["roots"][0]).is_absolute()
    Path("groups.csv").write_text("path,age\nfilms/20.png,old\nfilms/21.png,old\nfilms/22.png,new\n", encoding="utf-8")
    assert model_test.main(["run", "--groups", "groups.csv"]) == 0 and "age = old" in capsys.readouterr().out
    Path("labels.csv").write_text("path,label\nx,1\n", encoding="utf-8")
    assert model_test.main(["run", "--labels", "labels.csv"]) == 1
    assert "--labels corrects labels in the names of study folders" in one_message(capsys, "model_test")


def test_another_table_without_splits_is_scored_whole_and_that_of_training_is_not(table, capsys):
    Path("plain.csv").write_text("path,label\n" + "".join(f"films/{n}.png,{n // 2 % 2}\n" for n in range(24)), encoding="utf-8")
    assert mura.main(["--table", "plain.csv", *TRAINING, "--out", "run"]) == 0
    assert "plain.csv contains no held-out rows (column split)" in capsys.readouterr().err
    for more in ([], ["--table", "plain.csv"]):
        assert model_test.main(["run", *more]) == 1
        assert "plain.csv has no held-out rows of all study types (found: 24 train)" in one_message(capsys, "model_test")
    shutil.copy("plain.csv", "same.csv")
    assert model_test.main(["run", "--table", "same.csv"]) == 1
    assert "24 of the 24 views are among those that run was trained on" in one_message(capsys, "model_test")
    shutil.copytree("films", "others")
    Path("other.csv").write_text(Path("plain.csv").read_text(encoding="utf-8").replace("films", "others"), encoding="utf-8")
    assert model_test.main(["run", "--table", "other.csv"]) == 0
    assert "patients unknown (24 counted)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--table", "t.csv", "--data", "x"], "--table stands for --data and --layout"),
        (["--table", "t.csv", "--layout", "classes"], "--table stands for --data and --layout"),
        (["--layout", "classes"], "--layout classes says how to read --data"),
        (["--positive", "x"], "--positive is for --layout classes and --table"),
    ],
)
def test_options_that_contradict_each_other(words, message, run, capsys):
    for main, more in ((mura.main, []), (model_test.main, [str(run)]), (data_loader.main, [])):
        with pytest.raises(SystemExit) as end:
            main([*more, *(word.replace("--data", "--check" if main is data_loader.main else "--data") for word in words)])
        assert end.value.code == 2 and message in capsys.readouterr().err


def test_real_radiographs_as_class_folders_and_as_a_table(in_tmp, capsys):
    root = real_data("fracatlas")
    lines = ["path,label,patient,split"]
    for split in ("train", "valid"):
        for label in ("negative", "positive"):
            for study in sorted((root / split / "XR_HAND").glob(f"*/*_{label}"))[:20]:
                image = next(study.iterdir())
                lines.append(f"{image},{label},{study.parent.name},{split}")
                copy = Path(
                    "set", {"valid": "test"}.get(split, split), label, f"{study.parent.name}-{study.name}{image.suffix}"
                )
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.symlink_to(image)
    Path("table.csv").write_text("\n".join(lines), encoding="utf-8")
    scores = []
    for name, words in (("a", ["--data", "set", "--layout", "classes"]), ("b", ["--table", "table.csv"])):
        assert mura.main([*words, *TRAINING, "--out", name]) == 0 and model_test.main([name]) == 0
        scores.append(json.loads(Path(name, "scores.json").read_text(encoding="utf-8")))
    assert [one["studies"]["count"] for one in scores] == [40, 40] and [one["has_patients"] for one in scores] == [False, True]

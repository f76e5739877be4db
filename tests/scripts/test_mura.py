"""Training end to end: what a run folder holds, resuming, stopping, and faults told in one message."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import train
from tiny import TINY

import model_test
import mura
from bones.data.pixels import load_pixels
from bones.data.splits import split_by_patient
from bones.data.views import find_views
from bones.networks.batches import Batches
from bones.runs import checkpoints
from bones.runs.folder import HISTORY, RunFolder
from bones.scores.metrics import auroc
from bones.training import saving
from bones.training import trainer as training


def test_run_folder(trained, phantoms):
    assert {path.name for path in trained.iterdir()} >= {"best.h5", "last.h5", "history.csv", "run.json", "resume"}
    assert not list(trained.rglob(".partial*"))
    history = pd.read_csv(trained / "history.csv")
    assert list(history.columns) == HISTORY and history["epoch"].tolist() == [1, 2]
    assert history.notna().all(axis=None) and (history["views_per_second"] > 0).all()
    record = json.loads((trained / "run.json").read_text())
    assert record["options"]["epochs"] == 2 and record["options"]["recipe"] == "default" and record["options"]["seed"] == 0
    assert record["versions"]["keras"] == keras.__version__
    assert record["data"]["phantom"].startswith("phantom")
    train, tuning = record["data"]["train"], record["data"]["tuning"]
    assert train["views"] + tuning["views"] == len(find_views(phantoms, "train"))
    assert record["finished"] and record["training_seconds"] > 0
    assert record["options"]["chosen"] == "last" and record["best_epoch"] == 2


def test_threshold_and_temperature_are_those_of_the_tuning_studies(trained, phantoms):
    """Found again by search over the tuning probabilities of best.h5, in a formula of their own."""
    record = json.loads((trained / "run.json").read_text())
    _, tuning = split_by_patient(find_views(phantoms, "train"), 0.3, seed=0)
    tuning, pixels = load_pixels(tuning, 32, "pad", cache=None)
    raw = checkpoints.load_network(RunFolder(trained)).predict(Batches(pixels, 8), verbose=0)[:, 0].astype(float)

    def studies(temperature):
        views = tuning.assign(probability=1 / (1 + (1 / raw - 1) ** (1 / temperature)))
        means = views.groupby(["patient", "study"])[["label", "probability"]].mean().to_numpy().T
        return means[0].astype(int), means[1]

    losses = {t: -np.mean(np.log(np.where(label, p, 1 - p))) for t in np.geomspace(0.1, 10, 400) for label, p in [studies(t)]}
    assert record["temperature"] == pytest.approx(min(losses, key=losses.get), rel=0.02)
    label, probability = studies(record["temperature"])
    assert (probability >= record["threshold"]).sum() == label.sum()


def test_a_run_of_an_earlier_version_is_fitted_on_resume(trained, tmp_path, capsys):
    """It lacks the options that came later, and its threshold and temperature are the defaults."""
    shutil.copytree(trained, tmp_path / "run")
    record = json.loads((trained / "run.json").read_text())
    before = {**record, "options": {**record["options"]}, "threshold": 0.5, "temperature": 1.0}
    for later in ("labels", "accumulation", "mixup", "devices", "hosts"):
        del before["options"][later]
    (tmp_path / "run" / "run.json").write_text(json.dumps(before))
    assert mura.main(["--out", str(tmp_path / "run"), "--resume"]) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text()) == {
        **record,
        "options": {**record["options"], "out": str(tmp_path / "run")},
    }
    assert f"threshold {record['threshold']:.3f}" in capsys.readouterr().out


def test_corrected_labels_are_trained_on(in_tmp, small_root, capsys):
    study = "train/XR_HUMERUS/patient00001/study1_positive"
    Path("corrections.csv").write_text(f"study,label\n{study},0\n", encoding="utf-8")
    options = ["--epochs", 1, "--tuning-fraction", 0.5]
    assert train(small_root, "plain", *options) == 0
    assert train(small_root, "corrected", *options, "--labels", "corrections.csv") == 0
    plain, corrected = (json.loads(Path(name, "run.json").read_text(encoding="utf-8")) for name in ("plain", "corrected"))
    positives = [run["data"]["train"]["positive_views"] + run["data"]["tuning"]["positive_views"] for run in (plain, corrected)]
    assert positives[0] - positives[1] == 2
    assert corrected["options"]["labels"] == str(in_tmp / "corrections.csv")
    Path("corrections.csv").write_text("train/nobody,0\n", encoding="utf-8")
    assert mura.main(["--out", "corrected", "--resume"]) == 1
    assert "is not a study folder" in capsys.readouterr().err


def test_saved_networks_give_their_epochs_scores(trained, phantoms):
    """history.csv's tuning scores are those of the saved network, and equal Keras's own evaluate."""
    record = json.loads((trained / "run.json").read_text())
    views = find_views(phantoms, "train")
    _, tuning = split_by_patient(views, 0.3, seed=0)
    tuning, pixels = load_pixels(tuning, 32, "pad", cache=None)
    network = checkpoints.load_network(RunFolder(trained), "last.h5")
    last = pd.read_csv(trained / "history.csv").iloc[-1]
    network.compile(loss="binary_crossentropy", metrics=["accuracy"])
    loss, accuracy = network.evaluate(Batches(pixels, 8, tuning["label"]), verbose=0)
    assert last["val_loss"] == pytest.approx(loss, rel=1e-4)
    assert last["val_accuracy"] == pytest.approx(accuracy, abs=1e-6)
    best = checkpoints.load_network(RunFolder(trained), "best.h5").predict(Batches(pixels, 8), verbose=0)[:, 0]
    history = pd.read_csv(trained / "history.csv").set_index("epoch")
    assert history.loc[record["best_epoch"], "val_auroc"] == pytest.approx(auroc(tuning["label"], best), abs=1e-6)


def test_checkpoints_open_with_plain_keras(trained):
    code = f"import keras; print(keras.models.load_model({str(trained / 'best.h5')!r}).output_shape)"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "(None, 1)", done.stderr


def test_something_is_learned(in_tmp):
    """Studies with a bright bar against studies without: a network that learns at all tells them apart."""
    rng = np.random.default_rng(0)
    for patient in range(60):
        split = "train" if patient < 48 else "valid"
        pixels = rng.integers(0, 120, (32, 32), np.uint8)
        if patient % 2:
            row = rng.integers(4, 24)
            pixels[row : row + 4] = 255
        study = (
            in_tmp / "root" / split / "XR_HUMERUS" / f"patient{patient}" / f"study1_{'positive' if patient % 2 else 'negative'}"
        )
        study.mkdir(parents=True)
        Image.fromarray(pixels).save(study / "image1.png")
    assert train(in_tmp / "root", "run", "--epochs", 12, "--learning-rate", 0.01) == 0
    history = pd.read_csv("run/history.csv")
    assert history["loss"].iloc[-1] < 0.7 * history["loss"].iloc[0]
    assert history["val_auroc"].max() >= 0.95


def test_the_last_epoch_can_be_the_chosen_one(in_tmp, phantoms):
    for chosen, epoch in (("best", 2), ("last", 5), ("lowest_loss", 3)):
        saver = saving.SaveRun(None, None, None, None, chosen, None)
        saver.history = [
            {"epoch": place, "val_auroc": auroc, "val_loss": loss}
            for place, (auroc, loss) in enumerate(((0.8, 0.6), (0.9, 0.5), (0.7, 0.4), (0.9, 0.4), (0.6, 0.7)), start=1)
        ]
        assert saver.best()["epoch"] == epoch, "of equal epochs the first"
    assert train(phantoms, "run", "--epochs", 3, "--set", "chosen=last") == 0
    run = RunFolder("run")
    assert run.record().best_epoch == 3
    for best, last in zip(*(checkpoints.load_network(run, name).get_weights() for name in ("best.h5", "last.h5")), strict=True):
        np.testing.assert_array_equal(best, last)


def test_same_seed_same_history(in_tmp, phantoms):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(phantoms, name, "--epochs", 2, "--seed", seed) == 0
    columns = [name for name in HISTORY if name not in ("seconds", "views_per_second")]
    first, second, other = (pd.read_csv(f"{name}/history.csv")[columns] for name in "abc")
    pd.testing.assert_frame_equal(first, second, rtol=0, atol=1e-6)  # threads add up in any order
    assert abs(first["loss"] - other["loss"]).min() > 1e-4


def test_a_run_is_never_overwritten(trained, phantoms, capsys):
    before = (trained / "history.csv").read_bytes()
    assert train(phantoms, trained) == 1
    assert "is not empty" in capsys.readouterr().err
    assert (trained / "history.csv").read_bytes() == before


def test_resuming_a_finished_run_changes_nothing(trained, capsys):
    before = pd.read_csv(trained / "history.csv")
    assert mura.main(["--out", str(trained), "--resume"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv(trained / "history.csv"), before)


def test_resume_without_a_state_or_a_checkpoint_is_refused(trained, tmp_path, capsys):
    for name, message in (("resume/state.npz", "state.npz is missing"), ("best.h5", "best.h5 is missing")):
        copy = tmp_path / name.replace("/", "_")
        shutil.copytree(trained, copy)
        (copy / name).unlink()
        before = (copy / "last.h5").read_bytes()
        assert mura.main(["--out", str(copy), "--resume"]) == 1
        assert message in capsys.readouterr().err
        assert (copy / "last.h5").read_bytes() == before


def test_resume_with_a_damaged_state_is_refused(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "resume" / "state.npz").write_bytes(b"damaged")
    assert mura.main(["--out", str(tmp_path / "run"), "--resume"]) == 1
    assert "state.npz cannot be resumed from" in capsys.readouterr().err


def test_faults_of_valid_are_told_before_training(small_root, capsys):
    image = small_root / "valid" / "XR_HUMERUS" / "patient00009" / "study1_positive" / "image1.png"
    image.write_bytes(b"")
    options = ["--epochs", 1, "--tuning-fraction", 0.5]
    assert train(small_root, "a", *options) == 1
    assert "patient00009/study1_positive/image1.png   0 bytes" in capsys.readouterr().err
    image.parent.rename(image.parent.parent / "study1")
    assert train(small_root, "b", *options) == 1
    assert "ends in _positive or _negative" in capsys.readouterr().err
    shutil.rmtree(small_root / "valid")
    assert train(small_root, "c", *options) == 0
    assert "there will be no held-out score" in capsys.readouterr().err


def test_resume_takes_no_other_options_or_data(trained, small_root, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        mura.main(["--out", str(trained), "--resume", "--batch-size", "4"])
    assert error.value.code == 2 and "--batch-size" in capsys.readouterr().err
    assert mura.main(["--out", str(trained), "--resume", "--data", str(small_root)]) == 1
    assert "is not the data that" in capsys.readouterr().err
    assert mura.main(["--out", str(tmp_path / "absent"), "--resume"]) == 1
    assert "not a run folder" in capsys.readouterr().err


def test_nan_loss_names_the_epoch(in_tmp, phantoms, capsys):
    assert train(phantoms, "run", "--epochs", 3, "--learning-rate", 1e38) == 1
    message = capsys.readouterr().err
    assert re.search(r"the loss is (nan|inf) in epoch 1, step \d", message) and "Traceback" not in message


def test_a_batch_that_overflows_keeps_the_checkpoint_before(in_tmp, phantoms, capsys, monkeypatch):
    whole = Batches.__getitem__

    def overflowing(batches, index):
        pixels, *labels = whole(batches, index)
        overflows = (batches.epoch, index) == (2, 3)  # the second epoch's fourth
        return pixels, *(part * np.inf if overflows else part for part in labels)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__getitem__", overflowing)
        assert train(phantoms, "run", "--epochs", 3) == 1
    message = capsys.readouterr().err
    assert re.search(r"the loss is (nan|inf) in epoch 2, step 4", message) and "--learning-rate" in message
    assert len(RunFolder("run").read_history()) == 1
    for name in ("best.h5", "last.h5"):
        assert all(np.isfinite(weight).all() for weight in checkpoints.load_network(RunFolder("run"), name).get_weights())
    assert mura.main(["--out", "run", "--resume"]) == 0


def test_memory_that_runs_out_is_told_with_what_to_try(phantoms, in_tmp, capsys, monkeypatch):
    """TensorFlow's own error: it is asked for a tensor of 400 terabytes."""
    with monkeypatch.context() as patch:
        patch.setattr(training, "fit", lambda *arguments: keras.ops.zeros((10**7, 10**7)))
        assert train(phantoms, "run", "--batch-size", 6) == 1
    message = capsys.readouterr().err
    assert "memory ran out at --batch-size 6 and --size 32" in message
    assert "Try --batch-size 3 --accumulation 2" in message
    with pytest.raises(ZeroDivisionError), monkeypatch.context() as patch:
        patch.setattr(training, "fit", lambda *arguments: 1 / 0)
        train(phantoms, "other")


def test_accumulated_batches_are_told_and_resumed(phantoms, in_tmp, capsys, monkeypatch):
    """Stopped behind the first of five batches that are accumulated."""
    options = ["--batch-size", 4, "--accumulation", 5, "--epochs", 2]
    assert train(phantoms, "whole", *options) == 0
    assert "batch 4 x 5 accumulated = 20" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(saving.StopSignal, "__init__", lambda signal: setattr(signal, "requested", True))
        assert train(phantoms, "run", *options) == 0
    assert "and 1 step of the next are saved" in capsys.readouterr().out
    assert mura.main(["--out", "run", "--resume"]) == 0
    for first, second in zip(
        *(checkpoints.load_network(RunFolder(name)).get_weights() for name in ("whole", "run")), strict=True
    ):
        np.testing.assert_allclose(first, second, atol=1e-5)


def test_unreadable_views_are_counted(in_tmp, small_root, capsys):
    study = small_root / "train" / "XR_HUMERUS" / "patient00001" / "study1_positive"
    (study / "image2.png").write_bytes(b"")
    options = ["--epochs", 1, "--tuning-fraction", 0.5]
    assert train(small_root, "run", *options) == 1
    assert "patient00001/study1_positive/image2.png   0 bytes" in capsys.readouterr().err
    assert train(small_root, "run", *options, "--skip-unreadable") == 0
    assert "1 files left out with their labels" in capsys.readouterr().out
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["data"]["left_out"] == 1


@pytest.mark.parametrize("recipe", ["default", "original", "inception", "paper"])
def test_each_recipe_trains(recipe, in_tmp, phantoms):
    """Each recipe's own settings with the tiny network; the real networks run under `make test-slow`."""
    assert train(phantoms, "run", "--recipe", recipe, "--epochs", 1) == 0
    options = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["options"]
    assert options["recipe"] == recipe and options["class_weighted"] == (recipe == "paper")


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "size"), [("default", 64), ("original", 64), ("inception", 75), ("paper", 64)])
def test_each_recipe_trains_its_own_network(recipe, size, in_tmp, phantoms):
    options = ["--data", str(phantoms), "--recipe", recipe, "--weights", "none", "--size", str(size), "--epochs", "1"]
    assert mura.main([*options, "--tuning-fraction", "0.3", "--out", "run"]) == 0
    assert model_test.main(["run"]) == 0
    assert len(pd.read_csv("run/predictions.csv")) == len(find_views(phantoms, "held-out"))


def test_weights_that_cannot_be_had(in_tmp, phantoms, capsys):
    options = ["--data", str(phantoms), "--tuning-fraction", "0.3", "--size", "32", "--out", "run"]
    assert mura.main([*options, "--weights", "absent.h5"]) == 1
    assert "absent.h5: no such weights file" in capsys.readouterr().err
    assert (
        mura.main([*options, "--network", "densenet169_k12", "--weights", "imagenet"]) == 1
    )  # the failed run is in nobody's way
    assert "--weights none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    (
        "--epochs -1",
        "--size -3",
        "--seed -1",
        "--tuning-fraction 1",
        "--learning-rate nan",
        "--recipe mine",
        "--resume",
        "--demo --data x",
        "--epoch 3",
        "--set flip=maybe",
        "--set nothing=1",
        "--set dropout=1",
        "--set rotation",
    ),
)
def test_wrong_command_line(options, capsys):
    with pytest.raises(SystemExit) as error:
        mura.main(options.split())
    assert error.value.code == 2


def test_two_roots_are_trained_as_one_and_may_move(phantoms, small_root, in_tmp, capsys):
    arguments = [*TINY, "--tuning-fraction", "0.3", "--epochs", "1", "--out", "both"]
    assert mura.main(["--data", str(phantoms), str(small_root), *arguments]) == 0
    out = capsys.readouterr().out
    assert f"Data      {phantoms}, {small_root}: XR_HUMERUS" in out
    record = json.loads(Path("both/run.json").read_text(encoding="utf-8"))
    assert record["data"]["roots"] == [str(phantoms), str(small_root)]
    assert {patient.split("/")[0] for patient in record["data"]["tuning_patients"]} == {"phantoms", "MURA-v1.1"}
    assert model_test.main(["both"]) == 0 and "phantoms" in capsys.readouterr().out
    moved = in_tmp / "elsewhere" / "MURA-v1.1"
    shutil.copytree(small_root, moved)
    assert mura.main(["--out", "both", "--resume", "--data", str(moved), str(phantoms)]) == 0, "in any order"
    assert mura.main(["--out", "both", "--resume", "--data", str(moved)]) == 1
    assert "is not the data that both was trained on" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        mura.main(["--data", str(moved), "--demo"])
    assert mura.main(["--data", str(moved), str(moved), *arguments[:-1], "twice"]) == 1
    assert "is named twice" in capsys.readouterr().err

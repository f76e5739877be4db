"""Scoring a split and calling single studies."""

import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import data_loader
import model_test
import scores
from run_folder import PREDICTIONS, RunFolder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the trained run folder that a test may change."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


def test_split_scores(run, phantoms, capsys):
    assert model_test.main([str(run)]) == 0
    out = capsys.readouterr().out
    predictions = pd.read_csv(run / "predictions.csv")
    assert list(predictions.columns) == PREDICTIONS and set(predictions["split"]) == {"held-out"}
    assert len(predictions) == len(data_loader.find_views(phantoms, "held-out"))
    # One view at a time through Keras alone, decoded by Pillow alone: the probability hangs on nothing else.
    network = keras.models.load_model(run / "best.h5", compile=False)
    for row in predictions.iloc[::7].itertuples():
        with Image.open(row.path) as image:
            grey = image.convert("L")
            scale = 32 / max(grey.size)
            width, height = (round(side * scale) for side in grey.size)
            square = Image.new("L", (32, 32))
            square.paste(grey.resize((width, height), Image.Resampling.BILINEAR), ((32 - width) // 2, (32 - height) // 2))
        alone = network.predict(np.asarray(square)[None, ..., None], verbose=0)[0, 0]
        assert row.probability == pytest.approx(alone, abs=1e-5)
    report = json.loads((run / "scores.json").read_text())
    studies = predictions.groupby(["patient", "study"])[["label", "probability"]].mean()
    positive, negative = (studies["probability"][studies["label"] == label].to_numpy() for label in (1, 0))
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    assert report["studies"]["auroc"]["value"] == pytest.approx(pairs.mean())
    assert report["studies"]["count"] == 24 and report["views"]["count"] == len(predictions)
    assert report["split"] == "held-out" and report["data"] == str(phantoms) and report["threshold"] == 0.5
    assert f"{report['studies']['auroc']['value']:.3f}" in out
    assert "PHANTOMS" in out and "plot_results.py" in out


def test_tuning_scores_are_those_of_training(run, capsys):
    assert model_test.main([str(run)]) == 0
    assert model_test.main([str(run), "--split", "tuning"]) == 0
    history = pd.read_csv(run / "history.csv")
    report = json.loads((run / "scores.json").read_text())
    best = history.loc[history["val_auroc"].idxmax()]
    assert report["views"]["auroc"]["value"] == pytest.approx(best["val_auroc"], abs=1e-6)
    assert report["views"]["accuracy"]["value"] == pytest.approx(best["val_accuracy"], abs=1e-6)
    assert set(pd.read_csv(run / "predictions.csv")["split"]) == {"held-out", "tuning"}, (
        "scoring one split keeps the other's rows"
    )


def test_tuning_of_other_data_is_refused(run, small_root, capsys):
    assert model_test.main([str(run), "--split", "tuning", "--data", str(small_root)]) == 1
    assert "is not the data that" in capsys.readouterr().err


def test_other_data_and_forms(run, small_root, capsys):
    assert model_test.main([str(run), "--data", str(small_root), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((run / "scores.json").read_text())
    assert report["studies"]["count"] == 4 and report["phantom"] is None
    assert model_test.main([str(run), "--markdown"]) == 0
    header, rule, row = capsys.readouterr().out.strip().split("\n")
    assert header.count("|") == rule.count("|") == row.count("|")
    auroc = json.loads((run / "scores.json").read_text())["studies"]["auroc"]["value"]
    assert f"{auroc:.3f}" in row and "(phantom)" in row and "tiny" in row


def test_markdown_names_what_was_scored(run, small_root, capsys):
    for split in ("train", "valid"):
        (small_root / split / "XR_HUMERUS").rename(small_root / split / "XR_ELBOW")
    assert model_test.main([str(run), "--data", str(small_root), "--study-type", "all", "--markdown"]) == 0
    assert "MURA-v1.1 XR_ELBOW, held-out" in capsys.readouterr().out


def test_one_study_and_one_image(run, phantoms, capsys):
    assert model_test.main([str(run)]) == 0
    predictions = pd.read_csv(run / "predictions.csv")
    capsys.readouterr()
    study = predictions.groupby(data_loader.STUDY).filter(lambda views: len(views) > 1)
    study = study[study["patient"] == study["patient"].iloc[0]]
    study = study[study["study"] == study["study"].iloc[0]]
    folder = study["path"].iloc[0].rsplit("/", 1)[0]
    assert model_test.main([str(run), folder, study["path"].iloc[0]]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.strip().split("\n")]
    assert [line[0] for line in lines] == [
        *study["path"],
        f"study {folder}",
        study["path"].iloc[0],
        f"study {study['path'].iloc[0]}",
    ]
    expected = [*study["probability"], study["probability"].mean(), *[study["probability"].iloc[0]] * 2]
    assert [float(line[2]) for line in lines] == pytest.approx(expected, abs=1e-3)
    assert [line[1] for line in lines] == ["Positive" if value >= 0.5 else "Negative" for value in expected]


def test_threshold_comes_from_the_run(run, phantoms, capsys):
    record = json.loads((run / "run.json").read_text())
    study = next((phantoms / "valid" / "XR_HUMERUS").glob("*/*"))
    for threshold, decision in ((0.0, "Positive"), (1.0, "Negative")):
        (run / "run.json").write_text(json.dumps({**record, "threshold": threshold}))
        assert model_test.main([str(run), str(study)]) == 0
        assert {line.split("\t")[1] for line in capsys.readouterr().out.strip().split("\n")} == {decision}


def test_study_faults(run, phantoms, tmp_path, capsys):
    (tmp_path / "bad.png").write_bytes(b"not an image")
    (tmp_path / "empty").mkdir()
    for argument, message in (
        (tmp_path / "absent", "no such file or folder"),
        (phantoms, "--data"),
        (tmp_path / "bad.png", "no image that Pillow knows"),
        (tmp_path / "empty", "holds no image"),
    ):
        assert model_test.main([str(run), str(argument)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("model_test.py: ") and message in err
    with pytest.raises(SystemExit) as error:
        model_test.main([str(run), str(phantoms), "--split", "tuning"])
    assert error.value.code == 2


def damage(run, name, content):
    (run / name).write_bytes(content)


CHECKPOINTS = {
    "no run": (shutil.rmtree, "is no run folder"),
    "no checkpoint": (lambda run: (run / "best.h5").unlink(), "best.h5 does not exist"),
    "random bytes": (lambda run: damage(run, "best.h5", b"random"), "best.h5 is no network that Keras opens"),
    "truncated": (lambda run: damage(run, "best.h5", (run / "best.h5").read_bytes()[:5000]), "best.h5 is no network"),
    "no json": (lambda run: damage(run, "run.json", b"{"), "run.json is no JSON"),
    "other json": (lambda run: damage(run, "run.json", b"[1]"), "holds no JSON object"),
    "wrong field": (
        lambda run: damage(run, "run.json", b'{"options": {}, "data": {}, "threshold": "high"}'),
        "'threshold' is 'high'",
    ),
}


@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_run_faults(fault, run, capsys):
    make, message = CHECKPOINTS[fault]
    make(run)
    assert model_test.main([str(run)]) == 1
    assert message in capsys.readouterr().err


def test_checkpoint_of_another_size_is_refused(run, capsys):
    record = json.loads((run / "run.json").read_text())
    record["options"]["size"] = 64
    (run / "run.json").write_text(json.dumps(record))
    assert model_test.main([str(run)]) == 1
    assert "of different runs" in capsys.readouterr().err


def test_code_in_a_checkpoint_does_not_run(run, tmp_path, capsys):
    marker = tmp_path / "marker"
    made = str(marker)
    grey = keras.Input((32, 32, 1))
    evil = keras.layers.Lambda(lambda x: (open(made, "w").close(), x)[1], output_shape=(32, 32, 1))
    network = keras.Model(grey, keras.layers.Dense(1)(keras.layers.Flatten()(evil(grey))))
    network.save(run / "best.h5")
    marker.unlink(missing_ok=True)
    assert model_test.main([str(run)]) == 1
    assert "is no network that Keras opens" in capsys.readouterr().err
    assert not marker.exists()


def test_scores_do_not_hang_on_the_batch(run, monkeypatch):
    network = RunFolder(run).load_network()
    pixels = data_loader.Rows(np.random.default_rng(0).integers(0, 256, (9, 32, 32, 1)).astype(np.uint8), np.arange(9))
    whole = model_test.predict(network, pixels)
    monkeypatch.setattr(model_test, "BATCH_SIZE", 2)
    np.testing.assert_allclose(model_test.predict(network, pixels), whole, atol=1e-6)
    assert scores.decisions(whole, 0.5).shape == (9,)

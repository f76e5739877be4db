"""Scoring a split and calling single studies."""

import errno
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn import metrics
from support import one_message

import model_test
import mura
from bones.data import images, sizes
from bones.data.pixels import Rows
from bones.data.table import STUDY
from bones.data.views import find_views
from bones.evaluation import audit
from bones.evaluation import heatmaps as heatmap
from bones.evaluation.pointing import maximum_position
from bones.networks.batches import predict
from bones.runs import checkpoints
from bones.runs import record as records
from bones.runs.folder import PREDICTIONS, RunFolder
from bones.scores.names import WITH_INTERVAL
from bones.scores.probabilities import decisions, study_probabilities


def test_split_scores(run, phantoms, capsys):
    assert model_test.main([str(run)]) == 0
    out = capsys.readouterr().out
    predictions = pd.read_csv(run / "predictions.csv")
    assert list(predictions.columns) == PREDICTIONS and set(predictions["split"]) == {"held-out"}
    assert len(predictions) == len(find_views(phantoms, "held-out"))
    # One view at a time through Keras alone, decoded by Pillow alone: the probability hangs on nothing else.
    network = keras.models.load_model(run / "best.h5", compile=False)
    settings = json.loads((run / "run.json").read_text())
    for row in predictions.iloc[::7].itertuples():
        with Image.open(row.path) as image:
            grey = image.convert("L")
            scale = 32 / max(grey.size)
            width, height = (round(side * scale) for side in grey.size)
            square = Image.new("L", (32, 32))
            square.paste(grey.resize((width, height), Image.Resampling.BILINEAR), ((32 - width) // 2, (32 - height) // 2))
        alone = network.predict(np.asarray(square)[None, ..., None], verbose=0)[0, 0]
        logit = np.log(alone / (1 - alone)) / settings["temperature"]
        assert row.probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)
    report = json.loads((run / "scores.json").read_text())
    studies = predictions.groupby(["patient", "study"])[["label", "probability"]].mean()
    positive, negative = (studies["probability"][studies["label"] == label].to_numpy() for label in (1, 0))
    pairs = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    assert report["studies"]["auroc"]["value"] == pytest.approx(pairs.mean())
    assert report["studies"]["count"] == 24 and report["views"]["count"] == len(predictions)
    assert report["split"] == "held-out" and report["data"] == [str(phantoms)]
    assert report["threshold"] == settings["threshold"] != 0.5 and report["temperature"] == settings["temperature"] != 1
    assert report["studies"]["ece"]["low"] is report["studies"]["ece"]["high"] is None
    for name in WITH_INTERVAL:
        found = report["studies"][name]
        assert found["low"] <= found["value"] <= found["high"] and f"{found['value']:.3f} [{found['low']:.3f}" in out
    called = studies["probability"] >= settings["threshold"]
    assert report["studies"]["accuracy"]["value"] == pytest.approx((called == studies["label"]).mean())
    called = studies["probability"] >= 0.5
    assert report["at_half"]["studies"]["accuracy"]["value"] == pytest.approx((called == studies["label"]).mean())
    assert "at 0.500: accuracy" in out and f"at {settings['threshold']:.3f}: accuracy" in out
    assert "PHANTOMS" in out and "plot_results.py" in out


def test_tuning_scores_are_those_of_training(run, capsys):
    assert model_test.main([str(run)]) == 0
    assert model_test.main([str(run), "--split", "tuning"]) == 0
    history = pd.read_csv(run / "history.csv")
    report = json.loads((run / "scores.json").read_text())
    kept = history.set_index("epoch").loc[json.loads((run / "run.json").read_text())["best_epoch"]]
    assert report["views"]["auroc"]["value"] == pytest.approx(kept["val_auroc"], abs=1e-6)
    assert report["at_half"]["views"]["accuracy"]["value"] == pytest.approx(kept["val_accuracy"], abs=1e-6)
    found = report["studies"]
    called = found["confusion"]["true_positive"] + found["confusion"]["false_positive"]
    assert called == found["positive"], "the threshold was fitted on them"
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
    header, rule, row = capsys.readouterr().out.strip().split("\n")[:3]
    assert header.count("|") == rule.count("|") == row.count("|")
    auroc = json.loads((run / "scores.json").read_text())["studies"]["auroc"]
    assert f"{auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]" in row and "(phantom)" in row and "tiny" in row


def test_markdown_names_what_was_scored(run, small_root, capsys):
    for split in ("train", "valid"):
        (small_root / split / "XR_HUMERUS").rename(small_root / split / "XR_ELBOW")
    assert model_test.main([str(run), "--data", str(small_root), "--study-type", "all", "--markdown"]) == 0
    assert "MURA-v1.1 XR_ELBOW, held-out" in capsys.readouterr().out


def test_one_study_and_one_image(run, phantoms, capsys):
    assert model_test.main([str(run)]) == 0
    predictions = pd.read_csv(run / "predictions.csv")
    capsys.readouterr()
    study = predictions.groupby(STUDY).filter(lambda views: len(views) > 1)
    study = study[study["patient"] == study["patient"].iloc[0]]
    study = study[study["study"] == study["study"].iloc[0]]
    folder = study["path"].iloc[0].rsplit("/", 1)[0]
    assert model_test.main([str(run), folder, study["path"].iloc[0]]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.strip().split("\n")]
    assert [line[0] for line in lines] == [*study["path"], f"study {folder}", study["path"].iloc[0]]
    expected = [*study["probability"], study["probability"].mean(), study["probability"].iloc[0]]
    assert [float(line[2]) for line in lines] == pytest.approx(expected, abs=1e-3)
    threshold = json.loads((run / "run.json").read_text())["threshold"]
    assert [line[1] for line in lines] == ["Positive" if value >= threshold else "Negative" for value in expected]


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
        (tmp_path / "bad.png", "not an image that Pillow can read"),
        (tmp_path / "empty", "contains no image"),
    ):
        assert model_test.main([str(run), str(argument)]) == 1
        err = capsys.readouterr().err
        assert err.count("model_test.py: ") == 1 and message in err.split("model_test.py: ")[1]
    with pytest.raises(SystemExit) as error:
        model_test.main([str(run), str(phantoms), "--split", "tuning"])
    assert error.value.code == 2


def test_a_data_root_is_a_folder_of_studies(run, phantoms, capsys):
    """Called without their labels, the held-out studies get the probabilities of their split."""
    assert model_test.main([str(run)]) == 0
    scored = pd.read_csv(run / "predictions.csv")
    assert model_test.main([str(run), str(phantoms / "valid")]) == 0
    assert "Wrote predictions.csv" in capsys.readouterr().out and Path("predictions.csv").is_file()
    called = pd.read_csv("predictions.csv").set_index("path").loc[scored["path"]]
    assert len(called) == len(scored)
    assert called["probability"].tolist() == pytest.approx(scored["probability"].tolist(), abs=1e-5)
    means = scored.groupby(scored["path"].str.rsplit("/", n=1).str[0])["probability"].transform("mean")
    assert called["study_probability"].tolist() == pytest.approx(means.tolist(), abs=1e-5)


def test_pointing(run, phantoms, capsys):
    assert model_test.main([str(run), "--pointing"]) == 0
    out = capsys.readouterr().out
    kinds = json.loads((run / "pointing.json").read_text())["maps"]
    assert list(kinds) == ["Grad-CAM", "LayerCAM"]
    found = kinds["Grad-CAM"]
    truth = pd.read_csv(phantoms / "truth.csv")
    truth = truth[truth["path"].str.startswith("valid/") & truth["left"].notna()]
    network, hits = checkpoints.load_network(RunFolder(run)), []
    for row in truth.itertuples():
        grey = images.read_grey(phantoms / row.path)
        values = heatmap.grad_cam(network, sizes.fit_square(grey, 32, "pad")[None, ..., None])[0]
        x, y = maximum_position(values, row.width, row.height, "pad")
        hits.append(row.left <= x * row.width < row.right and row.top <= y * row.height < row.bottom)
    assert found["hits"]["value"] == pytest.approx(np.mean(hits)) and f"{len(hits)} abnormal held-out views" in out
    middle = truth["left"].le(truth["width"] / 2) & truth["right"].gt(truth["width"] / 2)
    middle &= truth["top"].le(truth["height"] / 2) & truth["bottom"].gt(truth["height"] / 2)
    assert found["middle"] == pytest.approx(middle.mean())
    share = (truth["right"] - truth["left"]) * (truth["bottom"] - truth["top"]) / (truth["width"] * truth["height"])
    assert found["area"] == pytest.approx(share.mean())
    for text in (f"{found['hits']['value']:.3f}", f"{found['other_films']:.3f}", "PHANTOMS", "3 x 3", "pointing.json"):
        assert text in out


def test_pointing_needs_phantoms(run, small_root, capsys):
    assert model_test.main([str(run), "--pointing", "--data", str(small_root)]) == 1
    assert "truth.csv" in capsys.readouterr().err


def damage(run, name, content):
    (run / name).write_bytes(content)


CHECKPOINTS = {
    "no run": (shutil.rmtree, "no such file or folder. Expected a run folder of mura.py"),
    "no checkpoint": (lambda run: (run / "best.h5").unlink(), "best.h5 does not exist"),
    "random bytes": (lambda run: damage(run, "best.h5", b"random"), "best.h5 is not a network that Keras loads"),
    "truncated": (lambda run: damage(run, "best.h5", (run / "best.h5").read_bytes()[:5000]), "best.h5 is not a network"),
    "no json": (lambda run: damage(run, "run.json", b"{"), "run.json is not valid JSON"),
    "other json": (lambda run: damage(run, "run.json", b"[1]"), "is not a JSON object"),
    "missing options": (lambda run: damage(run, "run.json", b'{"options": {}, "data": {}}'), "'network' is missing"),
}


@pytest.mark.parametrize("fault", CHECKPOINTS)
def test_run_faults(fault, run, capsys):
    make, message = CHECKPOINTS[fault]
    make(run)
    assert model_test.main([str(run)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("part", "name", "value"),
    (
        *[(None, "threshold", value) for value in (float("nan"), 2.0, -0.1, None, "0.5", True)],
        *[(None, "temperature", value) for value in (float("nan"), 0.0, -1.0, float("inf"), None)],
        (None, "threshold", "high"),
        (None, "training_seconds", "x"),
        (None, "versions", {"keras": 3}),
        (None, "options", []),
        ("options", "study_type", [1]),
        ("options", "study_type", []),
        ("options", "resize", "foo"),
        ("options", "labels", 3),
        ("options", "weights", None),
        ("options", "recipe", None),
        ("options", "epochs", -1),
        ("options", "size", 2.5),
        ("data", "roots", 1),
        ("data", "train", "x"),
    ),
)
def test_wrong_values_in_run_json(part, name, value, run, capsys):
    record = json.loads((run / "run.json").read_text())
    (record[part] if part else record)[name] = value
    (run / "run.json").write_text(json.dumps(record))
    assert model_test.main([str(run), "--markdown"]) == 1
    err = capsys.readouterr().err
    assert f"run.json: '{name}' is {value!r}; expected " in err


def test_whole_numbers_are_numbers(run):
    record = json.loads((run / "run.json").read_text()) | {"temperature": 1, "threshold": 1}
    (run / "run.json").write_text(json.dumps(record))
    assert model_test.main([str(run)]) == 0


def test_checkpoint_of_another_size_is_refused(run, capsys):
    record = json.loads((run / "run.json").read_text())
    record["options"]["size"] = 64
    (run / "run.json").write_text(json.dumps(record))
    assert model_test.main([str(run)]) == 1
    assert "to different runs" in capsys.readouterr().err


def test_code_in_a_checkpoint_does_not_run(run, tmp_path, capsys):
    marker = tmp_path / "marker"
    made = str(marker)
    grey = keras.Input((32, 32, 1))
    evil = keras.layers.Lambda(lambda x: (open(made, "w", encoding="utf-8").close(), x)[1], output_shape=(32, 32, 1))
    network = keras.Model(grey, keras.layers.Dense(1)(keras.layers.Flatten()(evil(grey))))
    network.save(run / "best.h5")
    marker.unlink(missing_ok=True)
    assert model_test.main([str(run)]) == 1
    assert "is not a network that Keras loads" in capsys.readouterr().err
    assert not marker.exists()


def test_scores_do_not_hang_on_the_batch(run):
    network = checkpoints.load_network(RunFolder(run))
    pixels = Rows(np.random.default_rng(0).integers(0, 256, (9, 32, 32, 1)).astype(np.uint8), np.arange(9))
    whole = predict(network, pixels)
    np.testing.assert_allclose(predict(network, pixels, batch_size=2), whole, atol=1e-6)
    assert decisions(whole, 0.5).shape == (9,)


# Several runs


@pytest.fixture
def runs(trained, tmp_path):
    """Three runs: two that differ in their seed alone and one of another recipe, each with weights of its own."""
    paths = []
    for name, seed, recipe, scale in (("a", 0, "default", 1.0), ("b", 1, "default", 0.8), ("c", 0, "paper", -1.0)):
        shutil.copytree(trained, tmp_path / name)
        record = json.loads((tmp_path / name / "run.json").read_text())
        record["options"] |= {"seed": seed, "recipe": recipe, "out": name}
        (tmp_path / name / "run.json").write_text(json.dumps(record))
        network = keras.models.load_model(tmp_path / name / "best.h5", compile=False)
        kernel, bias = network.get_layer("probability").get_weights()
        kernel[:4] *= scale
        network.get_layer("probability").set_weights([kernel, bias])
        network.save(tmp_path / name / "best.h5")
        paths.append(str(tmp_path / name))
    return paths


def markdown_rows(text):
    """The rows of the first Markdown table of a text, as lists of cells."""
    table = text.strip().split("\n\n")[0].split("\n")
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_several_runs_as_a_table(runs, capsys):
    assert model_test.main([*runs, "--markdown"]) == 0
    out = capsys.readouterr().out
    rows = markdown_rows(out)
    assert [row[4] for row in rows] == ["0", "1", "mean of 0, 1", "ensemble of 0, 1", "0", ""]
    predictions = [pd.read_csv(Path(run) / "predictions.csv") for run in runs]
    studies = [table.groupby(["patient", "study"])[["label", "probability"]].mean() for table in predictions]
    aurocs = [metrics.roc_auc_score(table["label"], table["probability"]) for table in studies]
    assert len(set(aurocs)) == 3, "three different runs"
    assert rows[2][5].startswith(f"{np.mean(aurocs[:2]):.3f} [")
    together = (studies[0]["probability"] + studies[1]["probability"]) / 2
    assert rows[3][5].startswith(f"{metrics.roc_auc_score(studies[0]['label'], together):.3f} [")
    thresholds = [json.loads((Path(run) / "run.json").read_text())["threshold"] for run in runs[:2]]
    accuracy = np.mean((together >= np.mean(thresholds)) == studies[0]["label"])
    assert rows[3][7].startswith(f"{accuracy:.3f} ["), "at the mean of the members' thresholds"
    assert rows[5][0] == "always Negative" and rows[5][5] == "0.500 [-]"
    assert rows[5][7].startswith(f"{1 - studies[0]['label'].mean():.3f} [")
    assert f"AUROC {aurocs[2] - np.mean(aurocs[:2]):.3f}, " in out and "One seed cannot tell recipes apart" in out
    assert "threshold, temperature and seed held fixed" in out and "on the same patients" in out and "p 0." not in out
    for figure in ("0.929", "0.815", "0.887", "0.778", "0.843", "hidden test set"):
        assert figure in out


def test_runs_of_another_learning_rate_are_no_seeds_of_one_another(runs, capsys):
    record = json.loads((Path(runs[1]) / "run.json").read_text())
    record["options"]["learning_rate"] *= 2
    (Path(runs[1]) / "run.json").write_text(json.dumps(record))
    assert model_test.main([*runs[:2], "--markdown"]) == 0
    assert "ensemble of" not in capsys.readouterr().out


def test_two_seeds_of_each_recipe_have_intervals_and_adjusted_p_values(runs, tmp_path, capsys):
    shutil.copytree(runs[2], tmp_path / "d")
    record = json.loads((tmp_path / "d" / "run.json").read_text())
    record["options"]["seed"] = 1
    (tmp_path / "d" / "run.json").write_text(json.dumps(record))
    shutil.copy(Path(runs[1]) / "best.h5", tmp_path / "d" / "best.h5")
    assert model_test.main([*runs, str(tmp_path / "d"), "--markdown"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("paper (")]
    assert line.count(", p ") == 3 and line.count(" [") == 3
    out = model_test.main([*runs, str(tmp_path / "d")]), capsys.readouterr().out
    assert line in out[1] and "P values are adjusted for these 3 comparisons (Holm); intervals are not." in out[1]


def test_several_runs_compared(runs, capsys):
    assert model_test.main(runs) == 0
    out = capsys.readouterr().out
    assert out.count("held-out (valid/)") == 3 and out.count("minus default") == 1
    assert "mean of 2 seeds), interval over patients and seeds: AUROC 0." in out and out.count("always Negative: accuracy") == 3
    assert model_test.main([*runs[:2], "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)
    assert [report["studies"]["auroc"]["value"] for report in reports] == [
        json.loads((Path(run) / "scores.json").read_text())["studies"]["auroc"]["value"] for run in runs[:2]
    ]


def test_runs_on_other_data_are_not_compared(runs, small_root, capsys):
    record = json.loads((Path(runs[1]) / "run.json").read_text())
    record["data"]["roots"] = [str(small_root)]
    (Path(runs[1]) / "run.json").write_text(json.dumps(record))
    for form in ([], ["--markdown"]):
        assert model_test.main([*runs[:2], *form]) == 0
        out = capsys.readouterr().out
        assert "was scored on different studies" in out and "ensemble of" not in out and "minus" not in out


def test_several_runs_and_what_is_for_one(runs, phantoms, capsys):
    study = str(next((phantoms / "valid" / "XR_HUMERUS").glob("*/*")))
    for options in (["--split", "tuning"], ["--audit"], ["--suspects", "3", "--split", "held-out"], [study], [runs[0]]):
        with pytest.raises(SystemExit) as error:
            model_test.main([*runs[:2], *options])
        assert error.value.code == 2
    err = capsys.readouterr().err
    assert "one run" in err and "is named twice" in err


def test_runs_trained_on_other_data_are_no_seeds_of_one_another(runs, capsys):
    record = json.loads((Path(runs[1]) / "run.json").read_text())
    record["data"]["train"]["views"] += 1
    (Path(runs[1]) / "run.json").write_text(json.dumps(record))
    assert model_test.main([*runs[:2], "--markdown"]) == 0
    assert "ensemble of" not in capsys.readouterr().out


# Labels, suspects, shortcuts


def test_corrected_labels_side_by_side(run, phantoms, tmp_path, capsys):
    assert model_test.main([str(run), "--json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    studies = study_probabilities(pd.read_csv(run / "predictions.csv"))
    wrong = studies.iloc[(studies["probability"] - studies["label"]).abs().argmax()]
    (tmp_path / "labels.csv").write_text(
        f"study,label\nvalid/XR_HUMERUS/{wrong['patient']}/{wrong['study']},{1 - wrong['label']}\n"
    )
    assert model_test.main([str(run), "--labels", str(tmp_path / "labels.csv")]) == 0
    out = capsys.readouterr().out
    report = json.loads((run / "scores.json").read_text())
    assert report["corrected"] == 1 and plain["corrected"] == 0
    assert report["folder_labels"]["studies"] == plain["studies"]
    assert report["studies"]["brier"]["value"] < plain["studies"]["brier"]["value"]
    assert "studies, corrected" in out and "studies, folder names" in out and "changes no label" not in out
    (tmp_path / "same.csv").write_text(f"study,label\nvalid/XR_HUMERUS/{wrong['patient']}/{wrong['study']},{wrong['label']}\n")
    assert model_test.main([str(run), "--labels", str(tmp_path / "same.csv")]) == 0
    assert "same.csv changes no label of this split" in capsys.readouterr().out
    assert model_test.main([str(run), "--labels", str(tmp_path / "labels.csv")]) == 0
    labels = pd.read_csv(run / "predictions.csv").set_index(["patient", "study"])["label"]
    assert set(labels[(wrong["patient"], wrong["study"])]) == {1 - wrong["label"]}
    capsys.readouterr()
    assert model_test.main([str(run), "--labels", "absent.csv"]) == 1
    assert "absent.csv cannot be read" in capsys.readouterr().err


def test_suspects_disagree_most_and_can_be_corrected(run, phantoms, capsys):
    assert model_test.main([str(run), "--suspects", "5"]) == 0
    out = capsys.readouterr().out
    suspects = pd.read_csv(run / "suspects.csv")
    studies = study_probabilities(pd.read_csv(run / "predictions.csv"))
    gaps = np.sort((studies["label"] - studies["probability"]).abs())[::-1]
    assert (suspects["label"] - suspects["probability"]).abs().tolist() == pytest.approx(gaps[:5], abs=1e-3)
    assert all((phantoms / study).is_dir() and study in out for study in suspects["study"])
    assert f"Next: python model_test.py {run} --labels FILE.csv" in out
    views = sum(len(list((phantoms / study).iterdir())) for study in suspects["study"])
    assert suspects["views"].sum() == views
    with Image.open(run / "suspects.png") as sheet:
        assert sheet.height > 220 * -(-views // 5) and np.asarray(sheet).std() > 5
    suspects.assign(label=1 - suspects["label"]).to_csv("corrections.csv", index=False)
    assert model_test.main([str(run), "--labels", "corrections.csv"]) == 0
    assert json.loads((run / "scores.json").read_text())["corrected"] == 5


def test_audit(run, capsys):
    assert model_test.main([str(run), "--audit"]) == 0
    out = capsys.readouterr().out
    table = pd.read_csv(run / "audit.csv").set_index("change")
    assert list(table.index) == list(audit.CHANGES) and all(change in out for change in table.index)
    assert (table["probability moves by"] > 0).all() and table.loc["inverted", "probability moves by"] > 0.01
    with Image.open(run / "audit.png") as sheet:
        assert sheet.width == 6 * 200 and np.asarray(sheet).std() > 5


@pytest.mark.parametrize("options", (["--suspects", "0"], ["--suspects", "x"], ["--audit", "--json"], ["--labels"]))
def test_wrong_command_line(run, options):
    with pytest.raises(SystemExit) as error:
        model_test.main([str(run), *options])
    assert error.value.code == 2


def test_without_a_run_the_one_of_the_repository_is_used(run, phantoms, in_tmp, monkeypatch, capsys):
    image = str(next((phantoms / "valid").rglob("*.png")))
    assert model_test.main([str(run), image]) == 0
    expected = capsys.readouterr().out
    monkeypatch.setattr(records, "SHIPPED", run)
    assert model_test.main([image]) == 0
    out, err = capsys.readouterr()
    assert out == expected and "no run is named, so run is used" in err
    monkeypatch.setattr(records, "SHIPPED", in_tmp / "absent")
    assert model_test.main([image]) == 1
    assert "absent is not a run folder" in capsys.readouterr().err
    monkeypatch.setattr(records, "SHIPPED", run)
    assert model_test.main(["absent.png"]) == 1
    assert "absent.png: no such file or folder. Expected a run folder" in capsys.readouterr().err


def test_a_run_may_follow_its_studies(run, phantoms, capsys):
    image = str(next((phantoms / "valid").rglob("*.png")))
    assert model_test.main([str(run), image]) == 0
    expected = capsys.readouterr().out
    assert model_test.main([image, str(run)]) == 0 and capsys.readouterr().out == expected


def test_scores_of_a_read_only_run_are_printed(run, capsys, monkeypatch):
    def refuse(*arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    assert model_test.main([str(run)]) == 0
    capsys.readouterr()
    before = sorted(run.iterdir())
    monkeypatch.setattr(os, "replace", refuse)
    assert model_test.main([str(run)]) == 1
    out, err = capsys.readouterr()
    assert "AUROC" in out and "The scores are in no file" in out and "Next:" not in out
    assert "predictions.csv cannot be written (Read-only file system)" in err and sorted(run.iterdir()) == before
    for option, file in (["--suspects=3", "suspects.csv"], ["--audit", "audit.csv"], ["--pointing", "pointing.json"]):
        assert model_test.main([str(run), option]) == 1
        out, err = capsys.readouterr()
        assert len(out.splitlines()) > 3 and "Wrote" not in out
        assert f"{file} cannot be written (Read-only file system)" in err and sorted(run.iterdir()) == before


def test_nothing_is_written_into_the_run_of_the_repository(run, phantoms, monkeypatch, capsys):
    monkeypatch.setattr(records, "SHIPPED", run)
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    for arguments in ([str(run), "--data", str(phantoms)], ["--data", str(phantoms)]):
        assert model_test.main(arguments) == 0
        out = capsys.readouterr().out
        assert "AUROC" in out and "Nothing was written: run" in out.replace(str(run), "run")
    for arguments in (["--suspects", "3"], ["--audit"], ["--pointing"], ["--split", "tuning", "--audit"]):
        assert model_test.main([str(run), *arguments]) == 1
        assert "nothing is written into it. Copy it" in capsys.readouterr().err
    assert mura.main(["--out", str(run), "--resume"]) == 1
    assert "nothing is written into it. Copy it" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


def test_a_run_may_follow_options(run, phantoms, capsys):
    for options in (["--data", str(phantoms), str(run)], ["--study-type", "all", str(run)], ["--json", str(run)]):
        assert model_test.main(options) == 0
    capsys.readouterr()
    with pytest.raises(SystemExit):
        model_test.main(["--json"])
    assert "name a run folder of mura.py, or a study to classify" in capsys.readouterr().err


def test_groups_and_boxes(run, phantoms, in_tmp, capsys):
    """Groups are scored by their views and beside the others; boxes are those of a file, with a margin."""
    truth = pd.read_csv(phantoms / "truth.csv")
    truth[["path", "mode", "marker"]].assign(one=1, name=truth["path"]).to_csv("tags.csv", index=False)
    assert model_test.main([str(run), "--groups", "tags.csv"]) == 0
    out = capsys.readouterr().out
    report = json.loads((run / "scores.json").read_text())
    assert report["groups"].keys() >= {"mode"} and report["not_grouped"] == 0
    views = pd.read_csv(run / "predictions.csv")
    names = [Path(path).relative_to(phantoms).as_posix() for path in views["path"]]
    colour = truth.set_index("path")["mode"].loc[names].to_numpy() == "RGB"
    for part, mask in (("studies", colour), ("without", ~colour)):
        studies = views[mask].groupby(["patient", "study"])[["label", "probability"]].mean()
        found = report["groups"]["mode"]["RGB"][part]
        assert found["count"] == len(studies)
        assert found["auroc"]["value"] == pytest.approx(metrics.roc_auc_score(studies["label"], studies["probability"]))
    assert "No groups by one, name: one value, or more than 20." in out and "marker = (empty)" in out
    assert "mode = RGB" in out and "AUROC of the others" in out
    assert "mode = RGB" in (run / "MODEL_CARD.md").read_text()
    assert model_test.main([str(run), "--pointing", "--boxes", str(phantoms / "truth.csv")]) == 0
    kinds = json.loads((run / "pointing.json").read_text())["maps"]
    assert list(kinds) == ["Grad-CAM", "Grad-CAM, within 15 px", "LayerCAM", "LayerCAM, within 15 px"]
    assert kinds["LayerCAM, within 15 px"]["hits"]["value"] >= kinds["LayerCAM"]["hits"]["value"]
    assert "whether a map's maximum is in a box" in (run / "MODEL_CARD.md").read_text()
    (in_tmp / "far.csv").write_text(f"path,left,top,right,bottom\n{names[0]},10,10,5000,5000\n")
    assert model_test.main([str(run), "--pointing", "--boxes", "far.csv"]) == 1
    assert "px, and a box of it is 10, 10, 5000, 5000" in one_message(capsys, "model_test")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--boxes", "x.csv"], "--boxes needs --pointing"),
        (["--groups", "x.csv", "--audit"], "leave out --suspects, --audit and --pointing"),
        (["image.png", "--groups", "x.csv"], "--groups is for scoring a whole split"),
    ],
)
def test_options_that_do_not_fit(options, says, run, capsys):
    with pytest.raises(SystemExit):
        model_test.main([str(run), *options])
    assert says in capsys.readouterr().err


def test_several_roots(run, phantoms, small_root, capsys):
    """Scores of all studies, and of each root."""
    assert model_test.main([str(run), "--data", str(phantoms), str(small_root)]) == 0
    report = json.loads((run / "scores.json").read_text())
    assert report["data"] == [str(phantoms), str(small_root)] and report["studies"]["count"] == 24 + 4
    assert {name: part["studies"]["count"] for name, part in report["by_root"].items()} == {"phantoms": 24, "MURA-v1.1": 4}
    out = capsys.readouterr().out
    assert "MURA-v1.1" in out and "`phantoms + MURA-v1.1`, " in (run / "MODEL_CARD.md").read_text()
    assert model_test.main([str(run), "--data", str(phantoms), str(small_root), "--suspects", "2"]) == 0
    assert pd.read_csv(run / "suspects.csv")["study"].str.contains("/valid/").all()

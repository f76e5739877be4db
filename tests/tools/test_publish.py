"""A published run: small, without paths of this machine, and a run like any other."""

import json

import h5py
import keras
import numpy as np
import pandas as pd
from support import one_message, train

import model_test
from bones.data import images, sizes
from bones.data.views import find_views
from bones.runs.folder import RunFolder
from tools import publish


def test_a_published_run(trained, phantoms, in_tmp, capsys):
    assert publish.main([str(trained), "--out", "weights"]) == 0
    assert {file.name for file in (in_tmp / "weights").iterdir()} == {"best.h5", "history.csv", "run.json", "MODEL_CARD.md"}
    text = (in_tmp / "weights" / "run.json").read_text()
    assert str(phantoms.parent) not in text.replace(json.loads(text)["command"], "")
    assert json.loads(text)["data"]["roots"] == ["phantoms"]
    kinds = []
    with h5py.File("weights/best.h5") as file:
        file.visititems(lambda name, entry: kinds.append((entry.ndim, entry.dtype)) if hasattr(entry, "ndim") else None)
    assert {dtype for rank, dtype in kinds if rank > 1} == {np.dtype("float16")}
    assert all(dtype != np.float16 for rank, dtype in kinds if rank < 2)
    assert model_test.main(["weights", "--data", str(phantoms)]) == 0
    scored = RunFolder.open("weights").read_predictions()
    network = keras.models.load_model("weights/best.h5", compile=False)
    views = find_views(phantoms, "held-out")
    pixels = np.stack([sizes.fit_square(images.read_grey(path), 32, "pad") for path in views["path"]])[..., None]
    probability = network.predict(pixels, verbose=0)[:, 0]
    logit = np.log(probability / (1 - probability)) / RunFolder.open("weights").record().temperature
    np.testing.assert_allclose(scored["probability"], 1 / (1 + np.exp(-logit)), atol=1e-4)
    before = keras.models.load_model(trained / "best.h5", compile=False).predict(pixels, verbose=0)[:, 0]
    assert 0 < np.abs(before - probability).max() < 5e-3, "rounded, and no more than that"
    assert train(phantoms, "second", "--epochs", 1, "--weights", "weights/best.h5") == 0
    assert len(pd.read_csv("second/history.csv")) == 1


def test_what_cannot_be_published(run, in_tmp, capsys):
    assert publish.main([str(run), "--out", str(run)]) == 1
    assert "exists" in one_message(capsys, "publish")
    (run / "best.h5").rename(run / "best.keras")
    assert publish.main([str(run), "--out", "weights"]) == 1 and not (in_tmp / "weights").exists()
    assert "contains best.keras. Only a best.h5 is copied" in one_message(capsys, "publish")
    content = json.loads((run / "run.json").read_text()) | {"finished": None}
    (run / "run.json").write_text(json.dumps(content))
    assert publish.main([str(run), "--out", "weights"]) == 1 and not (in_tmp / "weights").exists()
    assert "has not finished" in one_message(capsys, "publish")

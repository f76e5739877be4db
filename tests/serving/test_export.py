"""Exports give the probabilities of Keras, say of themselves what they should, and wrong ones are not left."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from support import as_if_trained
from tiny import tiny

import export
from bones.data.pixels import load_pixels
from bones.data.views import find_views
from bones.evaluation.classifier import Classifier
from bones.networks.applications import densenet169, inception_v3
from bones.networks.densenet_k12 import densenet169_k12
from bones.runs import recipes
from bones.runs.folder import RunFolder
from bones.serving import formats
from bones.system import backend
from bones.system.errors import MissingPackageError
from bones.system.files import PARTIAL
from bones.training import batch_statistics

NEEDED = sorted({module for form in formats.FORMATS.values() for module in form.modules})
for module in NEEDED:
    pytest.importorskip(module, reason=f"{module} is optional: requirements/extra.txt")
KINDS = ["onnx", "litert", "litert_int8", "saved_model", "openvino"]


def change_run(run, network=None, **settings):
    """Give a run another network, threshold, temperature, or options."""
    record = json.loads((run / "run.json").read_text())
    record["options"] |= settings.pop("options", {})
    (run / "run.json").write_text(json.dumps(record | settings))
    if network is not None:
        network.save(run / "best.h5")


def other_views(root, size=32):
    """(n, size, size, 1) uint8: views of phantoms that export.py did not compare on."""
    views = find_views(root, "train", ["all"]).iloc[::9]
    return load_pixels(views, size, "pad", cache=None)[1][np.arange(len(views))]


def file_of(run, name):
    return run / "export" / f"best{formats.FORMATS[name].ending}"


@pytest.mark.parametrize(("precision", "averaging"), [("float32", True), ("mixed_bfloat16", False)])
def test_every_format_gives_what_model_test_gives(run, phantoms, averaging, precision, capsys):
    trained = keras.models.load_model(run / "best.h5", compile=False)
    keras.config.set_dtype_policy(precision)
    network = tiny(32, standardise=recipes.default()["standardise"])
    network.set_weights(trained.get_weights())
    change_run(run, network, temperature=0.4, threshold=0.3, options={"flip_averaging": averaging})
    keras.config.set_dtype_policy("float32")
    assert export.main([str(run), "--format", *KINDS]) == 0
    pixels, classifier = other_views(phantoms), Classifier(RunFolder(run), exact=True)
    expected = classifier.predict(pixels)
    classifier.flip_averaging = not averaging
    unlike = classifier.predict(pixels)
    assert np.ptp(expected) > 0.1 and np.abs(expected - unlike).max() > 0.01, "these views tell nothing apart"
    out = capsys.readouterr().out.splitlines()
    for name in KINDS:
        score = formats.FORMATS[name].load(file_of(run, name))
        for views in (pixels[:1], pixels[:3], pixels):  # the batch is free
            found = score(views.astype(np.float32))
            assert found.shape == (len(views), 1)
            np.testing.assert_allclose(found[:, 0], expected[: len(views)], atol=0.05 if "int8" in name else 1e-5)
        assert any(line.startswith(f"{file_of(run, name)}: ") and "decisions differ" in line for line in out)
    assert "PHANTOMS" in out[1] and "best.h5" in out[2] and out[-1].startswith("Next: python -c ")
    assert not list(run.rglob(PARTIAL + "*"))


def test_metadata_is_read_by_each_runtime_itself(run):
    import onnxruntime
    import openvino
    from ai_edge_litert import schema_py_generated as schema

    change_run(run, threshold=0.125, options={"study_type": ["XR_HUMERUS"]})
    assert export.main([str(run), "--format", *KINDS]) == 0
    litert = {}
    for name in ("litert", "litert_int8"):
        model = schema.Model.GetRootAs(file_of(run, name).read_bytes())
        entries = [model.Metadata(place) for place in range(model.MetadataLength())]
        litert[name] = {
            entry.Name().decode(): model.Buffers(entry.Buffer()).DataAsNumpy().tobytes().decode(errors="replace")
            for entry in entries
        }
    session = onnxruntime.InferenceSession(file_of(run, "onnx"))
    model = openvino.Core().read_model(file_of(run, "openvino"))
    found = {
        "onnx": session.get_modelmeta().custom_metadata_map,
        "openvino": {key: model.get_rt_info(["model_info", key]).value for key in ("threshold", "study_types", "note")},
        "saved_model": json.loads((file_of(run, "saved_model") / "assets.extra/metadata.json").read_text()),
        **litert,
    }
    for name in KINDS:
        assert found[name]["threshold"] == "0.125" and found[name]["study_types"] == "XR_HUMERUS", name
        assert found[name]["note"] == "Research software, not a medical device."
    assert found["onnx"]["trained_on"].startswith("phantom") and found["onnx"]["resize"] == "pad"
    assert [given.name for given in session.get_inputs()] == ["grey"], "weights became inputs"


@pytest.mark.parametrize("name", KINDS)
def test_the_command_that_it_ends_with_works(run, name, capsys):
    assert export.main([str(run), "--format", name]) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("Next: "))
    done = subprocess.run([sys.executable, *command[1:]], capture_output=True, text=True)
    black = formats.FORMATS[name].load(file_of(run, name))(np.zeros((1, 32, 32, 1), np.float32))[0, 0]
    assert done.returncode == 0 and f"{black:.4f}"[:-1] in done.stdout, done.stderr


def test_standardised_views(run, phantoms):
    change_run(run, as_if_trained(tiny(32, standardise=True), np.random.default_rng(0)))
    assert export.main([str(run), "--format", "onnx", "litert", "openvino", "--data", str(phantoms)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "size", "kinds"),
    [
        (densenet169, 64, KINDS),
        (densenet169_k12, 64, ["onnx", "litert"]),
        (inception_v3, 80, ["onnx", "litert"]),
    ],
)
def test_real_networks(run, build, size, kinds, phantoms):
    keras.utils.set_random_seed(0)
    network, pixels = build(size), other_views(phantoms, size)
    for layer in network.layers:
        layer.trainable = True  # InceptionV3's are frozen, and would keep their statistics
    # With moving statistics that are not its own, so deep a random network says the same of all views.
    batch_statistics.Averager(network).estimate(pixels)
    change_run(run, network, temperature=0.5, options={"network": network.name, "size": size})
    assert export.main([str(run), "--format", *kinds]) == 0
    expected = Classifier(RunFolder(run), exact=True).predict(pixels)
    assert np.ptp(expected) > 0.05, "the network says the same of all views"
    for name in kinds:
        found = formats.FORMATS[name].load(file_of(run, name))(pixels.astype(np.float32))[:, 0]
        np.testing.assert_allclose(found, expected, atol=formats.FORMATS[name].limit)


def test_real_radiographs(run, fracatlas, capsys):
    assert export.main([str(run), "--data", str(fracatlas)]) == 0
    assert f"32 held-out views of {fracatlas}, threshold" in capsys.readouterr().out


def test_train_views_where_there_are_no_others(run, small_root, capsys):
    shutil.rmtree(small_root / "valid")
    assert export.main([str(run), "--data", str(small_root)]) == 0
    assert "on 16 train views" in capsys.readouterr().out


@pytest.mark.parametrize("fault", ["off", "nan", "batch"])
def test_a_wrong_export_is_not_left(run, fault, monkeypatch, capsys):
    assert export.main([str(run)]) == 0
    before = file_of(run, "onnx").stat()

    def load(path):
        score = formats.load_onnx(path)
        wrong = {
            "off": lambda grey: score(grey) + 0.01,
            "nan": lambda grey: score(grey) * np.where(np.arange(len(grey)) == 5, np.nan, 1)[:, None],
            "batch": lambda grey: score(grey[:1]),
        }
        return wrong[fault]

    monkeypatch.setitem(formats.FORMATS, "onnx", dataclasses.replace(formats.FORMATS["onnx"], load=load))
    capsys.readouterr()
    for more in ([], ["--out", "other.onnx"]):
        assert export.main([str(run), *more]) == 1
        told = capsys.readouterr().err
        assert told.startswith("export.py: ") and {"off": "up to 0.01 ", "nan": "up to nan ", "batch": "(1, 1)"}[fault] in told
    assert file_of(run, "onnx").stat() == before and not Path("other.onnx").exists(), "what stood there is as it was"
    assert not list(Path().rglob(PARTIAL + "*"))


def test_an_export_is_replaced_but_another_file_is_not(run, capsys):
    for name in ("onnx", "saved_model"):
        assert export.main([str(run), "--format", name]) == 0
    old = formats.read_onnx_metadata(file_of(run, "onnx"))["threshold"]
    change_run(run, threshold=0.125)
    assert export.main([str(run), "--format", "onnx", "saved_model"]) == 0
    assert formats.read_onnx_metadata(file_of(run, "onnx"))["threshold"] == "0.125" != old
    assert formats.read_saved_model_metadata(file_of(run, "saved_model"))["threshold"] == "0.125"
    for taken, name, out in (("a.onnx", "onnx", "a.onnx"), ("b.bin", "openvino", "b.xml")):
        Path(taken).write_text("mine", encoding="utf-8")
        assert export.main([str(run), "--format", name, "--out", out]) == 1
        assert f"{taken} exists" in capsys.readouterr().err and Path(taken).read_text(encoding="utf-8") == "mine"
    assert export.main([str(run), "--format", "openvino", "--out", "new/place/c.xml"]) == 0
    assert sorted(path.name for path in Path("new/place").iterdir()) == ["c.bin", "c.xml"]


def test_a_missing_package_is_named_before_any_work(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export.main([str(run), "--format", "saved_model", "onnx"]) == 1
    told = capsys.readouterr()
    assert told.out == "" and not (run / "export").exists()
    assert told.err == (
        "export.py: onnxruntime is not installed, and export.py --format onnx needs it: pip install -r requirements/extra.txt\n"
    )


def test_a_package_that_does_not_load_is_told(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import absent_library")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingPackageError, match=r"half_installed does not load \(No module named 'absent_library'\)"):
        backend.require("half_installed", "a test")
    assert backend.require("json", "a test") is json


def test_faults_are_told_in_one_message(run, tmp_path, monkeypatch, capsys):
    def told(*arguments):
        assert export.main([str(run), *map(str, arguments)]) == 1
        err = capsys.readouterr().err
        assert err.startswith("export.py: ") and "Traceback" not in err
        return err

    (tmp_path / "file").write_text("")
    assert "file/a.onnx cannot be written (Not a directory" in told("--out", tmp_path / "file" / "a.onnx")
    assert "is not a folder; a data root is" in told("--data", tmp_path / "absent")
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    assert "Keras runs on jax, but exports need TensorFlow. Set KERAS_BACKEND=tensorflow." in told()
    monkeypatch.undo()
    record = json.loads((run / "run.json").read_text())
    change_run(run, data=record["data"] | {"roots": [str(tmp_path / "gone")]})
    assert "the run's training data are not here (no " in (message := told()) and "as --data ROOT." in message
    (run / "best.h5").write_bytes(b"half a file")
    assert "best.h5 is not a network that Keras loads" in told()
    shutil.rmtree(run)
    assert "is not a run folder" in told()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onnx", "litert", "--out", "a.onnx"], "--out takes one format"),
        (["--format", "litert", "--out", "a.onnx"], "a file of litert ends in .tflite"),
        (["--format", "pickle"], "invalid choice: 'pickle'"),
    ],
)
def test_wrong_command_lines(run, arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        export.main([str(run), *arguments])
    assert error.value.code == 2 and message in capsys.readouterr().err


def test_a_training_clears_what_a_killed_export_left(run):
    left = run / "export" / f"{PARTIAL}best.onnx"
    left.mkdir(parents=True)
    (left / "best.onnx").write_text("half")
    with RunFolder(run).locked():
        assert not left.exists()

"""Nothing is let in: checkpoints and images from anywhere are read, or told in one message (docs/reliability.md)."""

import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from odd_images import BAD, ODD, png
from PIL import Image
from support import one_message, write_study
from tiny import TINY, tiny

import model_test
import mura
import plot_results
from bones.data import images, sizes
from bones.data.pixels import load_pixels
from bones.data.views import find_views
from bones.runs.folder import RunFolder
from bones.system.errors import DataError

IMAGE = "train/XR_HUMERUS/patient00001/study1_positive/image1.png"


def train(root, *more):
    """Exit status of mura.py with the tiny network, one epoch."""
    command = ["--data", str(root), *TINY, "--epochs", "1", "--tuning-fraction", "0.4", "--out", "run"]
    return mura.main([*command, *map(str, more)])


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def with_code(path, marker):
    """Save a network of the right shape whose Lambda layer makes a file when it is loaded or run."""
    grey = keras.Input((32, 32, 1))
    evil = keras.layers.Lambda(lambda x: (open(marker, "w", encoding="utf-8").close(), x)[1], output_shape=(32, 32, 1))
    x = keras.layers.GlobalMaxPooling2D()(evil(grey))
    keras.Model(grey, keras.layers.Dense(1, activation="sigmoid")(x)).save(path)
    Path(marker).unlink(missing_ok=True)  # building the network ran it


def damaged(kind, sound, path, marker):
    """Write a checkpoint with something wrong."""
    content = sound.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "random":
        path.write_bytes(np.random.default_rng(0).bytes(60_000))
    elif kind == "of another network":
        grey = keras.Input((32, 32, 1))
        keras.Model(grey, keras.layers.Dense(3)(keras.layers.Flatten()(grey))).save(path)
    elif kind == "of another size":
        tiny(48).save(path)
    elif kind == "code":
        with_code(path, marker)
    elif kind == "a folder":
        path.unlink(missing_ok=True)
        path.mkdir()


KINDS = ["truncated", "empty", "random", "of another network", "of another size", "code", "a folder"]


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_checkpoints_are_told(kind, trained, phantoms, in_tmp, capsys):
    shutil.copytree(trained, "run")
    damaged(kind, trained / "best.h5", Path("run/best.h5"), "marker")
    assert model_test.main(["run"]) == 1
    assert "best.h5" in one_message(capsys)
    assert not Path("marker").exists(), "code in a checkpoint has run"


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "of another size"])  # weights have no size
def test_damaged_weights_are_told(kind, suffix, trained, phantoms, in_tmp, capsys):
    sound = Path(f"sound{suffix}")
    tiny(32).save(sound)
    damaged(kind, sound, Path(f"file{suffix}"), "marker")
    assert train(phantoms, "--weights", f"file{suffix}") == 1
    assert f"file{suffix}" in one_message(capsys)
    assert not Path("marker").exists(), "code in a weights file has run"


def test_a_network_of_other_outputs_is_told(trained, in_tmp, capsys):
    shutil.copytree(trained, "run")
    grey = keras.Input((32, 32, 1))
    keras.Model(grey, keras.layers.Dense(3)(keras.layers.Flatten()(grey))).save("run/best.h5")
    assert model_test.main(["run"]) == 1
    assert "to (None, 3), but run.json says tiny at 32 px" in one_message(capsys)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", b""),
        ("run.json", b"[]"),
        ("run.json", b"{"),
        ("run.json", b"\xff\xfe{}"),
        ("run.json", b'{"options": {"network": "tiny"}}'),
        ("history.csv", b"when,how\n1,2\n"),
        ("history.csv", b""),
        ("resume/state.npz", b""),
        ("resume/state.npz", b"PK\x03\x04damaged"),
    ],
)
def test_damaged_records_are_told(name, content, trained, in_tmp, capsys):
    shutil.copytree(trained, "run")
    Path("run", name).write_bytes(content)
    if name == "history.csv":
        assert plot_results.main(["run"]) == 1
        assert name in one_message(capsys)
    else:
        assert pytest_exit(mura.main, ["--out", "run", "--resume"]) == 1
        assert name in one_message(capsys)


EDITED = [
    ("batch_size", "8"),
    ("batch_size", 0),
    ("batch_size", 1e9),
    ("learning_rate", -1),
    ("learning_rate", 10**400),
    ("precision", "half"),
    ("schedule", [1]),
    ("rotation", 1e9),
    ("mixup", "a"),
    ("ema", 2.0),
    ("network", "other"),
    ("epochs", 10**30),
    ("statistics_views", -4),
    ("flip", "no"),
    ("chosen", "zzz"),
    ("stochastic_depth", 9),
]


@pytest.mark.parametrize(("name", "value"), EDITED)
def test_edited_options_are_told_on_resume(name, value, trained, in_tmp, capsys):
    shutil.copytree(trained, "run")
    run = RunFolder("run")
    record = run.read_json("run.json")
    run.write_json("run.json", {**record, "options": {**record["options"], name: value}})
    assert pytest_exit(mura.main, ["--out", "run", "--resume"]) == 1
    assert "run.json" in (error := one_message(capsys)) and name in error


@pytest.mark.parametrize("option", [["--learning-rate", "1e39"], ["--epochs", "9" * 30], ["--size", "9" * 20]])
def test_numbers_out_of_range_are_told_on_the_command_line(option, small_root, in_tmp, capsys):
    assert pytest_exit(lambda more: train(small_root, *more), option) == 2
    assert option[0].strip("-").replace("-", "_") in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_damaged_best_network_is_told_before_more_is_trained(trained, in_tmp, capsys):
    shutil.copytree(trained, "run")
    damaged("truncated", trained / "best.h5", Path("run/best.h5"), "marker")
    assert mura.main(["--out", "run", "--resume"]) == 1
    assert "best.h5 is not a network" in one_message(capsys)


def test_images_that_changed_are_told_on_resume(small_root, in_tmp, capsys):
    assert train(small_root) == 0
    (small_root / IMAGE).write_bytes(png(Image.new("L", (64, 64), 7)))
    assert mura.main(["--out", "run", "--resume"]) == 1
    assert "is not the data that run was trained on" in one_message(capsys)


def pytest_exit(script, arguments):
    """Exit status of a script, also where argparse ends it."""
    try:
        return script(arguments)
    except SystemExit as exit_:
        return exit_.code


@pytest.mark.parametrize("where", ["record", "options"])
def test_a_field_of_another_version_is_an_error(where, trained, in_tmp, capsys):
    """What it would do is unknown, so nothing is trained or scored without it."""
    shutil.copytree(trained, "run")
    run = RunFolder("run")
    record = run.read_json("run.json")
    more = {"record": {"colour": "blue"}, "options": {"options": {**record["options"], "colour": "blue"}}}[where]
    run.write_json("run.json", {**record, **more})
    assert mura.main(["--out", "run", "--resume"]) == 1
    assert "run.json: 'colour' is not a field of this version" in one_message(capsys)


# ---------------------------------------------------------------------------------------------------------------------
# Images that do not decode: all listed in one error before training starts, or left out with their labels and counted


@pytest.mark.parametrize("kind", BAD)
def test_what_does_not_decode_is_told_or_left_out(kind, small_root):
    content, reason = BAD[kind]
    (small_root / IMAGE).write_bytes(content)
    views = find_views(small_root, "train")
    with pytest.raises(DataError) as error:
        load_pixels(views, 32, "pad")
    told = str(error.value)
    assert "1 of 16 images" in told and "image1.png" in told and reason in told and "--skip-unreadable" in told
    kept, pixels = load_pixels(views, 32, "pad", skip_unreadable=True)
    assert len(kept) == len(pixels) == 15 and str(small_root / IMAGE) not in set(kept["path"])


def test_all_bad_images_are_listed_at_once(small_root, in_tmp, capsys):
    paths = sorted((small_root / "train").rglob("*.png"))[:5]
    for path, (content, _) in zip(paths, BAD.values(), strict=False):
        path.write_bytes(content)
    assert train(small_root) == 1
    error = one_message(capsys)
    assert "5 of 16 images" in error and all(path.parent.parent.name in error for path in paths)
    assert not Path("run/history.csv").exists(), "it has trained"
    assert train(small_root, "--skip-unreadable") == 0
    assert RunFolder("run").read_json("run.json")["data"]["left_out"] == 5


def test_images_that_vanish_after_they_were_found(small_root, in_tmp):
    views = find_views(small_root, "train")
    (small_root / IMAGE).unlink()
    with pytest.raises(DataError, match="no such file"):
        load_pixels(views, 32, "pad")
    kept, pixels = load_pixels(views, 32, "pad", skip_unreadable=True)
    assert len(kept) == len(pixels) == len(views) - 1


# ---------------------------------------------------------------------------------------------------------------------
# Images that are odd, and are read


@pytest.mark.parametrize("kind", ODD)
def test_odd_images_are_read(kind, tmp_path):
    path = tmp_path / "image1.png"
    path.write_bytes(ODD[kind])
    for resize in ("pad", "stretch"):
        square = sizes.fit_square(images.read_grey(path), 32, resize)
        assert square.shape == (32, 32) and square.dtype == np.uint8
        assert np.isfinite(tiny(32, standardise=True).predict(square[None, ..., None], verbose=0)).all()


# ---------------------------------------------------------------------------------------------------------------------
# Names, links and folders


NAMES = ["new\nline", "quo\"te's", "tab\there", b"latin\xe4".decode(errors="surrogateescape"), "-v", "骨"]


def test_odd_names_are_carried_through(small_root, in_tmp, capsys):
    for split in ("train", "valid"):
        for number, name in enumerate(NAMES):
            study = "study1_positive" if number % 2 else "study1_negative"
            write_study(small_root, split, study, images=2, patient=name + split)
    assert train(small_root) == 0
    capsys.readouterr()
    assert model_test.main(["run"]) == 0
    capsys.readouterr()
    predictions = RunFolder("run").read_predictions()
    assert {name + "valid" for name in NAMES} < set(predictions["patient"])
    assert all(os.path.exists(path) for path in predictions["path"])
    studies = [str(path) for name in NAMES for path in (small_root / "valid" / "XR_HUMERUS" / f"{name}valid").iterdir()]
    assert model_test.main(["run", *studies]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * len(NAMES) and all(line.count("\t") == 2 for line in lines), "one line a view, three columns"


def test_a_name_in_a_list_of_faults_stays_on_its_line(small_root, in_tmp, capsys):
    image = small_root / IMAGE
    image.write_bytes(b"")
    image.rename(image.with_name("new\nline.png"))
    assert train(small_root) == 1
    assert any(line.startswith("  ") and "new" in line and "0 bytes" in line for line in capsys.readouterr().err.splitlines())


def test_links_that_loop(small_root, in_tmp, capsys):
    study = (small_root / IMAGE).parent
    (study / "loop.png").symlink_to("loop.png")
    (small_root / "train" / "XR_HUMERUS" / "patient00001" / "study2_positive").symlink_to("../patient00001")
    (small_root / "train" / "XR_HUMERUS" / "patient00077").symlink_to("patient00077")
    assert train(small_root) == 1
    one_message(capsys)


def test_links_that_leave_the_root_are_followed(small_root, tmp_path):
    before = find_views(small_root, "train")
    shutil.move(small_root / "train" / "XR_HUMERUS" / "patient00001", tmp_path / "elsewhere")
    (small_root / "train" / "XR_HUMERUS" / "patient00001").symlink_to(tmp_path / "elsewhere")
    assert len(find_views(small_root, "train")) == len(before)


@pytest.mark.parametrize("length", [3_900, 4_200])
def test_paths_of_four_thousand_characters(length, tmp_path, in_tmp, monkeypatch, capsys):
    os.chdir(tmp_path)
    deep = str(tmp_path)
    while len(deep) < length - 200:
        os.mkdir("d" * 99)
        os.chdir("d" * 99)
        deep += "/" + "d" * 99
    write_study(".", "train", "study1_positive", patient="p" * 60 + "1")
    write_study(".", "train", "study1_negative", patient="p" * 60 + "2")
    os.chdir(tmp_path)
    if length < 4_000:
        views = find_views(deep, "train")
        assert len(load_pixels(views, 32, "pad")[0]) == 2
    else:
        assert train(deep) == 1
        assert "File name too long" in one_message(capsys)


def test_a_folder_without_permission_is_told(in_tmp, capsys):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders let nobody else in
        root = Path(folder) / "MURA"
        for patient in range(8):
            write_study(root, "train", f"study1_{('negative', 'positive')[patient % 2]}", patient=f"patient{patient}")
        os.chmod(folder, 0o755)
        closed = root / "train" / "XR_HUMERUS" / "patient3"
        closed.chmod(0)
        if os.geteuid() == 0:
            os.seteuid(65534)  # root may read everything
        try:
            with pytest.raises((DataError, OSError), match="patient3"):
                find_views(root, "train")
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
            closed.chmod(0o755)

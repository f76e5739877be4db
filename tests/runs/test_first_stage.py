"""A training that starts from a run's weights keeps that run's tuning patients, and tunes on nobody that it was trained on."""

import json
import shutil

import pytest
from support import one_message, train, write_study

from bones.data.phantoms import sets as phantom
from bones.data.splits import split_by_patient
from bones.data.views import find_views
from bones.runs import first_stage, record
from bones.runs.options import Options
from bones.system.errors import RunError


def tuning_of(run):
    return set(record.read(run).data.tuning_patients)


def options(run, root, **more):
    """Options of a training that starts from a run's weights."""
    return record.read(run).options.changed(weights=str(run), data=(str(root),), **more)


def test_tuning_patients_are_recorded(trained, phantoms):
    _, tuning = split_by_patient(find_views(phantoms, "train"), 0.3, seed=0)
    data = json.loads((trained / "run.json").read_text())["data"]
    assert set(data["tuning_patients"]) == set(tuning["patient"]) and data["trained_types"] == ["XR_HUMERUS"]


@pytest.mark.parametrize("weights", ["", "last.h5"])
def test_a_second_stage_keeps_the_tuning_patients(weights, trained, phantoms, in_tmp, capsys):
    """Another seed alone would draw others."""
    assert train(phantoms, "alone", "--seed", 1, "--epochs", 1) == 0
    assert tuning_of("alone") != tuning_of(trained)
    capsys.readouterr()
    assert train(phantoms, "second", "--seed", 1, "--epochs", 1, "--weights", trained / weights) == 0
    assert tuning_of("second") == tuning_of(trained)
    assert f"Weights of {trained}: its tuning patients stay" in capsys.readouterr().out.replace("/last.h5", "")


def test_weights_of_another_root_have_no_effect(trained, phantoms, in_tmp, capsys):
    phantom.draw_set("other", train_studies=40, held_out_studies=24, size=64, seed=1)
    assert train("other", "second", "--seed", 1, "--epochs", 1, "--weights", trained) == 0
    assert "trained on another data root" in capsys.readouterr().err
    _, alone = split_by_patient(find_views("other", "train"), 0.3, seed=1)
    assert tuning_of("second") == set(alone["patient"])


@pytest.mark.parametrize("root", ["/elsewhere/phantoms", r"D:\data\phantoms", "phantoms"])
def test_a_root_of_the_same_name_is_the_same_where_the_old_one_is_gone(root, run, phantoms):
    content = json.loads((run / "run.json").read_text())
    content["data"]["roots"] = [root]
    (run / "run.json").write_text(json.dumps(content))
    stage = first_stage.find(options(run, phantoms))
    assert stage.same_root and set(stage.kept) == tuning_of(run)


def test_other_study_types_tune_on_patients_that_nobody_was_trained_on(small_root, run):
    """Patients of the new type are drawn, except those whom the first run was trained on by another study."""
    rename = {"patient00001": "patient00001", "patient00002": "patient00002"}
    for patient in range(1, 25):
        name = rename.get(f"patient{patient:05d}", f"patient{patient + 100:05d}")
        write_study(
            small_root, "train", f"study2_{'positive' if patient % 2 else 'negative'}", patient=name, study_type="XR_HAND"
        )
    content = json.loads((run / "run.json").read_text())
    content["data"] |= {"roots": [str(small_root)], "tuning_patients": ["patient00001", "patient00007"]}
    (run / "run.json").write_text(json.dumps(content))
    stage = first_stage.find(options(run, small_root, study_type=("XR_HAND",)))
    assert stage.kept == ("patient00001", "patient00007") and "patient00002" in stage.seen
    for seed in range(5):
        views = find_views(small_root, "train", ["XR_HAND"])
        train_part, tuning = split_by_patient(views, 0.2, seed, stage.kept, stage.seen)
        assert "patient00001" in set(tuning["patient"]) and "patient00002" in set(train_part["patient"])
        assert not set(tuning["patient"]) & set(stage.seen)
        assert tuning["patient"].nunique() == 1 + round(0.2 * 22), "a share of the patients that are new, beside those kept"


def test_a_run_of_an_earlier_version_is_split_again(run, phantoms, in_tmp):
    expected = tuning_of(run)
    content = json.loads((run / "run.json").read_text())
    for name in ("tuning_patients", "trained_types"):
        del content["data"][name]
    (run / "run.json").write_text(json.dumps(content))
    assert set(first_stage.find(options(run, phantoms)).kept) == expected
    changed = in_tmp / "changed"
    shutil.copytree(phantoms, changed)
    patient = sorted(expected)[0]
    shutil.rmtree(changed / "train" / "XR_HUMERUS" / patient)
    (run / "run.json").write_text(json.dumps(content | {"data": content["data"] | {"roots": [str(changed)]}}))
    with pytest.raises(RunError, match="no longer the data"):
        first_stage.find(options(run, changed))


def test_other_weights_are_of_no_run(trained, phantoms, in_tmp):
    shutil.copy(trained / "best.h5", "best.h5")
    for weights in ("none", "imagenet", "best.h5"):
        assert first_stage.find(options(trained, phantoms).changed(weights=weights)) is None


def test_a_folder_without_a_network_is_an_error(run, phantoms, in_tmp, capsys):
    (run / "best.h5").unlink()
    assert train(phantoms, "second", "--weights", run) == 1
    assert "best.h5: no such weights file" in one_message(capsys, "mura")


def test_options_take_a_run_folder():
    assert "run folder" in Options.model_fields["weights"].json_schema_extra["takes"]


def test_a_root_in_common_is_enough(run, phantoms, small_root):
    """Patients have the names of the new run: with the root's name where there are several."""
    kept = tuning_of(run)
    stage = first_stage.find(record.read(run).options.changed(weights=str(run), data=(str(small_root), str(phantoms))))
    assert stage.same_root and set(stage.kept) == {f"phantoms/{patient}" for patient in kept}
    assert stage.seen and all(patient.startswith("phantoms/") for patient in stage.seen)
    content = json.loads((run / "run.json").read_text())
    content["data"] |= {
        "roots": [str(small_root), str(phantoms)],
        "tuning_patients": ["MURA-v1.1/patient00001", *(f"phantoms/{patient}" for patient in kept)],
    }
    (run / "run.json").write_text(json.dumps(content))
    stage = first_stage.find(options(run, phantoms))
    assert set(stage.kept) == kept and not any("/" in patient for patient in stage.seen)
    shutil.rmtree(small_root)
    assert set(first_stage.find(options(run, phantoms)).kept) == kept, "the other root may be gone"

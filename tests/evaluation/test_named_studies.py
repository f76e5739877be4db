"""Studies without labels: what is written of them, in chunks, and how much memory that takes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from dicom_files import RAMP, film, save
from PIL import Image
from study_folders import rows_of, write_image
from support import ROOT, one_message
from tiny import tiny

import model_test
from bones.data.studies import find
from bones.evaluation import classifier, overlays
from bones.runs import checkpoints, recipes
from bones.runs.record import Data, RunRecord


@pytest.mark.parametrize("sizes", [[1], [255, 1, 1], [256, 256], [1, 700, 1], [3, 3, 3] * 200, [1] * 1000, [600]])
def test_chunks_are_whole_studies_in_order(sizes):
    names = [f"s{place}" for place, size in enumerate(sizes) for _ in range(size)]
    views = pd.DataFrame({"path": [f"{place}.png" for place in range(len(names))], "study": names})
    parts = list(classifier.chunks(views))
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), views)
    assert sum(part["study"].nunique() for part in parts) == len(sizes), "a study was split"
    assert all(list(part.index) == list(range(len(part))) for part in parts)
    # Memory: no part is larger than CHUNK and its largest study together, and parts are not tiny either.
    assert max(map(len, parts)) < classifier.CHUNK + max(sizes)
    assert len(parts) <= 1 + 2 * sum(sizes) / classifier.CHUNK


# predictions.csv


def test_a_row_a_view_with_what_single_calls_print(run, site, capsys):
    assert model_test.main([run, site]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("Wrote predictions.csv: 6 views of 3 studies, ") and "not a medical device" in err
    table = pd.read_csv("predictions.csv")
    assert list(table.columns) == ["study", "path", "probability", "study_probability", "decision", "fault", "note"]
    assert rows_of(table) == rows_of(find([site])) and table["fault"].isna().all()
    for study, rows in table.groupby("study", sort=False):
        assert model_test.main([run, study]) == 0
        lines = [line.split("\t") for line in capsys.readouterr().out.strip().split("\n")]
        assert [line[0] for line in lines] == [*rows["path"], f"study {study}"]
        values = [*rows["probability"], rows["study_probability"].iloc[0]]
        assert [line[2] for line in lines] == [f"{value:.3f}" for value in values]
        assert lines[-1][1] == rows["decision"].iloc[0] and rows["decision"].nunique() == 1
        assert rows["study_probability"].tolist() == pytest.approx([rows["probability"].mean()] * len(rows))
    threshold = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["threshold"]
    positive = table["study_probability"] >= threshold
    assert (table["decision"] == np.where(positive, "Positive", "Negative")).all()
    counts = table.drop_duplicates("study")["decision"].value_counts()
    assert f"{counts.get('Positive', 0)} Positive, {counts.get('Negative', 0)} Negative, 0 not classified" in out


def test_a_flat_folder_of_dicom_is_scored_by_study(run, capsys):
    """In lines, in the table on standard output and in panels."""
    Path("flat").mkdir()
    for name, study in (("1.dcm", 1), ("2.dcm", 2), ("3.dcm", 2)):
        save(film(np.roll(RAMP, 500 * int(name[0])), StudyInstanceUID=f"1.2.826.0.1.3680043.{study}"), f"flat/{name}")
    assert model_test.main([run, "flat", "--csv", "-", "--heatmap", "maps"]) == 0
    out, err = capsys.readouterr()
    table = pd.read_csv(io.StringIO(out))
    assert table["study"].tolist() == ["flat/1.dcm", "flat/2.dcm +1", "flat/2.dcm +1"]
    assert table["study_probability"].iloc[1] == pytest.approx(table["probability"].iloc[1:].mean())
    assert "3 views of 2 studies" in err and "3680043" not in out + err
    assert sorted(os.listdir("maps")) == ["flat_1.dcm.png", "flat_2.dcm_1.png"]
    assert model_test.main([run, "flat"]) == 0
    assert "predictions.csv: 3 views of 2 studies" in capsys.readouterr().out
    Path("flat/1.dcm").unlink()
    assert model_test.main([run, "flat"]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == ["flat/2.dcm", "flat/3.dcm", "study flat"]


def test_values_are_those_of_keras_alone(run, site):
    assert model_test.main([run, site, "--csv", "out.csv"]) == 0
    network, settings = (
        keras.models.load_model("run/best.h5", compile=False),
        json.loads(Path("run/run.json").read_text(encoding="utf-8")),
    )
    for row in pd.read_csv("out.csv").itertuples():
        with Image.open(row.path) as image:
            scale = 32 / max(image.size)
            width, height = (round(side * scale) for side in image.size)
            square = Image.new("L", (32, 32))
            square.paste(image.resize((width, height), Image.Resampling.BILINEAR), ((32 - width) // 2, (32 - height) // 2))
        alone = network.predict(np.asarray(square)[None, ..., None], verbose=0)[0, 0]
        logit = np.log(alone / (1 - alone)) / settings["temperature"]
        assert row.probability == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-5)


def test_chunks_change_nothing(run, site, monkeypatch):
    assert model_test.main([run, site, "--csv", "whole.csv"]) == 0
    monkeypatch.setattr(classifier, "CHUNK", 1)
    assert model_test.main([run, site, "--csv", "parts.csv"]) == 0
    pd.testing.assert_frame_equal(pd.read_csv("whole.csv"), pd.read_csv("parts.csv"), atol=1e-5)


def test_one_study_is_printed_unless_a_file_is_asked_for(run, site, capsys):
    assert model_test.main([run, "site/a/study1", "site/b"]) == 0
    assert capsys.readouterr().out.count("\n") == 7 and not Path("predictions.csv").exists()
    assert model_test.main([run, "site/a/study1", "--csv", "one.csv"]) == 0
    assert len(pd.read_csv("one.csv")) == 2 and "\t" not in capsys.readouterr().out


@pytest.fixture
def damaged(site):
    """The three studies, one with a view that does not decode beside one that does, one with none that does."""
    Path("site/a/study1/image2.png").write_bytes(b"")
    Path("site/a/study2/image1.png").write_bytes(b"no image")
    return site


def test_unreadable_views_are_told_at_the_end(run, damaged, capsys):
    assert model_test.main([run, damaged]) == 1
    error = one_message(capsys, "model_test")
    assert "2 of 6 images cannot be decoded" in error and "--skip-unreadable" in error
    assert (
        "site/a/study1/image2.png   0 bytes" in error
        and "site/a/study2/image1.png   not an image that Pillow can read" in error
    )
    table = pd.read_csv("predictions.csv", keep_default_na=False)
    assert table["decision"].tolist()[:3] == [""] * 3 and set(table["decision"][3:]) <= {"Positive", "Negative"}
    assert [bool(fault) for fault in table["fault"]] == [False, True, True, False, False, False]
    assert [value == "" for value in table["probability"]] == [False, True, True, False, False, False]
    assert [value == "" for value in table["study_probability"]] == [True, True, True, False, False, False]
    assert model_test.main([run, "site/a/study1", "site/b"]) == 1
    out = capsys.readouterr().out
    assert "study site/b/study10\t" in out and "site/a/study1/image1.png\t" in out
    assert (
        "site/a/study1/image2.png\tNot classified\t-\n" in out
        and "study site/a/study1\tNot classified\t-\t1 of 2 files not decoded\n" in out
    )


def test_unreadable_views_are_left_out_where_one_may(run, damaged, capsys):
    assert model_test.main([run, damaged, "--skip-unreadable"]) == 0
    captured = capsys.readouterr()
    assert "1 not classified" in captured.out and "2 of 6 images cannot be decoded" in captured.err
    table = pd.read_csv("predictions.csv", keep_default_na=False)
    first = table[table["study"] == "site/a/study1"]
    assert float(first["study_probability"].iloc[0]) == pytest.approx(float(first["probability"].iloc[0]))
    assert set(first["decision"]) <= {"Positive", "Negative"} and first["fault"].tolist()[1].startswith("0 bytes")
    assert table["decision"].tolist()[2] == "", "none of its views decodes"


def test_a_file_that_exists_is_refused_before_anything_is_computed(run, site, capsys, monkeypatch):
    monkeypatch.setattr(checkpoints, "load_network", lambda run: pytest.fail("it has begun"))
    Path("predictions.csv").write_text("mine", encoding="utf-8")
    assert model_test.main([run, site]) == 1
    assert "predictions.csv exists" in one_message(capsys, "model_test")
    assert Path("predictions.csv").read_text(encoding="utf-8") == "mine"
    assert model_test.main([run, site, "--csv", "absent/out.csv"]) == 1
    assert "absent/out.csv" in one_message(capsys, "model_test")


@pytest.mark.parametrize("file", ["no/such/folder.csv", "run/run.json/x.csv"])
def test_a_table_that_cannot_be_written_is_told_at_once(file, run, site, capsys, monkeypatch):
    monkeypatch.setattr(checkpoints, "load_network", lambda run: pytest.fail("it has begun"))
    assert model_test.main([run, site, "--csv", file]) == 1
    error = one_message(capsys, "model_test")
    assert f"{file} cannot be written" in error and "--csv" in error and "partial" not in error


def test_a_study_may_come_behind_an_option(run, site, capsys):
    assert model_test.main([run, "--csv", "table.csv", "site/b"]) == 0
    assert pd.read_csv("table.csv")["study"].unique().tolist() == ["site/b/study10"]


def test_a_failure_in_the_middle_leaves_no_file(run, site, capsys, monkeypatch):
    monkeypatch.setattr(classifier, "CHUNK", 1)
    predict, calls = classifier.predict, []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return predict(*arguments)

    monkeypatch.setattr(classifier, "predict", fail)
    before = set(os.listdir())
    assert model_test.main([run, site, "--csv", "out.csv"]) == 1
    assert "No space left" in one_message(capsys, "model_test")
    assert set(os.listdir()) == before
    monkeypatch.setattr(classifier, "predict", predict)
    assert model_test.main([run, site, "--csv", "out.csv"]) == 0
    assert set(os.listdir()) - before == {"out.csv"} and len(pd.read_csv("out.csv")) == 6


def test_a_picture_that_cannot_be_written_leaves_no_file(run, site, capsys, monkeypatch):
    def fail(figure, file, **options):
        Path(file).write_bytes(b"half a picture")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(overlays.Figure, "savefig", fail)
    assert model_test.main([run, site, "--heatmap", "maps", "--csv", "out.csv"]) == 1
    assert "No space left" in one_message(capsys, "model_test")
    assert list(Path("maps").iterdir()) == [] and not list(Path().glob("*out.csv*"))


@pytest.mark.parametrize("more", [["--csv", "x.csv"], ["--heatmap", "maps"]])
def test_options_of_studies_need_a_study(run, more, capsys):
    with pytest.raises(SystemExit) as error:
        model_test.main([run, *more])
    assert error.value.code == 2 and "--csv and --heatmap" in capsys.readouterr().err
    assert not Path("x.csv").exists() and not Path("maps").exists()


LATIN = b"latin\xe4".decode(errors="surrogateescape")
ODD = ["a,b", 'quo"te', "new\nline", "return\rhere", "both\r\n", LATIN, "骨", "$x$", "-v"]


def test_odd_names_survive_the_table_and_the_pictures(run, capsys, recwarn):
    for name in ODD:
        for view in (1, 2):
            write_image(f"odd/{name}/s/{name}{view}.png")
    assert model_test.main([run, "odd", "--heatmap", "maps", "--csv", "odd\n.csv"]) == 0
    assert "Wrote odd\\n.csv: 18 views of 9 studies" in capsys.readouterr().out
    table = pd.read_csv("odd\n.csv", encoding_errors="surrogateescape")
    assert rows_of(table) == rows_of(find(["odd"]))
    assert set(table["study"]) == {f"odd/{name}/s" for name in ODD}
    assert table["probability"].between(0, 1).all() and set(table["decision"]) <= {"Positive", "Negative"}
    # Only of glyphs: a file that another test left open warns whenever it is collected.
    assert not [each for each in recwarn if "Glyph" in str(each.message)], "of a script that the font lacks"
    pictures = os.listdir("maps")
    assert len(pictures) == len(ODD) and all(name.isascii() and name.replace("_", "a")[:1].isalnum() for name in pictures)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") for name in pictures)


# Memory

PEAK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import tiny
import model_test
assert model_test.main(["run", sys.argv[2], "--csv", sys.argv[3]]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_of(count):
    """Peak memory, in the system's unit, of calling `count` views of two a study, hard links to one image."""
    film = write_image("film.png", size=(32, 32))
    for place in range(count):
        folder = Path(f"site{count}/study{place // 2}")
        folder.mkdir(parents=True, exist_ok=True)
        os.link(film, folder / f"image{place % 2}.png")
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PEAK, str(ROOT / "tests"), f"site{count}", f"{count}.csv"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(f"{count}.csv")) == count
    return int(done.stdout.split()[-1])


def test_memory_does_not_grow_with_the_views(in_tmp):
    """Pixels of a size that would show: 6,000 views of 160 px are 150 MB."""
    network = tiny(160)
    Path("run").mkdir()
    network.save("run/best.h5")
    record = RunRecord(options=recipes.options("default", network="tiny", weights="none", size=160), data=Data(root="."))
    Path("run/run.json").write_text(record.model_dump_json(), encoding="utf-8")
    few, many = peak_of(600), peak_of(6000)
    assert many < few + 75_000, "half of what the pixels take"


def test_a_table_may_go_to_a_device(run, site, capsys):
    assert model_test.main([run, site, "--csv", "/dev/null"]) == 0
    assert "Wrote /dev/null: " in capsys.readouterr().out and not Path("/dev/null").is_file()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_table_on_standard_output(name, run, site, capsys):
    assert model_test.main([run, site, "--csv", name]) == 0
    out, err = capsys.readouterr()
    assert len(pd.read_csv(io.StringIO(out))) == 6 and f"Wrote {name}: 6 views of 3 studies" in err

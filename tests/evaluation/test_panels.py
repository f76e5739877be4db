"""Panels of named studies: one a study, each film beside its own maps, in a folder that is checked first."""

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from study_folders import write_image
from support import one_message

import model_test
from bones.data.images import read_grey
from bones.data.sizes import fit_square
from bones.evaluation import heatmaps, overlays
from bones.runs import checkpoints
from bones.runs.folder import RunFolder


def test_a_picture_a_study(run, site, monkeypatch, capsys):
    figures = {}
    save = overlays.save
    monkeypatch.setattr(overlays, "save", lambda figure, file: (figures.update({file.name: figure}), save(figure, file)))
    write_image("site/c/a/study1/image1.png")  # the same last two parts as another's
    assert model_test.main([run, site, "--heatmap", "deep/maps"]) == 0
    assert sorted(os.listdir("deep/maps")) == ["a_study1-2.png", "a_study1.png", "a_study2.png", "b_study10.png"]
    table, threshold = pd.read_csv("predictions.csv"), json.loads(Path("run/run.json").read_text(encoding="utf-8"))["threshold"]
    names = ["a_study1.png", "a_study2.png", "b_study10.png", "a_study1-2.png"]
    for (study, rows), name in zip(table.groupby("study", sort=False), names, strict=True):
        mean = rows["study_probability"].iloc[0]
        outcome = "Positive" if mean >= threshold else "Negative"
        assert figures[name]._suptitle.get_text() == f"{study}\n{outcome}, {mean:.3f} (Positive from {threshold:.3f} on)"
        shown = [axes for axes in figures[name].axes if axes.images]
        assert len(shown) == 3 * len(rows)
        expected = [f"{Path(row.path).name}: {row.probability:.3f}" for row in rows.itertuples()]
        assert [axes.get_title(loc="left") for axes in shown[::3]] == expected
        for axes, path in zip(shown[::3], rows["path"], strict=True):
            with Image.open(path) as film:
                np.testing.assert_array_equal(axes.images[0].get_array(), np.asarray(film))
        with Image.open(f"deep/maps/{name}") as picture:
            assert picture.format == "PNG" and np.asarray(picture).std() > 5
    # Once more into the same folder: the same names, no second set beside the first.
    assert model_test.main([run, "site/a/study1", "--heatmap", "deep/maps"]) == 0
    assert len(os.listdir("deep/maps")) == 4


def test_maps_in_pictures_are_those_of_the_views(run, site, monkeypatch):
    """Each film lies under its own map, also where a view before it does not decode."""
    Path("site/a/study1/image1.png").write_bytes(b"")
    drawn = {}
    monkeypatch.setattr(overlays, "panel", lambda title, films, captions, maps, resize: (title, films, captions, maps))
    monkeypatch.setattr(overlays, "save", lambda figure, file: drawn.update({file.name: figure}))
    assert model_test.main([run, site, "--heatmap", "maps"]) == 1
    assert set(drawn) == {"a_study1.png", "a_study2.png", "b_study10.png"}
    assert "a_study1.png" in drawn and drawn["a_study1.png"][0].split("\n")[1].startswith("Not classified (")
    network = checkpoints.load_network(RunFolder("run"))
    for name, folder in (("a_study1.png", "site/a/study1"), ("b_study10.png", "site/b/study10")):
        _, films, captions, maps = drawn[name]
        assert list(maps) == ["Grad-CAM", "LayerCAM"]
        for film, caption, values in zip(films, captions, maps["Grad-CAM"], strict=True):
            grey = read_grey(Path(folder) / caption.split(":")[0])
            np.testing.assert_array_equal(np.asarray(film), np.asarray(grey))
            alone = heatmaps.grad_cam(network, fit_square(grey, 32, "pad")[None, ..., None])[0]
            np.testing.assert_allclose(values, alone, atol=1e-5)


def test_films_of_extreme_shapes_and_many_views_are_drawn(run):
    write_image("thin/image1.png", size=(9000, 3))
    for view in range(30):
        write_image(f"many/image{view}.png")
    assert model_test.main([run, "thin", "many", "--heatmap", "maps"]) == 0
    assert len(os.listdir("maps")) == 2


@pytest.mark.parametrize("name", ["taken", "taken/inner", "/proc/maps"])
def test_a_folder_that_cannot_be_written_into_is_told_at_once(name, run, site, capsys, monkeypatch):
    monkeypatch.setattr(checkpoints, "load_network", lambda run: pytest.fail("it has begun"))
    Path("taken").write_text("a file", encoding="utf-8")
    assert model_test.main([run, site, "--heatmap", name]) == 1
    error = one_message(capsys, "model_test")
    assert name in error and "--heatmap" in error
    assert not Path("predictions.csv").exists() and Path("taken").read_text(encoding="utf-8") == "a file"


@pytest.mark.parametrize("folder", ["site", "site/b", "site/b/study10", "site/b/study10/maps", "./site/../site/maps"])
def test_panels_never_lie_among_what_is_classified(folder, run, site, capsys):
    before = sorted(Path("site").rglob("*"))
    assert model_test.main([run, site, "--heatmap", folder]) == 1
    assert f"{folder} lies in site, whose images are classified" in one_message(capsys, "model_test")
    assert sorted(Path("site").rglob("*")) == before


def test_panels_are_never_read_as_radiographs(run, site, capsys):
    assert model_test.main([run, "site/b/study10"]) == 0
    expected = capsys.readouterr().out.splitlines()
    assert model_test.main([run, "site/b/study10", "--heatmap", "maps"]) == 0
    Path("maps/b_study10.png").rename("site/b/study10/panel.png")
    capsys.readouterr()
    assert model_test.main([run, "site/b/study10"]) == 0
    found = capsys.readouterr().out.splitlines()
    assert "site/b/study10/panel.png\tLeft out\t-\ta heat map panel of this program" in found
    assert found[-1].startswith(expected[-1]) and found[-1].endswith("\t1 of 4 files left out")


def test_notes_are_in_the_picture(run, site, monkeypatch):
    Path("site/b/study10/notes.txt").write_text("left", encoding="utf-8")
    Image.new("L", (30, 30), 255).save("site/b/study10/image1.png")
    drawn = []
    panel = overlays.panel
    monkeypatch.setattr(overlays, "panel", lambda *arguments: drawn.append(arguments) or panel(*arguments))
    assert model_test.main([run, "site/b/study10", "--heatmap", "maps"]) == 0
    title, _, captions = drawn[0][:3]
    assert title.endswith("; 1 of 4 files left out") and "near-blank: contrast 0 of 255" in captions[0]

"""The interface for Python: README's lines run, what it predicts is what the command line prints, and pip installs it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from study_folders import write_image
from support import ROOT

import bones
import model_test
from bones.system.errors import DataError, RunError, UnreadableImageError


def test_the_lines_of_the_readme_run():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    table, probability = done.stdout.rstrip().rsplit("\n", 1)
    assert "Positive" in table and "Negative" in table
    assert float(probability.strip("[]").split()[0]) == pytest.approx(
        float(re.search(r"Positive +(0\.\d+)", table)[1]), abs=0.02
    )


def test_files_are_classified_as_by_the_command_line(run, in_tmp, capsys):
    for name in ("study1/image1.png", "study1/image2.png", "alone.png"):
        write_image(name)
    assert model_test.main([str(run), "study1", "alone.png"]) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    table = bones.open_run(run).classify_files(["study1", "alone.png"])
    expected = [[row.path, row.probability] for row in table.itertuples()]
    expected.insert(2, ["study study1", table["study_probability"][0]])
    assert [[line[0], line[2]] for line in printed] == [[name, f"{value:.3f}"] for name, value in expected]
    opened = bones.open_run(run)
    assert list(table["decision"]) == [
        ("Negative", "Positive")[mean >= opened.threshold] for mean in table["study_probability"]
    ]
    with pytest.raises(DataError, match="no such file"):
        opened.classify_files(["absent.png"])
    with pytest.raises(DataError, match=r"alone.png is named twice"):
        opened.classify_files(["alone.png", "alone.png"])
    for one in ("alone.png", Path("alone.png")):
        assert opened.classify_files(one)["probability"].to_list() == pytest.approx([expected[-1][1]])
    assert list(opened.classify_files([]).columns) == list(table.columns)


def test_arrays_are_predicted_as_their_files(run, in_tmp):
    opened, files = bones.open_run(run), [write_image(f"{number}.png", size=(30 + number, 40)) for number in range(3)]
    arrays = [np.asarray(Image.open(file)) for file in files]
    expected = opened.classify_files(files)["probability"].to_numpy()
    np.testing.assert_allclose(opened.predict_images(arrays), expected, atol=1e-6)
    deep = [(array.astype(np.uint16) * 257, 65535) for array in arrays]
    colour = [np.stack([array] * 3, axis=-1) for array in arrays]
    for images in ([np.maximum(one, 0) for one, _ in deep], colour):
        assert np.abs(opened.predict_images(images) - expected).max() < 0.05
    assert opened.predict_images([]).shape == (0,)
    for wrong in (np.zeros((2, 3, 4)), np.zeros(5), np.zeros((0, 3)), np.array([["a", "b"]]), np.full((3, 3), -1), None):
        with pytest.raises(UnreadableImageError, match="expected"):
            opened.predict_images([wrong])
    with pytest.raises(UnreadableImageError, match=r"expected a list of images: \[array\]"):
        opened.predict_images(colour[0])


def test_what_is_no_run_is_told(in_tmp):
    with pytest.raises(RunError, match="is not a run folder"):
        bones.open_run("absent")


@pytest.mark.slow
def test_pip_installs_it_in_place(tmp_path):
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--prefix",
        tmp_path,
        "-e",
        ".",
    ]
    subprocess.run(pip, cwd=ROOT, check=True)
    (site,) = tmp_path.rglob("site-packages")
    found = (
        "import site, sys; site.addsitedir(sys.argv[1]); import bones, importlib.metadata as m; print(bones.__file__); "
        "print([line for line in m.requires('bone-abnormalities') if line.startswith('tensorflow')])"
    )
    command = [sys.executable, "-c", found, site]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.startswith(str(ROOT / "bones")) and "tensorflow==2.21.0" in done.stdout

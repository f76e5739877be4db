"""The notebook for Colab and Kaggle: executed from a clone to heat maps on phantoms, stopped by faults, stored empty."""

import ast
import json
import re
import shutil
import subprocess

import pytest
from support import ROOT
from tiny import TINY

import data_loader
import model_test
import mura
import plot_results

nbformat = pytest.importorskip("nbformat", reason="no nbformat, which reads notebooks: pip install -r requirements/test.txt")
SCRIPTS = {"data_loader.py": data_loader, "model_test.py": model_test, "mura.py": mura, "plot_results.py": plot_results}
OPTIONS = [*TINY, "--epochs", "1", "--tuning-fraction", "0.3"]


def notebook():
    """notebook.ipynb as a dict, with its cells' sources as text."""
    return nbformat.read(ROOT / "notebook.ipynb", as_version=4)


def code(book):
    """Sources of the code cells."""
    return [cell.source for cell in book.cells if cell.cell_type == "code"]


# ---------------------------------------------------------------------------------------------------------------------
# As it is stored


def test_stored_notebook_is_valid_and_holds_no_outputs():
    nbformat.validate(json.loads((ROOT / "notebook.ipynb").read_text()))
    book = notebook()
    assert book.metadata.kernelspec.name == "python3"
    assert all(cell.outputs == [] and cell.execution_count is None for cell in book.cells if cell.cell_type == "code")
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    tagged = [cell for cell in book.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1  # papermill overrides it
    names = {target.id for line in ast.parse(tagged[0].source).body for target in line.targets}
    assert names == {"REPOSITORY", "DATA", "STUDY_TYPES", "OPTIONS", "RUN"}


def test_options_that_it_names_exist(capsys):
    known = {}
    for name, script in SCRIPTS.items():
        with pytest.raises(SystemExit):
            script.main(["--help"])
        known[name] = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    book, used = notebook(), set()
    for source in code(book):
        for call in [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]:
            words = [argument.value for argument in call.args if isinstance(argument, ast.Constant)]
            if words[:1] == ["python"] and words[1] in SCRIPTS:
                used.add(words[1])
                assert {word for word in words if word.startswith("--")} <= known[words[1]], words
    assert used == set(SCRIPTS)
    told = {option for cell in book.cells for option in re.findall(r"--[a-z][a-z-]+", cell.source)}
    assert told - {"--depth", "--quiet"} <= set().union(*known.values())  # git's and pip's


# ---------------------------------------------------------------------------------------------------------------------
# Executed


@pytest.fixture
def kernel(in_tmp, monkeypatch):
    """A kernel named python3 that is this interpreter, whatever others the machine has, and nothing of the user's."""
    pytest.importorskip("nbclient", reason="no nbclient, which executes notebooks: pip install -r requirements/test.txt")
    spec = pytest.importorskip("ipykernel.kernelspec", reason="no ipykernel: pip install -r requirements/test.txt")
    jupyter = in_tmp / "jupyter"
    spec.write_kernel_spec(jupyter / "kernels" / "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(jupyter))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(jupyter / name.lower()))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # the tiny network's heat maps need gradients, which OpenVINO has not


def copy_repository(folder):
    """The scripts, as a clone would hold them, with the tiny network beside the others."""
    folder.mkdir(exist_ok=True)
    for file in [*ROOT.glob("*.py"), ROOT / "requirements.txt", ROOT / "tests" / "tiny.py"]:
        shutil.copy(file, folder)
    for name in ("bones", "weights"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    with open(folder / "bones" / "networks" / "catalogue.py", "a", encoding="utf-8") as catalogue:
        catalogue.write('\nNETWORKS["tiny"] = Entry("tiny:tiny", least_size=8)\n')


def execute(folder, **parameters):
    """The notebook, executed in a folder with other parameters, put in as papermill does.

    Returns: (notebook with outputs, the error that stopped it or None).
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    book = notebook()
    place = next(place for place, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", []))
    lines = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
    book.cells.insert(place + 1, nbformat.v4.new_code_cell(lines))
    client = NotebookClient(
        book, kernel_name="python3", timeout=600, startup_timeout=300, resources={"metadata": {"path": str(folder)}}
    )
    try:
        client.execute()
    except CellExecutionError as error:
        return book, error
    return book, None


def printed(book):
    """All that the cells printed."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def shown(book, kind):
    """What the cells displayed of a MIME type."""
    outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
    return [output.data[kind] for output in outputs if kind in output.get("data", {})]


def test_from_clone_to_heat_maps(kernel, in_tmp, phantoms):
    copy_repository(in_tmp / "origin")
    git = ["git", "-C", str(in_tmp / "origin"), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "scripts"]):
        subprocess.run([*git, *command], check=True)
    data = shutil.make_archive("MURA-v1.1", "zip", phantoms)
    home = in_tmp / "home"
    home.mkdir()
    book, error = execute(home, REPOSITORY=f"file://{in_tmp / 'origin'}", DATA=data, OPTIONS=OPTIONS, RUN=str(in_tmp / "run"))
    assert error is None, error
    assert (home / "repository" / "mura.py").exists() and "All packages are here." in printed(book)
    assert printed(book).count("examples/hand_positive.jpg\t") == 1
    assert "Nothing was found that would make training wrong." in printed(book)
    assert "best.h5 is of epoch 1" in printed(book)
    run = in_tmp / "run"
    assert json.loads((run / "scores.json").read_text())["studies"]["count"] == 24
    assert (run / "best.h5").exists() and (run / "figures" / "plot_MURA_roc.png").exists()
    panels = list((run / "heatmaps").glob("*.png"))
    assert len(panels) == 4 and len([panel for panel in panels if "positive" in panel.name]) == 3
    assert len(shown(book, "image/png")) == 6 + len(panels)
    (table,) = shown(book, "text/markdown")
    assert table.startswith("| Network | Recipe |") and "phantom" in table
    assert not any(output.output_type == "error" for cell in book.cells for output in cell.get("outputs", []))


def test_a_script_that_fails_stops_it_with_its_message(kernel, in_tmp):
    copy_repository(in_tmp)
    (in_tmp / "empty").mkdir()
    book, error = execute(in_tmp, DATA="empty")
    assert "data_loader.py: empty" in printed(book) and "Traceback" not in printed(book)
    assert "python data_loader.py ended with exit status 1" in str(error)
    assert not shown(book, "image/png") and not (in_tmp / "runs").exists()


def test_a_run_that_exists_is_gone_on_with(kernel, in_tmp, trained):
    copy_repository(in_tmp)
    book, error = execute(in_tmp, OPTIONS=["--seed", "1"], RUN=str(trained))
    assert f"mura.py --demo --seed 1 --out {trained} --resume" in printed(book)
    assert "cannot change --demo, --seed. Start a new run for that." in printed(book)
    assert "python mura.py ended with exit status 2" in str(error)

"""Measured numbers on the pages are those of the records, and stand nowhere else."""

import pytest

from bones.system.errors import PageError
from tools import numbers, records

PAGE = """Text without numbers.

<!-- numbers: python -m tools.records table.csv -->
| AUROC |
| --- |
| 0.812 [0.701, 0.900] |
<!-- /numbers -->

> The authors report 0.785. ([source](https://example.org))
"""
COMMAND = "python -m tools.records table.csv"
OUTPUT = {COMMAND: "| AUROC |\n| --- |\n| 0.812 [0.701, 0.900] |\n"}


def test_pages_are_those_of_the_records(in_tmp):
    """README.md and docs/, with the commands that they name."""
    outputs = numbers.run_all(numbers.commands())
    for page in numbers.pages():
        text = page.read_text()
        assert numbers.regenerated(text, outputs) == text, f"{page.name} differs from its records: make numbers"
        assert not numbers.faults_of(text), page.name


def test_a_changed_digit_is_found():
    assert numbers.regenerated(PAGE, OUTPUT) == PAGE and not numbers.faults_of(PAGE)
    changed = PAGE.replace("0.812", "0.813")
    assert numbers.regenerated(changed, OUTPUT) == PAGE != changed


@pytest.mark.parametrize("text", ["AUROC 0.813", "rose to 0.813.", "by [-0.01, 0.02]", "an interval of [1, 2]", "0.8 ± 0.1"])
def test_numbers_outside_of_blocks_are_found(text):
    (fault,) = numbers.faults_of(f"{PAGE}\nThe {text}\n")
    assert fault.startswith("line 11: ") and "outside of a block" in fault


@pytest.mark.parametrize("text", ["version 1.0.325", "1e-3", "0.1", "0.25", "10.125", "an array [0, 1, 2]", "0.8125"])
def test_other_numbers_are_allowed(text):
    assert not numbers.faults_of(PAGE + text)


def test_a_marker_alone_is_found():
    (fault,) = numbers.faults_of(PAGE + "<!-- /numbers -->\n")
    assert "no counterpart" in fault


@pytest.mark.parametrize("command", ["rm -r docs", "python -m pip list", "python mura.py", 'python -m "tools'])
def test_other_commands_are_refused(command):
    with pytest.raises(PageError, match="not a command of this repository"):
        numbers.output_of(command)


def test_a_command_that_fails_is_reported(in_tmp):
    with pytest.raises(PageError, match=r"status 1:\n.*absent.csv"):
        numbers.output_of("python -m tools.records absent.csv")


def test_pages_are_written(in_tmp, monkeypatch, capsys):
    (in_tmp / "docs").mkdir()
    page = in_tmp / "README.md"
    page.write_text(PAGE.replace("0.812", "0.999"))
    monkeypatch.setattr(numbers, "ROOT", in_tmp)
    monkeypatch.setattr(numbers, "run_all", lambda commands: OUTPUT)
    assert numbers.main([]) == 1 and page.read_text() == PAGE
    assert "README.md differed from its records" in capsys.readouterr().out
    assert numbers.main([]) == 0 and "1 commands" in capsys.readouterr().out


def test_records_are_printed(in_tmp, capsys):
    (in_tmp / "a.csv").write_text('Name,Value\n"x, y",0.5\n')
    assert records.main(["a.csv"]) == 0
    assert capsys.readouterr().out == "| Name | Value |\n| --- | --- |\n| x, y | 0.5 |\n"
    (in_tmp / "b.txt").write_text("Run  a\nData b\nrest\n")
    assert records.main(["b.txt", "--lines", "Data", "Run"]) == 0
    assert capsys.readouterr().out == "```\nData b\nRun  a\n```\n"
    (in_tmp / "c.txt").write_text("more\n")
    assert records.main(["b.txt", "c.txt", "--lines", "more"]) == 0 and "more" in capsys.readouterr().out
    assert records.main(["b.txt", "--lines", "None"]) == 1
    assert "no line that begins with 'None'" in capsys.readouterr().err

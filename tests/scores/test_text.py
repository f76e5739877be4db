"""Scores as text, and tables in Markdown that no cell can break."""

import pytest

from bones.scores.text import as_text, markdown_table, mean_and_sd


def test_a_markdown_table_escapes_the_bar():
    rows = [{"Command": "`a | b`", "AUROC": 0.5}, {"Command": "c", "AUROC": "-"}]
    lines = markdown_table(rows).split("\n")
    assert lines == ["| Command | AUROC |", "| --- | --- |", "| `a \\| b` | 0.5 |", "| c | - |"]


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [(0.7854, 0.7124, 0.849, "0.785 [0.712, 0.849]"), (1.0, None, None, "1.000 [-]"), (None, None, None, "-")],
)
def test_a_score_with_its_interval(value, low, high, text):
    assert as_text({"value": value, "low": low, "high": high}) == text


def test_mean_and_standard_deviation():
    assert mean_and_sd([0.7, 0.8, 0.9]) == "0.800 ± 0.100", "of a sample: divided by n - 1"
    assert mean_and_sd([0.7]) == "0.700" and mean_and_sd([0.7, None]) == mean_and_sd([]) == "-"

"""Scores as text, and tables in Markdown that no cell can break."""

import pytest

from bones.scores import text as scores_text
from bones.scores.text import as_text, difference_text, markdown_table


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


def test_a_difference_has_a_p_value():
    found = {"value": -0.0791, "low": -0.132, "high": -0.024, "p": 0.0123}
    assert difference_text(found) == "-0.079 [-0.132, -0.024], p 0.012"


@pytest.mark.parametrize(
    ("probability", "threshold", "texts"),
    [
        (0.2, 0.4, ("0.200", "0.400")),
        (0.32031, 0.320336, ("0.32031", "0.32034")),
        (0.3199999, 0.32, ("0.3199999", "0.3200000")),
        (0.320336, 0.32031, ("0.320", "0.320")),
        (0.5, 0.5, ("0.500", "0.500")),
        (float("nan"), 0.5, ("nan", "0.500")),
    ],
)
def test_as_many_decimals_as_tell_a_threshold_apart(probability, threshold, texts):
    assert scores_text.apart(probability, threshold) == texts

"""Scores as text: a score with its interval, a difference, tables for the terminal and Markdown."""

import pandas as pd

from bones.scores.names import DECISIONS, NUMBERS, WITH_INTERVAL

DISCLAIMER = "Research software, not a medical device."
UNKNOWN = "Patients are unknown: images of one may be in training and here, and intervals may be too narrow."


def apart(probability, threshold):
    """A probability and a threshold as text, with 3 decimals or as many as show on which side of it the probability is."""
    for digits in range(3, 18):
        texts = f"{probability:.{digits}f}", f"{threshold:.{digits}f}"
        if (float(texts[0]) >= float(texts[1])) == (probability >= threshold):
            break
    return texts


def patients_text(count, known):
    """A number of patients as text, or that it is one of images or studies that count as patients."""
    return f"{count} patient{'s' * (count != 1)}" if known else f"patients unknown ({count} counted)"


def markdown_table(rows):
    """A Markdown table from dicts with the same keys; a vertical bar in a cell is escaped."""
    lines = (rows[0].keys(), ["---"] * len(rows[0]), *(row.values() for row in rows))
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def as_text(score):
    """A score to three decimals with its interval: 0.785 [0.712, 0.849]; [-] where the interval is undefined."""
    low, high = score["low"], score["high"]
    if score["value"] is None:
        return "-"
    return value_text(score) + (f" [{low:.3f}, {high:.3f}]" if low is not None else " [-]")


def value_text(score):
    """A score to three decimals without an interval, or - where it is undefined."""
    return "-" if score["value"] is None else f"{score['value']:.3f}"


def difference_text(score):
    """A difference between recipes with its interval and p value: -0.079 [-0.132, -0.024], p 0.012."""
    return as_text(score) + (f", p {score['p']:.3f}" if score["p"] is not None else "")


def as_table(report):
    """Scores of views and studies as text in a pandas.DataFrame: at the fitted threshold and at 0.5."""
    columns = {}
    for unit in ("views", "studies"):
        found = report[unit]
        columns[unit] = {
            "count (positive)": f"{found['count']} ({found['positive']})",
            **{NUMBERS[name]: as_text(found[name]) for name in WITH_INTERVAL if name not in DECISIONS},
            NUMBERS["ece"]: value_text(found["ece"]),
            **at_threshold(found, report["threshold"]),
            **at_threshold(report["at_half"][unit], 0.5),
            "always Negative: accuracy": accuracy_of_always_negative(found),
        }
    return pd.DataFrame(columns)


def accuracy_of_always_negative(found):
    """Accuracy of a classifier that predicts Negative for every study, as text."""
    return f"{1 - found['positive'] / found['count']:.3f}"


def at_threshold(found, threshold):
    """Scores that depend on the threshold as text, and how many studies of each class are predicted correctly."""
    counts = found["confusion"]
    positives, negatives = found["positive"], found["count"] - found["positive"]
    name = f"at {threshold:.3f}: "
    return {
        **{name + NUMBERS[score]: as_text(found[score]) for score in DECISIONS},
        name + "abnormal predicted Positive": f"{counts['true_positive']} of {positives}",
        name + "normal predicted Negative": f"{counts['true_negative']} of {negatives}",
    }


def groups_table(groups):
    """Study scores of `report.group_scores` as text in a pandas.DataFrame."""
    parts = {f"{name} = {value or '(empty)'}": found for name, values in groups.items() for value, found in values.items()}
    without = [as_text(found["without"]["auroc"]) for found in parts.values()]
    return parts_table(parts, ("auroc", "accuracy")).assign(**{"AUROC of the others": without})


def pointing_table(maps):
    """Text of the scores of heat maps as a pandas.DataFrame. Args: maps: {kind: result of evaluation.pointing, with cells}."""
    rows = {
        kind: {
            "cells": f"{one['cells'][0]} x {one['cells'][1]}",
            "inside the box": as_text(one["hits"]),
            "in other images' boxes": f"{one['other_films']:.3f}",
            "gain": as_text(one["gain"]),
        }
        for kind, one in maps.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def parts_table(parts, names=("auroc", "kappa", "accuracy")):
    """Study scores of each part of the data as text in a pandas.DataFrame. Args: parts: {name: {"studies": score}}."""
    rows = {
        part: {
            "studies (positive)": f"{found['studies']['count']} ({found['studies']['positive']})",
            **{NUMBERS[name]: as_text(found["studies"][name]) for name in names},
            "accuracy of always Negative": accuracy_of_always_negative(found["studies"]),
        }
        for part, found in parts.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")

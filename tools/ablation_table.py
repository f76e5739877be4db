"""The tables of an ablation study, from its record."""

import numpy as np

from bones.scores.fitting import candidate_thresholds, fit_threshold, nearest_to_half
from bones.scores.metrics import cohen_kappa
from bones.scores.names import NUMBERS
from bones.scores.probabilities import decisions, study_probabilities
from bones.scores.report import adjust, always_negative, differences, mean_scores
from bones.scores.text import as_text, difference_text, markdown_table, value_text

SHOWN = ("auroc", "average_precision", "kappa", "accuracy")
GAIN = "AUROC minus the other's [95 % CI], p"  # a column of the table
SCREENING = (
    "Rows of one seed are screening, and nothing is concluded from them. Intervals are over patients and seeds, with threshold "
    "and temperature held fixed; a seed also draws the tuning patients."
)


def tables(plan, record, rows, seeds):
    """Markdown tables of the trained rows and of the threshold rules.

    Args:
        plan: ablation_plans.Ablation.
        record: ablation_record.Record.
        rows: names of the rows to show.
        seeds: numbers.
    """
    scored = {name: scored_row(row, name, record, seeds) for name, row in plan.rows.items()}
    rows = [name for name in rows if scored[name]]
    if not rows:
        return f"{record.folder} contains no run of these rows and seeds."
    gains = {name: gain(scored[name], scored.get(plan.rows[name].against)) for name in rows}
    tested = adjust(one for one in gains.values() if one)
    by_row = [table_row(name, plan.rows[name], scored[name], gains[name]) for name in rows]
    runs = [run for name in rows for run in scored[name].values()]
    always = always_negative(study_probabilities(runs[0].views), SHOWN)
    names = {"Row": "always Negative", "Added to the base": "", "Compared with": "", "Seeds": ""}
    by_row.append(names | mean_cells(always) | {GAIN: ""})
    adjusted = f" P values are adjusted for the {tested} differences of rows with several seeds (Holm)." if tested else ""
    notes = SCREENING + adjusted
    return "\n\n".join([markdown_table(by_row), notes, markdown_table([rule_row(rule, runs) for rule in RULES])])


def scored_row(row, name, record, seeds):
    """{seed: ablation_record.Trained} of a row."""
    runs = record.scored(row.recorded_as or name, seeds)
    return {seed: run.selected(row.study_type, row.maximum) for seed, run in runs.items()}


def gain(runs, other):
    """The AUROC of a row minus another's, means over the seeds that both have; None where there are none."""
    both = sorted(runs.keys() & (other or {}).keys())
    if not both:
        return None
    before, after = ([found[seed].predictions_and_threshold() for seed in both] for found in (other, runs))
    return differences(before, after, ("auroc",))["auroc"]


def table_row(name, row, runs, found):
    """A row's mean scores over seeds, and the difference of its AUROC from that of the row it is compared with."""
    notes = {
        "images stretched": row.stretched,
        "also on the images of --also": row.also,
        "maximum of views": row.maximum,
        f"{row.study_type} scored": row.study_type,
    }
    what = ", ".join(
        [f"`{' then '.join(part or '(nothing)' for part in row.stages)}`", *(note for note in notes if notes[note])]
    )
    means = mean_scores([run.predictions_and_threshold() for run in runs.values()], SHOWN)
    difference = "" if found is None else value_text(found) if found["p"] is None else difference_text(found)
    names = {"Row": name, "Added to the base": what, "Compared with": row.against or "", "Seeds": len(runs)}
    return names | mean_cells(means) | {GAIN: difference}


def mean_cells(found):
    """Cells of mean scores with their intervals; the values alone of one seed."""
    return {NUMBERS[name]: (value_text if found[name]["low"] is None else as_text)(found[name]) for name in SHOWN}


def rule_row(rule, runs):
    """Mean scores of all runs at the thresholds of one rule, and their range."""
    found = [run.scores(RULES[rule]) for run in runs]
    cells = {}
    for name in ("kappa", "accuracy", "sensitivity", "specificity"):
        values = [one[name] for one in found]
        cells[NUMBERS[name]] = f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"
    return {"Threshold": rule, "Runs": len(runs), **cells}


def highest_kappa(label, probability):
    """The threshold with the highest kappa, half-way between two probabilities; of ties the nearest to 0.5."""
    candidates = candidate_thresholds(probability)
    kappas = np.array([cohen_kappa(label, decisions(probability, one)) or 0.0 for one in candidates])
    return nearest_to_half(candidates[kappas >= kappas.max() - 1e-12])


# How to fit a threshold to tuning studies: f(label, probability), both (n,). The first is the rule of a run.
RULES = {"as many Positive as are": fit_threshold, "highest kappa": highest_kappa, "0.5": lambda label, probability: 0.5}

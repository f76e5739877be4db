"""Measure on simulated studies how often 95 % intervals contain the truth: of one run, and of the difference of two recipes.

    python -m tools.coverage --out docs/records/coverage            about forty minutes on one core
    python -m tools.coverage --out docs/records/coverage --table    the tables of recorded simulations

A run's studies are of MURA's held-out humerus' size, 132 patients. Recipes are compared on 400 studies of 195 patients. Both
recipes are equally good, so the true difference is 0. Each seed of a recipe is better or worse than its mean by chance, with
the standard deviation that the table states; networks also differ in which studies are hard for them.
"""

import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats  # normal distribution
from tqdm import tqdm  # progress bar

from bones.scores import intervals
from bones.scores.metrics import point_scores, ranking_scores
from bones.scores.names import NUMBERS, WITH_INTERVAL
from bones.scores.report import differences, score
from bones.scores.text import markdown_table
from bones.system import scripts
from bones.system.files import read_table, whole_file

PATIENTS = 132  # of MURA's held-out humerus
SEEDS = (3, 5)  # of each recipe
SPREADS = (0.0, 0.01, 0.02, 0.04)  # standard deviation of AUROC over seeds; of the recipes in docs/: 0.01 to 0.04
SIMULATIONS = 1000
DRAWS = 600  # bootstrap samples of a simulated comparison
FILES = {"runs.csv": ("score", "coverage"), "recipes.csv": ("seeds", "spread", "patients alone", "patients and seeds")}


@scripts.command
def main(argv=None):
    """Simulate, or print the tables of a record; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder of the two tables")
    parser.add_argument("--table", action="store_true", help="print the recorded tables as Markdown")
    options = parser.parse_args(argv)
    if not options.table:
        options.out.mkdir(parents=True, exist_ok=True)
        write(options.out / "runs.csv", run_coverage(SIMULATIONS))
        write(options.out / "recipes.csv", recipe_coverage(SIMULATIONS))
    tables = [read_table(options.out / name, columns, "tools.coverage writes it.") for name, columns in FILES.items()]
    print("\n\n".join(markdown_table(table.to_dict("records")) for table in tables))


def write(file, table):
    """Write a table as a CSV file."""
    with whole_file(file) as partial:
        table.to_csv(partial, index=False)


# ---------------------------------------------------------------------------------------------------------------------
# One run


def simulate_run(patients, rng):
    """Studies of simulated patients: most have one, some two, with labels of their own; 1 to 4 views; a skewed network."""
    patient = np.repeat(np.arange(patients), np.where(rng.random(patients) < 0.12, 2, 1))
    trait = rng.normal(0, 0.7, patients)[patient]
    label = (rng.random(len(patient)) < 1 / (1 + np.exp(0.1 - trait))).astype(int)
    logit = 1.8 * (label - 0.5) + 0.6 * rng.normal(0, 1, patients)[patient] + 0.5 * rng.normal(0, 1, len(patient))
    views = rng.integers(1, 5, len(patient))
    study = np.repeat(np.arange(len(patient)), views)
    view = 1 / (1 + np.exp(-logit[study] - 0.6 * rng.normal(0, 1, len(study))))
    return pd.DataFrame({"patient": patient, "label": label, "probability": np.bincount(study, view) / views})


def run_coverage(simulations, draws=2000):
    """Share of simulations in which a score's interval contains the score of 200,000 patients. Returns: pandas.DataFrame."""
    rng = np.random.default_rng(3)
    truth, _ = point_scores(*simulate_run(200_000, rng)[["label", "probability"]].to_numpy().T, 0.45)
    contained = dict.fromkeys(WITH_INTERVAL, 0)
    for _ in tqdm(range(simulations), desc="Simulating runs", leave=False, disable=None):
        found = score(simulate_run(PATIENTS, rng), 0.45, draws=draws)
        for name in contained:
            contained[name] += found[name]["low"] <= truth[name] <= found[name]["high"]
    return pd.DataFrame(
        {"score": NUMBERS[name], "coverage": round(count / simulations, 3)} for name, count in contained.items()
    )


# ---------------------------------------------------------------------------------------------------------------------
# Two recipes


def simulate_recipes(seeds, spread, rng):
    """Predictions of the runs of two equal recipes on the same studies: (before, after), as `differences` takes them.

    Args:
        seeds: runs of each recipe.
        spread: standard deviation of the AUROC over seeds.
    """
    patient = np.sort(np.concatenate([np.arange(195), rng.integers(0, 195, 205)]))
    label = (rng.random(400) < 0.28).astype(int)
    hard = 0.5 * rng.normal(0, 1, 195)[patient] + 0.6 * rng.normal(0, 1, 400)  # for every network
    own = 0.6  # standard deviation of what a network sees differently from the others
    width = (2 * (0.5**2 + 0.6**2 + own**2)) ** 0.5  # AUROC is Phi(separation / width)
    separation = stats.norm.ppf(0.75) * width
    slope = stats.norm.pdf(separation / width) / width  # of the AUROC in the separation
    table = pd.DataFrame({"study_type": "XR", "patient": patient, "study": np.arange(400), "view": "1", "label": label})

    def run():
        logit = (separation + spread / slope * rng.normal()) * label + hard + own * rng.normal(0, 1, 400)
        return table.assign(probability=1 / (1 + np.exp(-logit))), 0.5

    return [run() for _ in range(seeds)], [run() for _ in range(seeds)]


def patients_alone(before, after, draws):
    """(low, high) of the difference in AUROC that holds the seeds fixed: quantiles over draws of patients alone."""
    first = before[0][0]
    label, probabilities = first["label"].to_numpy(), [table["probability"].to_numpy() for table, _ in (*before, *after)]

    def statistics(weight):
        drawn = [ranking_scores(label, probability, weight)["auroc"] for probability in probabilities]
        return {"auroc": np.mean(drawn[len(before) :], axis=0) - np.mean(drawn[: len(before)], axis=0)}

    return intervals.intervals(statistics, first["patient"], draws)["auroc"]


def recipe_coverage(simulations, draws=DRAWS, seeds=SEEDS, spreads=SPREADS):
    """Share of simulations in which the intervals of a difference contain 0. Returns: pandas.DataFrame."""
    rows = []
    for count, spread in itertools.product(seeds, spreads):
        rng, contained = np.random.default_rng(1), np.zeros(2)
        for _ in tqdm(range(simulations), desc=f"{count} seeds, {spread}", leave=False, disable=None):
            runs = simulate_recipes(count, spread, rng)
            found = differences(*runs, ("auroc",), draws)["auroc"]
            both = patients_alone(*runs, draws), (found["low"], found["high"])
            contained += [low <= 0 <= high for low, high in both]
        shares = dict(zip(("patients alone", "patients and seeds"), np.round(contained / simulations, 3), strict=True))
        rows.append({"seeds": count, "spread": spread, **shares})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    sys.exit(scripts.run(main))

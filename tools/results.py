"""The results tables of README.md and docs/results.md, from a record of scored runs.

    python -m tools.results docs/records/fracatlas                         what model_test.py --markdown prints for the runs
    python -m tools.results docs/records/fracatlas --short                 README's: the mean and the ensemble of each recipe
    python -m tools.results docs/records/fracatlas --add runs/default-0    add runs, which model_test.py has scored

A record is a folder with the run.json of each run and one table, predictions.csv: a row a held-out view and a column a run.
Exit status: 0 done; 1 a run or record cannot be read; 2 a wrong command line.
"""

import json
import sys
from pathlib import Path

import pandas as pd

from bones.data.table import STUDY
from bones.evaluation.comparison import ScoredRun, always_negative_rows, grouped, markdown, run_row, seed_rows
from bones.runs import record as records
from bones.runs.folder import PREDICTIONS
from bones.scores.report import report
from bones.scores.text import markdown_table
from bones.system import scripts
from bones.system.errors import FileError
from bones.system.files import read_table, whole_file
from tools.publish import without_paths

VIEW = [*STUDY, "view", "label"]  # what identifies a view in a record, and its label


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("folder", type=Path, help="record, a folder")
    parser.add_argument("--add", nargs="+", default=[], metavar="RUN", help="scored run folders to add to the record")
    parser.add_argument("--short", action="store_true", help="print one table with the mean and the ensemble of each recipe")
    options = parser.parse_args(argv)
    for run in options.add:
        add(options.folder, Path(run))
    runs = scored_runs(options.folder)
    print(short_table(runs) if options.short else markdown(runs))


def add(folder, run):
    """Add a scored run to a record: its run.json without paths of this machine, and its predictions."""
    folder.mkdir(parents=True, exist_ok=True)
    content = without_paths(records.read_json(run / "run.json"))
    table = read_table(run / "predictions.csv", PREDICTIONS, "model_test.py writes it.")
    table = table[table["split"] == "held-out"].set_index(VIEW)["probability"].round(5).rename(run.name)
    file = folder / "predictions.csv"
    if file.exists():
        table = read_table(file, VIEW, "Restore it.").set_index(VIEW).drop(columns=run.name, errors="ignore").join(table)
    for path, text in (
        (file, pd.DataFrame(table).reset_index().to_csv(index=False)),
        (folder / f"{run.name}.json", json.dumps(content, indent=2) + "\n"),
    ):
        with whole_file(path) as partial:
            partial.write_text(text)


def scored_runs(folder):
    """The ScoredRun of each run of a record, in the order of its columns."""
    table = read_table(folder / "predictions.csv", VIEW, "tools.results --add writes it.")
    return [scored_run(folder / f"{name}.json", table[[*VIEW, name]]) for name in table.columns if name not in VIEW]


def scored_run(file, table):
    """A ScoredRun from its run.json and its column of a record."""
    record, predictions = records.load(file), table.set_axis([*VIEW, "probability"], axis=1)
    if predictions["probability"].isna().any():
        raise FileError(f"{file.with_suffix('')}: predictions.csv lacks views of this run. Add the runs again.")
    content = {
        "data": list(record.data.roots),
        "phantom": record.data.phantom,
        "split": "held-out",
        "study_types": sorted(predictions["study_type"].unique()),
        "patients": predictions["patient"].nunique(),
        "corrected": 0,
        **report(predictions, record.threshold),
    }
    return ScoredRun(f"runs/{file.stem}", record, predictions, content)


def short_table(runs):
    """Markdown table with the rows of each recipe's mean and ensemble, and of always Negative."""
    groups = grouped(runs)
    rows = [short_row(row, group) for group in groups for row in (seed_rows(group) if len(group) > 1 else [run_row(group[0])])]
    return markdown_table(rows + [short_row(row, []) for row in always_negative_rows(groups)])


def short_row(row, group):
    """The cells of a row that fit a narrow page, with the training times of its runs."""
    minutes = sorted(round(run.record.training_seconds / 60) for run in group)
    recipe = f"{group[0].record.options.recipe}, {row['Seeds']}" if group else ""
    return {
        "Network": row["Network"],
        "Recipe, seeds": recipe,
        **{name: row[f"{name} [95 % CI]"] for name in ("AUROC", "Kappa", "Accuracy")},
        "Training": f"{minutes[0]}-{minutes[-1]} min" if group and "mean" in recipe else "",
    }


if __name__ == "__main__":
    sys.exit(scripts.run(main))

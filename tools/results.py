"""The results tables of README.md and docs/results.md, from a record of scored runs.

    python -m tools.results docs/records/fracatlas                         what model_test.py --markdown prints for the runs
    python -m tools.results docs/records --rows fracatlas/default:mean     README's: chosen rows of several records
    python -m tools.results docs/records/fracatlas --add runs/default-0    add runs, which model_test.py has scored

A record is a folder with the run.json of each run and one table, predictions.csv: a row a held-out view and a column a run. It
may have groups.csv, which says of each view whether it shows hardware: the short table then has the AUROC without these views.
Exit status: 0 done; 1 a run or record cannot be read; 2 a wrong command line.
"""

import dataclasses
import json
import sys
from pathlib import Path

import pandas as pd

from bones.data.table import STUDY
from bones.evaluation.comparison import SHOWN, ScoredRun, always_negative_rows, grouped, markdown, run_row, seed_rows
from bones.runs import record as records
from bones.runs.folder import PREDICTIONS
from bones.scores.probabilities import study_probabilities
from bones.scores.report import score
from bones.scores.text import markdown_table
from bones.system import scripts
from bones.system.errors import FileError
from bones.system.files import read_table, whole_file
from tools.publish import without_paths

KINDS = ("mean", "ensemble")  # rows of a recipe with several seeds
SCORES = ("AUROC", "Accuracy")  # of the short table
VIEW = [*STUDY, "view", "label"]  # what identifies a view in a record, and its label


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("folder", type=Path, help="record, a folder; with --rows the folder of records")
    parser.add_argument("--add", nargs="+", default=[], metavar="RUN", help="scored run folders to add to the record")
    rows = "rows of a short table: the mean over the seeds of a recipe in a record, or the ensemble of these seeds"
    parser.add_argument("--rows", nargs="+", metavar="RECORD/RECIPE:mean|ensemble", help=rows)
    options = parser.parse_args(argv)
    for run in options.add:
        add(options.folder, Path(run))
    print(chosen_rows(options.folder, options.rows) if options.rows else markdown(scored_runs(options.folder)))


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
        "has_patients": record.data.has_patients,
        "split": "held-out",
        "study_types": sorted(predictions["study_type"].unique()),
        "patients": predictions["patient"].nunique(),
        "corrected": 0,
        **of_studies(predictions, record.threshold),
    }
    return ScoredRun(f"runs/{file.stem}", record, predictions, content)


def chosen_rows(folder, chosen):
    """Markdown table of some rows of several records, and of always Negative on the studies of the first.

    Args:
        folder: folder of the records.
        chosen: list of RECORD/RECIPE:mean, the mean over seeds, or RECORD/RECIPE:ensemble, the seeds' mean probabilities.
    Raises: FileError when there is no such row.
    """
    rows, groups = [], {}
    for name in chosen:
        place, _, kind = name.partition(":")
        record, _, recipe = place.rpartition("/")
        if record not in groups:
            groups[record] = grouped(scored_runs(folder / record))
        found = [group for group in groups[record] if group[0].record.options.recipe == recipe]
        if len(found) != 1 or kind not in KINDS:
            kinds = " or ".join(KINDS)
            raise FileError(
                f"{name}: {len(found)} groups of runs in {folder / record}; expected one, and {kinds} after a colon."
            )
        rows.append((found[0], cells(found[0], kind, folder / record)))
    negative = always_negative_rows([rows[0][0]])[0]
    shown = [row for _, row in rows]
    same = {name: shown[0][name] for name in ("Record", "Studies")}
    last = dict.fromkeys(shown[0], "") | {"Recipe": "always Negative"} | same | scores_of(negative)
    return markdown_table([*shown, last])


def cells(group, kind, folder):
    """One row of `chosen_rows`."""
    count = len(group)
    seeds = "one seed" if count == 1 else f"mean of {count} seeds" if kind == "mean" else f"{count} seeds together"
    minutes = sorted(round(run.record.training_seconds / 60) for run in group)
    without = [run for run in (without_hardware(run, folder) for run in group) if run]
    spread = f"{minutes[0]}-{minutes[-1]}" if minutes[0] < minutes[-1] else f"{minutes[0]}"
    return {
        "Recipe": f"{group[0].record.options.recipe}, {seeds}",
        "Record": folder.name,
        "Studies": f"{group[0].report['studies']['count']}",
        **scores_of(row_of(group, kind)),
        "AUROC without hardware": scores_of(row_of(without, kind))["AUROC"] if without else "",
        "Minutes": spread if kind == "mean" else "",
    }


def row_of(group, kind):
    """The row of a group in the long table."""
    return run_row(group[0]) if len(group) == 1 else seed_rows(group)[KINDS.index(kind)]


def scores_of(row):
    """The scores of the short table in a row of the long one."""
    return {name: row[f"{name} [95 % CI]"] for name in SCORES}


def without_hardware(run, folder):
    """A ScoredRun without the views that show hardware, as groups.csv of its record says; None where there is no such file."""
    file = folder / "groups.csv"
    if not file.is_file():
        return None
    groups = read_table(
        file, [*VIEW[:-1], "hardware"], "It has the columns of predictions.csv that identify a view, and hardware."
    )
    views = run.predictions.merge(groups, on=VIEW[:-1], how="left", validate="one_to_one")
    kept = views.loc[views["hardware"] == 0, run.predictions.columns].reset_index(drop=True)
    return dataclasses.replace(run, predictions=kept, report={**run.report, **of_studies(kept, run.record.threshold)})


def of_studies(predictions, threshold):
    """What the tables here print of `scores.report`."""
    return {"threshold": threshold, "studies": score(study_probabilities(predictions), threshold, SHOWN)}


if __name__ == "__main__":
    sys.exit(scripts.run(main))

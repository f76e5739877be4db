"""MODEL_CARD.md of a run: data, recipe, scores with intervals, limits, how to load; from run.json and scores.json alone.

Source: Mitchell et al. 2019, arXiv 1810.03993, for what a card says.
"""

from pathlib import Path

from bones.runs.options import SHARED
from bones.scores.text import as_table, markdown_table
from bones.system.errors import RunError

IN_WORDS = {"demo", "weights"}  # options that the card has in words
PHANTOM = "**Trained on phantoms, drawn films: its scores say that the code works, and nothing about patients.**\n\n"
CARD = """# Model card: {name}

{network} that gives the probability that a view of {study_types} shows an abnormality; a study's is the mean over its views.
**Research software, not a medical device.**

{phantom}## Data

Trained on {data}. Views of patients kept aside for choosing epoch, threshold and temperature are called tuning.

{counts}

{left_out}Starting weights: {weights}.

## Training

Recipe `{recipe}`, trained {finished} on {device}; {versions}; commit {commit}.

{options}

## Scores

{scores}

A study is Positive at a probability of {threshold:.4f} or more (temperature {temperature:.4f} included); both were fitted on
the tuning studies.

## Limits

- It knows what its training films show, and takes abnormal to be as common as there. On films of another hospital, machine,
  body part or age group its scores are unknown, and usually lower.
- The label is a reader's opinion at the time of the report; some are wrong.
- A heat map shows what spoke for "abnormal". It is no proof of where an injury is, nor that there is none elsewhere.
- An interval says what another sample of such patients would give, and nothing more.

## How to load

```python
import keras
import numpy as np

network = keras.models.load_model("best.h5", compile=False)  # none of this repository's files are needed
# films: (n, {size}, {size}, 1), grey of 0 to 255, {resize}
probability = network.predict(films)  # (n, 1)
{averaging}logit = np.log(probability / (1 - probability)) / {temperature}  # the run's temperature
probability = 1 / (1 + np.exp(-logit))  # of each view; a study's is the mean
is_positive = probability >= {threshold}
```

In the repository: `python model_test.py RUN STUDY_FOLDER` calls a study, `python export.py RUN` makes ONNX and other files.
"""
AVERAGING = "probability = (probability + network.predict(films[:, :, ::-1])) / 2  # and of the mirror images\n"
RESIZE = {"pad": "the long side fitted and the rest padded with 0", "stretch": "both sides squeezed"}


def write(run):
    """Write MODEL_CARD.md into a RunFolder, from what it holds now."""
    run.write_text("MODEL_CARD.md", card(run.path.resolve().name, run.record(), read_scores(run)))


def read_scores(run):
    """Content of scores.json, or None where the run has not been scored."""
    return run.read_json("scores.json") if (run / "scores.json").is_file() else None


def card(name, record, report):
    """The card as Markdown.

    Args:
        name: of the run.
        record: RunRecord.
        report: scores.json, or None.
    """
    options, data = record.options, record.data
    return CARD.format(
        name=name,
        network=f"`{options.network}` at {options.size} px",
        study_types=" ".join(options.study_type),
        phantom=PHANTOM if data.phantom else "",
        data=data.phantom or f"`{Path(data.root).name}`",
        counts=counts_table(data),
        left_out=f"{data.left_out} unreadable views were left out. " if data.left_out else "",
        weights=options.weights if options.weights in ("none", "imagenet") else "a file of the trainer's",
        recipe=options.recipe,
        finished=training_time(record),
        device=record.device,
        versions=", ".join(f"{name} {version}" for name, version in record.versions.items()),
        commit=record.commit or "unknown",
        options=options_table(options),
        scores=scores_section(report),
        averaging=AVERAGING if options.flip_averaging else "",
        threshold=record.threshold,
        temperature=record.temperature,
        size=options.size,
        resize=RESIZE[options.resize],
    )


def counts_table(data):
    """Counts of the training and the tuning part."""
    columns = ("studies", "patients", "views", "positive_views")
    rows = [
        {"part": name}
        | {key.replace("_", " "): part.get(key) for key in columns}
        | {"SHA-256 of paths and labels": f"`{str(part.get('sha256'))[:16]}`"}
        for name, part in (("train", data.train or {}), ("tuning", data.tuning or {}))
    ]
    return markdown_table(rows)


def options_table(options):
    """Every option that is no path."""
    shown = {name: value for name, value in options.model_dump(mode="json").items() if name in SHARED - IN_WORDS}
    return markdown_table([{"option": name, "value": f"`{value}`"} for name, value in shown.items()])


def training_time(record):
    """How long it was trained, and which epoch was kept."""
    if not record.finished:
        return "but not to its end"
    minutes = (record.training_seconds or 0) / 60
    epochs = record.options.epochs
    return f"for {epochs} epoch{'s' * (epochs > 1)} ({minutes:.0f} min), epoch {record.best_epoch} kept,"


def scores_section(report):
    """The scores with their 95 % intervals over patients, and of what."""
    if report is None:
        return "Not scored yet: `python model_test.py RUN` scores the held-out studies and writes them here."
    try:
        table = as_table(report)
        rows = [{"": name} | row for name, row in table.to_dict("index").items()]
        said = f"{report['split']} studies of `{Path(report['data']).name}`, {report['patients']} patients"
        mark = " (phantoms)" if report.get("phantom") else ""
    except (KeyError, TypeError) as error:
        raise RunError(f"scores.json lacks {error}, or holds it in another form. Score again with model_test.py.") from None
    flatters = " They chose epoch and threshold, so this flatters." if report["split"] == "tuning" else ""
    return f"{said}{mark}; in brackets, 95 % intervals over patients.{flatters}\n\n" + markdown_table(rows)

"""MODEL_CARD.md of a run: data, recipe, scores with intervals, limits, how to load; from run.json and scores.json alone.

Source: Mitchell et al. 2019, arXiv 1810.03993, for the content of a card.
"""

from bones.data.layouts import types_in_words
from bones.data.roots import in_words
from bones.runs.options import SHARED
from bones.scores.text import UNKNOWN, as_table, groups_table, markdown_table, parts_table, patients_text, pointing_table
from bones.system.errors import RunError

IN_WORDS = {"demo", "weights"}  # options that the text of the card describes
PHANTOM = "**Trained on phantoms (synthetic images): its scores show that the code works and say nothing about patients.**\n\n"
CARD = """# Model card: {name}

{network} that predicts the probability that a view of {study_types} shows an abnormality; a study's is the mean over its views.
**Research software, not a medical device.**

{phantom}## Data

Trained on {data}. The tuning views are of patients held out to select epoch, threshold and temperature.

{counts}

{unknown}{left_out}Starting weights: {weights}.

## Training

Recipe `{recipe}`, trained {finished} on {device}; {versions}; commit {commit}.

{options}

## Scores

{scores}

A study is Positive at a probability of {threshold:.4f} or more (temperature {temperature:.4f} included); both were fitted on
the tuning studies.

{pointed}## Limits

- The network assumes images like its training images and the same prevalence. On images of another hospital, machine, body
  part or age group its scores are unknown, and usually lower.
- The labels are readers' opinions at the time of the report; some are wrong.
- A heat map shows which regions raised the probability. It does not prove where an injury is, nor that there is none elsewhere.
- An interval covers the sampling of such patients, and no other uncertainty.

## How to load

```python
import keras
import numpy as np

network = keras.models.load_model("{file}", compile=False)  # needs Keras 3, and no file of this repository
# images: (n, {size}, {size}, 1), grey values 0 to 255, {resize}
probability = network.predict(images)  # (n, 1)
{averaging}logit = np.log(probability / (1 - probability)) / {temperature}  # the run's temperature
probability = 1 / (1 + np.exp(-logit))  # of each view; a study's is the mean
is_positive = probability >= {threshold}
```

In the repository: `python model_test.py RUN STUDY_FOLDER` classifies a study, `python export.py RUN` exports to ONNX and more.
"""
AVERAGING = "probability = (probability + network.predict(images[:, :, ::-1])) / 2  # mean with the mirror images\n"
RESIZE = {
    "pad": "the long side scaled to fit, the rest padded with 0",
    "stretch": "both sides stretched",
    "stretch_linear": "both sides stretched, by bilinear interpolation without smoothing",
    "stretch_nearest": "both sides stretched, by the nearest pixel",
}


def write(run):
    """Write MODEL_CARD.md of a RunFolder from its current content."""
    found = [run.read_json(name) if (run / name).is_file() else None for name in ("scores.json", "pointing.json")]
    run.write_text("MODEL_CARD.md", card(run.path.resolve().name, run.record(), *found, file=run.network_file().name))


def card(name, record, report, pointed=None, file="best.h5"):
    """The card as Markdown.

    Args:
        name: the run's.
        record: RunRecord.
        report: scores.json, or None.
        pointed: pointing.json, or None.
        file: name of the network's file.
    """
    options, data = record.options, record.data
    return CARD.format(
        name=name,
        network=f"`{options.network}` at {options.size} px",
        study_types=types_in_words(options.study_type),
        phantom=PHANTOM if data.phantom else "",
        data=data.phantom or f"`{in_words(data.roots)}`",
        counts=counts_table(data),
        unknown="" if data.has_patients else "Patients are unknown: each image or study counts as one. ",
        left_out=f"{data.left_out} files were left out, unreadable or no radiographs. " if data.left_out else "",
        weights=options.weights if options.weights in ("none", "imagenet") else "a local file",
        recipe=options.recipe,
        finished=training_time(record),
        device=record.device,
        versions=", ".join(f"{name} {version}" for name, version in record.versions.items()),
        commit=record.commit or "unknown",
        options=options_table(options),
        scores=scores_section(report),
        pointed=pointing_section(pointed),
        averaging=AVERAGING if options.flip_averaging else "",
        threshold=record.threshold,
        temperature=record.temperature,
        size=options.size,
        file=file,
        resize=RESIZE[options.resize],
    )


def counts_table(data):
    """Counts of the training and tuning parts."""
    columns = ("studies", "patients", "views", "positive_views")
    rows = [
        {"part": name}
        | {key.replace("_", " "): part.get(key) for key in columns}
        | {"SHA-256 of paths and labels": f"`{str(part.get('sha256'))[:16]}`"}
        for name, part in (("train", data.train or {}), ("tuning", data.tuning or {}))
    ]
    return markdown_table(rows)


def options_table(options):
    """Every option that is not a path."""
    shown = {name: value for name, value in options.model_dump(mode="json").items() if name in SHARED - IN_WORDS}
    return markdown_table([{"option": name, "value": f"`{value}`"} for name, value in shown.items()])


def training_time(record):
    """Training time and selected epoch."""
    if not record.finished:
        return "but not finished"
    minutes = (record.training_seconds or 0) / 60
    epochs = record.options.epochs
    if not epochs:
        return f"by fitting the output layer alone ({minutes:.0f} min)"
    return f"for {epochs} epoch{'s' * (epochs > 1)} ({minutes:.0f} min), epoch {record.best_epoch} selected,"


def scores_section(report):
    """The scores with 95 % intervals over patients, and the data that they are of."""
    if report is None:
        return "Not scored yet: `python model_test.py RUN` scores the held-out studies and writes them here."
    try:
        table = frame_table(as_table(report))
        known = report.get("has_patients", True)  # scores of earlier versions do not say it
        patients = patients_text(report["patients"], known)
        scored = f"{report['split']} studies of `{in_words(report['data'])}`, {patients}"
        mark = " (phantoms)" if report.get("phantom") else ""
    except (KeyError, TypeError) as error:
        raise RunError(f"scores.json lacks {error}, or has it in another form. Score again with model_test.py.") from None
    optimistic = " These studies selected epoch and threshold: scores are optimistic." if report["split"] == "tuning" else ""
    unknown = "" if known else f" {UNKNOWN}"
    parts = [f"{scored}{mark}; in brackets, 95 % intervals over patients.{optimistic}{unknown}", table]
    for part, title in (("by_study_type", "Studies by type"), ("by_root", "Studies by data root")):
        if len(report.get(part, ())) > 1:
            parts += [f"{title}:", frame_table(parts_table(report[part]))]
    if report.get("groups"):
        parts += ["Studies of the views in a group, and of the others:", frame_table(groups_table(report["groups"]))]
    return "\n\n".join(parts)


def pointing_section(pointed):
    """How often heat maps point at abnormalities; empty where it was not measured."""
    if pointed is None:
        return ""
    try:
        views = f"{pointed['views']} abnormal {pointed['split']} views of `{pointed['data']}`"
        table = frame_table(pointing_table(pointed["maps"]))
    except (KeyError, TypeError) as error:
        raise RunError(f"pointing.json lacks {error}, or has it in another form. Measure again with model_test.py.") from None
    return f"Heat maps, {views}: whether a map's maximum is in a box around an abnormality.\n\n{table}\n\n"


def frame_table(table):
    """A Markdown table of a pandas.DataFrame."""
    return markdown_table([{"": name} | row for name, row in table.to_dict("index").items()])

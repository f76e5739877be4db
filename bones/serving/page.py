"""Result of the web page for each study as HTML: its decision, its views with heat maps, and how to interpret the numbers."""

import base64
import html
import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image  # pictures for the page

from bones.data import images, sizes
from bones.data.layouts import types_in_words
from bones.data.pixels import Rows
from bones.data.roots import in_words
from bones.data.studies import group
from bones.evaluation import overlays
from bones.evaluation.classifier import Classifier, is_left_out
from bones.scores.text import UNKNOWN, apart, as_text
from bones.system.errors import RunError
from bones.system.files import printable

MOST_VIEWS = 12  # of all studies of a request; MURA's largest study has 13 views, most have 2 or 3
SIDE = 560  # maximum side of an image on the page, in pixels
STYLE = """
.views {display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.5rem; margin: 1rem 0}
.views figure {margin: 0}
.pictures {display: grid; grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); gap: .4rem}
.pictures img {width: 100%; height: auto; border-radius: 4px}
.pictures span {font-size: .8rem}
.decision {font-size: 1.5rem; font-weight: 600; margin: .25rem 0}
.fault {border-left: 4px solid #b00020; padding: .25rem .75rem}
.note {border-left: 4px solid #b26a00; padding: .25rem .75rem}
.scale img {width: 100%; max-width: 22rem; height: .9rem; display: block}
.scale span {display: flex; justify-content: space-between; max-width: 22rem; font-size: .85rem}
"""


class Page:
    """A run's classifier and the results shown for it."""

    def __init__(self, run):
        # One view at a time: otherwise the network would be compiled for each number of views.
        self.classifier = Classifier(run, batch_size=1, with_maps=True)
        self.record = self.classifier.record
        types, data = types_in_words(self.record.options.study_type, ", "), self.record.data
        data = "phantoms" if data.phantom else in_words(data.roots)
        self.training_data = f"{types} of {data}"
        self.reliability_note = reliability_note(run, self.record)

    def answer(self, paths):
        """HTML for the views of one study, or of each of several DICOM studies, or an error message for too many files."""
        if len(paths) > MOST_VIEWS:
            return fault(f"{len(paths)} files: expected the views of one study, {MOST_VIEWS} at most. Drop fewer.")
        studies = group([("uploads", [Path(path) for path in paths])])
        rows = [(str(path), number) for number, study in enumerate(studies, start=1) for path in study.files]
        ((table, pixels),) = self.classifier.classify(pd.DataFrame(rows, columns=["path", "study"]))
        shown = [
            study_heading(number, studies) * (len(studies) > 1) + self.study_html(table[table["study"] == number], pixels)
            for number in range(1, len(studies) + 1)
        ]
        return "".join(shown) + self.reliability_note * any(table["decision"])

    def study_html(self, study, pixels):
        """HTML for one study, or why it is not classified. Args: study: its rows of a table of `Classifier.classify`."""
        bad = study[study["fault"] != ""]
        if len(bad):
            reasons = "; ".join(
                f"{shown_name(path)}: {reason.rstrip('.')}" for path, reason in zip(bad["path"], bad["fault"], strict=True)
            )
            return fault(f"Not classified. {reasons}. Drop the study again without these files.")
        views, notes = study[~is_left_out(study)], notes_html(study)
        if views.empty:
            return fault("Not classified: no file is a radiograph.") + notes
        maps = self.classifier.maps(Rows(pixels, views.index))
        tops = overlays.scale_tops(maps)
        films = [
            figure(row, {kind: values[place] for kind, values in maps.items()}, tops, self.record.options.resize)
            for place, row in enumerate(views.itertuples())
        ]
        shown = f"<div class='views'>{''.join(films)}</div>"
        return f"{self.decision_html(views)}{notes}{shown}{scale(tops)}"

    def decision_html(self, study):
        """The study's decision and how it is computed."""
        mean, threshold, count = study["study_probability"].iloc[0], self.record.threshold, len(study)
        mean, threshold = apart(mean, threshold)
        source = f"the mean of its {count} views" if count > 1 else "the probability of its single view"
        return (
            f"<p class='decision' role='alert'>{study['decision'].iloc[0]}: probability of abnormal {mean}</p>"
            f"<p>This is {source}. Positive is {threshold} or more, the threshold fitted on the run's tuning studies.</p>"
        )


def reliability_note(run, record):
    """How to interpret the numbers: HTML from the run's own scores."""
    lines = []
    if record.data.phantom:
        lines.append(
            "<b>This network was trained on phantoms (synthetic images): its predictions on patients are meaningless.</b>"
        )
    try:
        scored = run.read_json("scores.json")
        study = scored["studies"]
        lines.append(
            f"On the {scored['split']} studies of {html.escape(in_words(scored['data']))} ({study['count']}, of which "
            f"{study['positive']} abnormal) its sensitivity is {as_text(study['sensitivity'])} and its specificity "
            f"{as_text(study['specificity'])}, [95 % interval]."
        )
        if not scored.get("has_patients", True):
            lines.append(UNKNOWN)
    except (RunError, KeyError, TypeError):
        lines.append("This network has not been scored on held-out studies (model_test.py), so its accuracy is unknown.")
    lines.append(
        "Probabilities apply to studies with the prevalence and image acquisition of the training data. "
        "Colours show evidence for “abnormal”, not the outline of an injury; a low probability does not rule one out."
    )
    lines.append("Research only, not a medical device.")
    return "".join(f"<p class='note'>{line}</p>" for line in lines)


def study_heading(number, studies):
    """Heading of one of several studies: its number and its files; of files that no study claims also why they are one."""
    study = studies[number - 1]
    names = html.escape(", ".join(shown_name(path) for path in study.files))
    heading = f"<h2>Study {number} of {len(studies)}: {names}</h2>"
    reason = "Files without a Study Instance UID beside DICOM files of several studies count as another study."
    return heading + f"<p class='note'>{reason}</p>" * (study.beside > 1)


def notes_html(study):
    """The notes on a study's files as HTML. Args: study: its rows of a table of `Classifier.classify`."""
    noted = study[study["note"] != ""]
    lines = [f"{shown_name(path)}: {note}." for path, note in zip(noted["path"], noted["note"], strict=True)]
    return "".join(f"<p class='note'>{html.escape(line)}</p>" for line in lines)


def fault(message):
    """An error message as HTML; escaped, because file names may contain anything."""
    return f"<p class='fault' role='alert'>{html.escape(message)}</p>"


def shown_name(path):
    """A file's name without its folder, printable on one line."""
    return printable(Path(path).name)


def figure(row, maps, tops, resize):
    """One view with its heat maps as HTML."""
    film = sizes.shrink(images.read_grey(row.path), SIDE)
    pictures = {"image": np.repeat(np.asarray(film)[..., None], 3, axis=2)}
    pictures |= {kind: overlays.overlay(film, values, tops[kind], resize) for kind, values in maps.items()}
    name = html.escape(shown_name(row.path), quote=True)
    shown = "".join(
        f"<div><img src='{as_url(picture)}' alt='{name}, {kind}'><span>{kind}</span></div>"
        for kind, picture in pictures.items()
    )
    return f"<figure><figcaption>{name}: {row.probability:.3f}</figcaption><div class='pictures'>{shown}</div></figure>"


def scale(tops):
    """The colour scale of the heat maps as HTML."""
    ramp = np.repeat(overlays.COLOURS(np.linspace(0, 1, 256))[None, :, :3], 8, axis=0)
    meaning = "<br>".join(html.escape(line) for line in overlays.describe_scale(tops).split("\n"))
    return (
        f"<div class='scale'><img src='{as_url(np.uint8(255 * ramp))}' alt='Colours from black through red to yellow'>"
        f"<span><span>0</span><span>1</span></span><small>{meaning}</small></div>"
    )


def as_url(picture):
    """An image, (height, width, 3) uint8, as a data URL, so that no file is stored."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

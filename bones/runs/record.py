"""run.json, the record of a run: options, data, versions, threshold and more, validated strictly.

This module imports neither pandas nor Keras, so that a command line with --resume is parsed quickly.
"""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError  # types and ranges, strictly

from bones.runs.options import STRICT, Options, as_tuple, expected
from bones.system.errors import RunError, short_message

SHIPPED = Path(__file__).parents[2] / "weights" / "fracatlas"  # the run that comes with the repository


def total(left_out):
    """Number of views left out; the first versions counted them by part."""
    return sum(left_out.values()) if isinstance(left_out, dict) else left_out


class Data(BaseModel):
    """The data of a run: its location, fingerprints of its parts, and the number of views left out."""

    model_config = STRICT

    roots: Annotated[
        tuple[str, ...],
        BeforeValidator(as_tuple),
        # Earlier versions recorded one data root, as `root`.
        Field(description="a list of folders", min_length=1, validation_alias=AliasChoices("roots", "root")),
    ]
    phantom: Annotated[str | None, Field(description="a text, or null")] = None
    has_patients: Annotated[bool, Field(description="true or false")] = True  # whether it is known whose the images are
    train: Annotated[dict | None, Field(description="an object")] = None
    tuning: Annotated[dict | None, Field(description="an object")] = None
    left_out: Annotated[int, BeforeValidator(total), Field(description="a whole number")] = 0
    # Of this run and of the runs whose weights it started from, on the same data root; earlier versions did not record them.
    tuning_patients: Annotated[tuple[str, ...] | None, Field(description="a list of patients, or null")] = None
    trained_types: Annotated[tuple[str, ...] | None, Field(description="a list of study types, or null")] = None


class RunRecord(BaseModel):
    """The content of run.json. The record is immutable, see `changed`."""

    model_config = STRICT

    command: Annotated[str, Field(description="a text")] = ""
    options: Annotated[Options, Field(description="an object")]
    versions: Annotated[dict[str, str], Field(description="an object of texts")] = {}
    commit: Annotated[str | None, Field(description="a text, or null")] = None
    device: Annotated[str | None, Field(description="a text, or null")] = None
    data: Annotated[Data, Field(description="an object")]
    threshold: Annotated[float, Field(description="a number from 0 to 1", ge=0, le=1)] = 0.5
    temperature: Annotated[float, Field(description="a number from 0.01 to 100", ge=0.01, le=100)] = 1.0
    started: Annotated[str | None, Field(description="a time, or null")] = None
    finished: Annotated[str | None, Field(description="a time, or null")] = None
    training_seconds: Annotated[float | None, Field(description="a number, or null", ge=0)] = None
    best_epoch: Annotated[int | None, Field(description="a whole number, or null", gt=0)] = None

    @property
    def source(self):
        """The Source of its data, where they were when it was trained or resumed."""
        return dataclasses.replace(self.options.source, paths=self.data.roots)

    def changed(self, **values):
        """The same record with other values, checked. Raises: pydantic.ValidationError."""
        kept = {name: getattr(self, name) for name in RunRecord.model_fields}
        return RunRecord.model_validate(kept | values)


def is_run(path):
    """Whether a path is a run folder."""
    return (Path(path) / "run.json").is_file()


def read(folder):
    """run.json of a run folder as a RunRecord.

    Raises: RunError when the folder is not a run folder, or run.json is invalid.
    """
    check_is_run(folder)
    return load(Path(folder) / "run.json")


def load(file):
    """A run.json file as a RunRecord. Raises: RunError when it is missing or invalid."""
    content = read_json(file)
    try:
        return RunRecord.model_validate_json(json.dumps(content))
    except ValidationError as error:
        raise RunError(f"{file}: {describe_fault(error, content)}. Restore it from a copy.") from None


def check_is_run(folder):
    """Raise RunError unless a path is a run folder."""
    if not is_run(folder):
        found = "no such folder" if not Path(folder).exists() else "no run.json in it"
        raise RunError(f"{folder} is not a run folder ({found}). Expected a folder that mura.py made, such as runs/NAME.")


def describe_fault(error, content):
    """The first invalid field as a message: 'size' is 0; expected a whole number above 0."""
    fault = error.errors()[0]
    part, *inside = fault["loc"]
    model = {"options": Options, "data": Data}.get(part) if inside else None
    fields, name = (content[part], inside[0]) if model else (content, part)
    if name not in (model or RunRecord).model_fields:
        return f"{name!r} is not a field of this version"
    takes = expected(name) if model is Options else (model or RunRecord).model_fields[name].description
    found = f"is {fields[name]!r}" if name in fields else "is missing"
    return f"{name!r} {found}; expected {takes}"


def read_json(path):
    """Content of a JSON file of a run. Raises: RunError when it is missing or not a JSON object."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. Expected a file that our scripts write.") from None
    except ValueError as error:
        raise RunError(f"{path} is not valid JSON ({short_message(error)}). Restore it from a copy, or train again.") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} is not a JSON object. Restore it from a copy, or train again.")
    return content

"""run.json, the record of a run: options, data, versions, threshold and more, checked for what scoring and drawing need.

It imports neither pandas nor Keras, so that a command line that resumes a run is read at once.
"""

import json
from pathlib import Path

from bones.system.errors import RunError


def number(low, high, kind=(int, float)):
    """Whether a value is a number between two others, which count in."""
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


def is_a(kind):
    """Whether a value is of a type."""
    return lambda value: isinstance(value, kind)


def is_names(value):
    """Whether a value is a list of texts."""
    return isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value)


# What scoring and drawing need of run.json: a test, and what it expects.
SETTINGS = {
    "options": (is_a(dict), "an object"),
    "data": (is_a(dict), "an object"),
    "threshold": (number(0, 1), "a number from 0 to 1"),
    "temperature": (number(0.01, 100), "a number from 0.01 to 100"),
    "training_seconds": (lambda value: value is None or number(0, float("inf"))(value), "a number, or null"),
}
OPTIONS = {
    "network": (is_a(str), "a name"),
    "recipe": (is_a(str), "a name"),
    "weights": (is_a(str), "none, imagenet or a file"),
    "size": (number(1, 100_000, int), "a whole number above 0"),
    "resize": (lambda value: value in ("pad", "stretch"), "pad or stretch"),
    "epochs": (number(1, float("inf"), int), "a whole number above 0"),
    "study_type": (is_names, "a list of names"),
    "labels": (is_a((str, type(None))), "a file, or null"),
    "tuning_fraction": (number(0, 1), "a number from 0 to 1"),
    "seed": (number(0, 2**31, int), "a whole number"),
    "skip_unreadable": (is_a(bool), "true or false"),
}


def is_run(path):
    """Whether a path is a run folder."""
    return (Path(path) / "run.json").is_file()


def read(folder):
    """run.json of a run folder, checked: a dict with options, data, threshold and more.

    Raises: RunError when the folder holds no run, or run.json is not what it should be.
    """
    check_is_run(folder)
    file = Path(folder) / "run.json"
    settings = read_json(file)
    check_fields(file, settings, SETTINGS)
    check_fields(file, settings["options"], OPTIONS)
    check_fields(file, settings["data"], {"root": (is_a(str), "a folder")})
    left_out = settings["data"].get("left_out")
    if isinstance(left_out, dict):  # the first versions counted by part
        settings["data"]["left_out"] = sum(left_out.values())
    return settings


def check_is_run(folder):
    """Raise RunError unless a path is a run folder."""
    if not is_run(folder):
        found = "no such folder" if not Path(folder).exists() else "no run.json in it"
        raise RunError(f"{folder} is no run folder ({found}). Expected a folder that mura.py made, such as runs/NAME.")


def check_fields(file, found, expected):
    """Raise RunError unless fields of a part of run.json are as expected."""
    for name, (is_right, text) in expected.items():
        if not is_right(found.get(name)):
            raise RunError(f"{file}: {name!r} is {found.get(name)!r}; expected {text}. Restore it from a copy.")


def read_json(path):
    """Content of a JSON file of a run. Raises: RunError when it is missing or no JSON object."""
    try:
        content = json.loads(Path(path).read_text())
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}. Expected a file that our scripts write.") from None
    except ValueError as error:
        raise RunError(f"{path} is no JSON ({error}). Restore it from a copy, or train again.") from None
    if not isinstance(content, dict):
        raise RunError(f"{path} holds no JSON object. Restore it from a copy, or train again.")
    return content

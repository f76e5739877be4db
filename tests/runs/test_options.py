"""One line of the record of options drives the command line, --set, run.json, the card, resuming and hosts."""

import json

import pytest
from pydantic import ValidationError

from bones.runs import options as options_room
from bones.runs import recipes, record
from bones.runs.options import FIELDS, MAY_CHANGE, SETTINGS, SHARED, Options, expected, from_text
from bones.training import command_line


def test_every_field_has_a_help_and_is_an_option_or_a_setting():
    parser = command_line.build_parser("manual")
    flags = {action.dest: action for action in parser._actions}
    for name, field in FIELDS.items():
        assert field.description and expected(name)
        if field.json_schema_extra["flag"]:
            assert flags[name].help.startswith(field.description)
        else:
            assert name in SETTINGS or name == "hosts"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("size", "64", 64),
        ("learning_rate", "1e-3", 0.001),
        ("flip", "false", False),
        ("chosen", "last", "last"),
        ("devices", "auto", "auto"),
        ("devices", "2", 2),
    ],
)
def test_a_word_of_the_command_line_becomes_a_value(name, text, value):
    assert from_text(name, text) == value and type(from_text(name, text)) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "takes"),
    [
        ("size", "0", "a whole number above 0 and at most 100,000"),
        ("epochs", "1.5", "a whole number from 0"),
        ("ema", "1", "a number from 0 and below 1"),
        ("learning_rate", "nan", "a number above 0"),
        ("l2", "inf", "a number from 0"),
        ("flip", "maybe", "true or false"),
        ("schedule", "x", "one of constant, cosine, steps, plateau"),
        ("devices", "0", "auto, or a whole number above 0"),
        ("seed", "-1", "a whole number from 0"),
    ],
)
def test_a_wrong_word_says_what_the_field_takes(name, text, takes, capsys):
    with pytest.raises(ValueError, match=f"^{name} takes {takes}"):
        from_text(name, text)
    how = ["--set", f"{name}={text}"] if name in SETTINGS else [f"--{name.replace('_', '-')}={text}"]
    with pytest.raises(SystemExit) as error:
        command_line.parse(how)
    printed = capsys.readouterr().err
    assert error.value.code == 2 and (takes in printed or "invalid choice" in printed)


@pytest.mark.parametrize("value", [64.0, "64", True, 0, None])
def test_run_json_is_read_strictly(value, in_tmp):
    content = {"options": recipes.options("default").model_dump(mode="json"), "data": {"root": "."}}
    content["options"]["size"] = value
    (in_tmp / "run.json").write_text(json.dumps(content))
    with pytest.raises(record.RunError, match=r"run\.json: 'size' is .*; expected a whole number above 0 and at most 100,000"):
        record.read(in_tmp)


def test_the_record_is_immutable_and_changes_are_checked():
    options = recipes.options("default")
    with pytest.raises(ValidationError):
        options.size = 64
    assert options.changed(size=64).size == 64 and options.size == 320
    with pytest.raises(ValidationError):
        options.changed(size=0)
    with pytest.raises(ValidationError):
        options.changed(colour="blue")


def test_an_option_that_is_added_drives_everything(monkeypatch, in_tmp):
    """As a developer adds one: a field, and nothing else."""

    class More(Options):
        sharpness: options_room.Annotated[float, options_room.setting("how sharp", ge=0, lt=1)] = 0.25

    assert More.model_validate(recipes.options("default").model_dump()).sharpness == 0.25, "earlier runs load"
    field = More.model_fields["sharpness"]
    monkeypatch.setitem(FIELDS, "sharpness", field)
    assert expected("sharpness") == "a number from 0 and below 1" and from_text("sharpness", "0.5") == 0.5


def test_places_differ_between_hosts_and_data_and_devices_may_differ_on_resume():
    assert FIELDS.keys() - SHARED == {"data", "labels", "out"}
    assert {"data", "devices", "hosts", "out"} == MAY_CHANGE


def test_a_recipe_overrides_nothing_but_fields():
    for name, recipe in recipes.RECIPES.items():
        assert recipe().keys() <= FIELDS.keys() and recipes.options(name).recipe == name

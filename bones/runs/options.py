"""The record of options: each option of a training with its type, range, default and help, once.

The command line and --set, run.json, the model card, what may differ on resume and what hosts must agree on come from it. A
default is what a run did before the option existed, so that run.json of earlier versions loads; recipes say what they want.
"""

import dataclasses
from typing import Annotated, Literal, get_args, get_origin

import annotated_types  # pydantic's constraints
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError  # types and ranges, strictly

STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
SHARE = {"ge": 0, "lt": 1}
SCHEDULES = ("constant", "cosine", "steps", "plateau")  # what each does: training.trainer.SCHEDULES


def option(help, group="recipe", flag=True, resume=False, path=False, takes=None, metavar=None, requested=None, **rule):
    """What a field says of itself.

    Args:
        help: what it does, with its unit.
        group: of the command line's help.
        flag: whether it has an option of its own; the others are given to --set.
        resume: whether it may differ when a run is resumed.
        path: whether it is a place on this machine: hosts may differ in it, and no model card shows it.
        takes: what it takes in words, where type and range do not say it.
        metavar: of its value in the command line's help.
        requested: what a new command line starts from, where that is another value than an earlier run had.
        rule: pydantic's gt, ge, lt, le, min_length.
    """
    extra = {"group": group, "flag": flag, "resume": resume, "path": path, "takes": takes, "metavar": metavar}
    return Field(description=help, json_schema_extra=extra | {"requested": requested}, **rule)


def setting(help, **more):
    """An option without a flag of its own."""
    return option(help, flag=False, **more)


class Options(BaseModel):
    """Every option of a training. The record is immutable, see `changed`."""

    model_config = STRICT

    data: Annotated[
        str | None,
        option(
            "folder with train/ and valid/ as MURA unpacks; left out: phantoms are drawn",
            "data",
            resume=True,
            path=True,
            takes="a folder, or null",
            metavar="ROOT",
        ),
    ] = None
    study_type: Annotated[
        tuple[str, ...],
        option("study types to train on, or all", "data", takes="a list of names", metavar="XR_*", min_length=1),
    ] = ("XR_HUMERUS",)
    labels: Annotated[
        str | None,
        option(
            "study paths and labels that override those of the folders' names",
            "data",
            path=True,
            takes="a file, or null",
            metavar="FILE.csv",
        ),
    ] = None
    tuning_fraction: Annotated[
        float,
        option(
            "share of train/'s patients kept for choosing epoch, threshold and temperature", "data", metavar="F", gt=0, lt=1
        ),
    ] = 0.1
    skip_unreadable: Annotated[bool, option("leave out views that do not decode instead of stopping", "data")] = False
    demo: Annotated[bool, option("a small phantom set and settings for two CPU cores", "data")] = False

    recipe: Annotated[str, option("named settings, see bones/runs/recipes.py", "network")] = "default"
    network: Annotated[str, option("architecture", "network", takes="the name of a network")]
    weights: Annotated[
        str,
        option(
            "starting weights: random, ImageNet's, or a file's",
            "network",
            takes="none, imagenet or a file",
            metavar="none|imagenet|FILE",
        ),
    ]
    size: Annotated[int, option("side of the square input, pixels", "network", metavar="PX", gt=0, le=100_000)]
    resize: Annotated[
        Literal["pad", "stretch"],
        option("fit the long side and pad with black, or squeeze both sides", "network"),
    ]

    epochs: Annotated[int, option("passes over the training views", "training", metavar="N", gt=0, le=1_000_000)]
    batch_size: Annotated[int, option("views a step and device", "training", metavar="N", gt=0, le=1_000_000)]
    learning_rate: Annotated[float, option("Adam's, before the recipe's schedule", "training", metavar="X", gt=0, le=1e38)]
    accumulation: Annotated[
        int,
        option(
            "average the gradients of N batches for each change of the weights: as if a batch were N times as large, but for "
            "batch normalisation, in the memory of one",
            "training",
            metavar="N",
            gt=0,
            le=10_000,
        ),
    ] = 1
    devices: Annotated[
        Literal["auto"] | Annotated[int, Field(gt=0, le=10_000)],
        option(
            "devices that train together: auto is all GPUs; the learning rate stays as it is",
            "training",
            resume=True,
            takes="auto, or a whole number above 0 and at most 10000",
            metavar="auto|N",
            requested="auto",
        ),
    ] = 1
    hosts: Annotated[int, option("hosts that train together", "hosts", flag=False, resume=True, gt=0)] = 1
    precision: Annotated[
        Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"],
        option("arithmetic; auto is mixed_bfloat16 where the processor has it", "training"),
    ] = "auto"
    seed: Annotated[
        int,
        option("draws the tuning patients, weights, order and augmentation", "training", metavar="N", ge=0, lt=2**31),
    ] = 0

    schedule: Annotated[Literal[SCHEDULES], setting("of the learning rate")]
    flip: Annotated[bool, setting("mirror half of the training views left to right")]
    rotation: Annotated[float, setting("turn training views by up to so many degrees either way", ge=0, le=180)]
    class_weighted: Annotated[bool, setting("weigh the loss so that both classes of a study type count the same")]
    standardise: Annotated[bool, setting("bring each view to mean 0 and standard deviation 1 in the network")] = False
    statistics_views: Annotated[
        int, setting("training views that batch statistics are taken from after each epoch; 0: none", ge=0)
    ] = 0
    shift: Annotated[float, setting("move training views by up to this share of their side", **SHARE)] = 0.0
    zoom: Annotated[float, setting("enlarge or shrink training views by up to this share", **SHARE)] = 0.0
    contrast: Annotated[float, setting("change training views' contrast by up to this share", **SHARE)] = 0.0
    brightness: Annotated[float, setting("change their brightness by up to this share of white", **SHARE)] = 0.0
    erasing: Annotated[float, setting("cover a random rectangle of this share of training views", **SHARE)] = 0.0
    mixup: Annotated[float, setting("alpha of Beta(alpha, alpha), which two training views are mixed by; 0: none", ge=0)] = 0.0
    label_smoothing: Annotated[float, setting("labels become this / 2 and 1 - this / 2 in the loss", **SHARE)] = 0.0
    weight_decay: Annotated[float, setting("AdamW's: kernels shrink by this share of the rate every step", ge=0)] = 0.0
    l2: Annotated[float, setting("the loss gains this times the sum of the kernels' squares", ge=0)] = 0.0
    ema: Annotated[float, setting("momentum of averaged weights, which are scored and saved; 0: none", **SHARE)] = 0.0
    dropout: Annotated[float, setting("share of features dropped before the last unit", **SHARE)] = 0.0
    chosen: Annotated[Literal["best", "last"], setting("epoch that best.h5 is of: best by tuning AUROC, or last")] = "best"
    stochastic_depth: Annotated[float, setting("share of a dense layer's views whose new features are dropped", **SHARE)] = 0.0
    synchronised: Annotated[bool, setting("batch normalisation over the views of all devices (JAX does so anyway)")] = False
    flip_averaging: Annotated[bool, setting("score a view by the mean with its mirror image's probability")] = False

    out: Annotated[
        str | None,
        option(
            "run folder to make (default runs/RECIPE-DATE-TIME)",
            "output",
            resume=True,
            path=True,
            takes="a folder, or null",
            metavar="FOLDER",
        ),
    ] = None

    def changed(self, **values):
        """The same options with other values, checked. Raises: pydantic.ValidationError."""
        return Options.model_validate(self.model_dump() | values)

    @property
    def global_batch_size(self):
        """Views that all devices of all hosts together take in one step."""
        return self.batch_size * self.devices * self.hosts


FIELDS = Options.model_fields
SETTINGS = [name for name, field in FIELDS.items() if field.json_schema_extra["group"] == "recipe"]  # given to --set
SHARED = {name for name, field in FIELDS.items() if not field.json_schema_extra["path"]}  # the same wherever a run lies
MAY_CHANGE = {name for name, field in FIELDS.items() if field.json_schema_extra["resume"]}
ADAPTERS = {}  # name -> pydantic.TypeAdapter, made when a text is converted


def choices(name):
    """What a field of few values takes, or None."""
    kind = FIELDS[name].annotation
    return get_args(kind) if get_origin(kind) is Literal else None


def number(value):
    """A bound as text: 0.5, 100,000."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def expected(name):
    """What a field takes, in words: a number from 0 to below 1."""
    field = FIELDS[name]
    if field.json_schema_extra["takes"]:
        return field.json_schema_extra["takes"]
    if choices(name):
        return "one of " + ", ".join(choices(name))
    if field.annotation not in (int, float):
        return {bool: "true or false"}.get(field.annotation, "a text")
    words = {
        annotated_types.Gt: "above",
        annotated_types.Ge: "from",
        annotated_types.Lt: "below",
        annotated_types.Le: "at most",
    }
    bounds = [f"{words[type(rule)]} {number(dataclasses.astuple(rule)[0])}" for rule in field.metadata if type(rule) in words]
    return ("a whole number " if field.annotation is int else "a number ") + " and ".join(bounds)


def from_text(name, text):
    """Value of a field from a word of the command line. Raises: ValueError, which says what the field takes."""
    adapter = ADAPTERS.setdefault(name, TypeAdapter(FIELDS[name].rebuild_annotation(), config=ConfigDict(allow_inf_nan=False)))
    try:
        return adapter.validate_strings(text, strict=False)
    except ValidationError:
        raise ValueError(f"{name} takes {expected(name)}, and is {text!r}") from None

"""The options of a training run, each defined once with its type, range, default and help.

The command line and --set, run.json, the model card, and the checks on resume and between hosts are derived from it. A
default reproduces runs from before the option existed, so that run.json of earlier versions loads; recipes set their own.
"""

import dataclasses
from typing import Annotated, Literal, get_args, get_origin

import annotated_types  # pydantic's constraints
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError  # types and ranges, strictly

from bones.data.source import LAYOUT, LAYOUTS, POSITIVE, Source

STRICT = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
SHARE = {"ge": 0, "lt": 1}
SCHEDULES = ("constant", "cosine", "steps", "plateau")  # what each does: training.trainer.SCHEDULES


def option(help, group="recipe", flag=True, resume=False, path=False, takes=None, metavar=None, requested=None, **rule):
    """A field with its metadata.

    Args:
        help: what it does, with its unit.
        group: its group in the command line's help.
        flag: whether it has its own command-line option; others are set by --set.
        resume: whether it may differ when a run is resumed.
        path: whether it is a path on this machine: hosts may differ in it, and model cards omit it.
        takes: description of valid values, where type and range are not enough.
        metavar: name of its value in the command line's help.
        requested: default of the command line, where it differs from that of earlier runs.
        rule: pydantic's gt, ge, lt, le, min_length.
    """
    extra = {"group": group, "flag": flag, "resume": resume, "path": path, "takes": takes, "metavar": metavar}
    return Field(description=help, json_schema_extra=extra | {"requested": requested}, **rule)


def as_tuple(value):
    """A list as a tuple, which JSON does not have, and a text as a tuple of one, as earlier versions recorded a data root."""
    return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def setting(help, **more):
    """An option without its own command-line option."""
    return option(help, flag=False, **more)


class Options(BaseModel):
    """Every option of a training. The record is immutable, see `changed`."""

    model_config = STRICT

    data: Annotated[
        tuple[str, ...] | None,
        BeforeValidator(as_tuple),
        option(
            "folder with train/ and valid/ as in MURA, or several as one; default: phantoms are generated",
            "data",
            resume=True,
            path=True,
            takes="a list of folders, or null",
            metavar="ROOT",
        ),
    ] = None
    layout: Annotated[
        Literal[LAYOUTS],
        option(LAYOUT, "data"),
    ] = "mura"
    positive: Annotated[
        str | None,
        option(POSITIVE, "data", takes="a text, or null", metavar="NAME"),
    ] = None
    study_type: Annotated[
        tuple[str, ...],
        option(
            "study types to train on, or all (tables and classes: all; paper: all)",
            "data",
            takes="a list of names",
            metavar="XR_*",
            min_length=1,
        ),
    ] = ("XR_HUMERUS",)
    labels: Annotated[
        str | None,
        option(
            "table of study paths and labels that overrides the folder names",
            "data",
            path=True,
            takes="a file, or null",
            metavar="FILE.csv",
        ),
    ] = None
    tuning_fraction: Annotated[
        float,
        option(
            "share of train/'s patients held out to select epoch, threshold and temperature", "data", metavar="F", gt=0, lt=1
        ),
    ] = 0.1
    skip_unreadable: Annotated[bool, option("skip views that cannot be decoded instead of stopping", "data")] = False
    demo: Annotated[bool, option("a small phantom set and settings for two CPU cores", "data")] = False

    recipe: Annotated[str, option("named settings, see bones/runs/recipes.py", "network")] = "default"
    network: Annotated[
        str,
        option(
            "architecture: densenet169, densenet169_k12, efficientnet_lite0, inception_v3, or any of keras.applications, such "
            "as MobileNetV3Small",
            "network",
            takes="the name of a network",
            metavar="NAME",
        ),
    ]
    weights: Annotated[
        str,
        option(
            "starting weights: random, ImageNet's, of a file of Keras 2 or 3 (.h5, .keras), of a PyTorch DenseNet (.pth, "
            ".safetensors), or of a run's best network; a run's tuning patients stay out of training",
            "network",
            takes="none, imagenet, a file or a run folder",
            metavar="none|imagenet|FILE|RUN",
        ),
    ]
    size: Annotated[int, option("side of the square input, pixels", "network", metavar="PX", gt=0, le=100_000)]
    resize: Annotated[
        Literal["pad", "stretch", "stretch_linear", "stretch_nearest"],
        option(
            "scale the long side to fit and pad with black, or stretch both sides; linear and nearest interpolate without "
            "smoothing, as earlier systems did",
            "network",
        ),
    ]

    epochs: Annotated[
        int, option("number of epochs; 0 fits the output layer alone", "training", metavar="N", ge=0, le=1_000_000)
    ]
    batch_size: Annotated[int, option("views per step and device", "training", metavar="N", gt=0, le=1_000_000)]
    learning_rate: Annotated[float, option("Adam's, before the recipe's schedule", "training", metavar="X", gt=0, le=1e38)]
    accumulation: Annotated[
        int,
        option(
            "average the gradients of N batches for each weight update: equivalent to a batch N times as large, except for "
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
            "devices that train together: auto is all GPUs; the learning rate does not change",
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
        option("precision policy; auto is mixed_bfloat16 where the hardware supports it", "training"),
    ] = "auto"
    seed: Annotated[
        int,
        option("random seed of tuning patients, weights, order and augmentation", "training", metavar="N", ge=0, lt=2**31),
    ] = 0

    schedule: Annotated[Literal[SCHEDULES], setting("learning rate schedule")]
    flip: Annotated[bool, setting("flip half of the training views horizontally")]
    rotation: Annotated[float, setting("rotate training views by up to this many degrees either way", ge=0, le=180)]
    class_weighted: Annotated[bool, setting("weight the loss so that both classes of a study type count equally")]
    standardise: Annotated[bool, setting("normalise each view to mean 0 and standard deviation 1 in the network")] = False
    statistics_views: Annotated[
        int, setting("training views used to re-estimate batch statistics after each epoch; 0: none", ge=0)
    ] = 0
    shift: Annotated[float, setting("translate training views by up to this share of their side", **SHARE)] = 0.0
    zoom: Annotated[float, setting("enlarge or shrink training views by up to this share", **SHARE)] = 0.0
    contrast: Annotated[float, setting("change training views' contrast by up to this share", **SHARE)] = 0.0
    brightness: Annotated[float, setting("change training views' brightness by up to this share of white", **SHARE)] = 0.0
    erasing: Annotated[float, setting("erase a random rectangle in this share of training views", **SHARE)] = 0.0
    mixup: Annotated[float, setting("alpha of Beta(alpha, alpha), the mixing ratio of two training views; 0: none", ge=0)] = 0.0
    label_smoothing: Annotated[float, setting("labels become this / 2 and 1 - this / 2 in the loss", **SHARE)] = 0.0
    weight_decay: Annotated[float, setting("AdamW's: kernels shrink by this share of the rate every step", ge=0)] = 0.0
    l2: Annotated[float, setting("L2 penalty: this times the sum of squared kernels is added to the loss", ge=0)] = 0.0
    ema: Annotated[float, setting("momentum of the averaged weights that are scored and saved; 0: none", **SHARE)] = 0.0
    dropout: Annotated[float, setting("share of features dropped before the output layer", **SHARE)] = 0.0
    pooling: Annotated[
        Literal["avg", "avg_max"], setting("last features pooled over positions by their mean, or by mean and maximum")
    ] = "avg"
    frozen: Annotated[int, setting("blocks of the network, from its input, that training does not change", ge=0)] = 0
    frozen_normalisation: Annotated[
        bool, setting("batch normalisation keeps the starting network's statistics, scale and offset, also in training")
    ] = False
    head_first: Annotated[bool, setting("fit the output layer to the starting network's features before the first epoch")] = (
        False
    )
    chosen: Annotated[
        Literal["best", "last", "lowest_loss"],
        setting("epoch saved as best.h5: best by tuning AUROC, last, or of the lowest tuning loss"),
    ] = "best"
    stochastic_depth: Annotated[float, setting("share of views whose new features a dense layer drops", **SHARE)] = 0.0
    synchronised: Annotated[bool, setting("batch normalisation over the views of all devices (always on JAX)")] = False
    flip_averaging: Annotated[bool, setting("score a view by the mean of its and its mirror image's probability")] = False

    out: Annotated[
        str | None,
        option(
            "run folder to create (default runs/RECIPE-DATE-TIME)",
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
    def source(self):
        """The Source of its data."""
        return Source(self.data, self.layout, self.positive)

    @property
    def global_batch_size(self):
        """Views per step over all devices and hosts."""
        return self.batch_size * self.devices * self.hosts


FIELDS = Options.model_fields
SETTINGS = [name for name, field in FIELDS.items() if field.json_schema_extra["group"] == "recipe"]  # given to --set
SHARED = {name for name, field in FIELDS.items() if not field.json_schema_extra["path"]}  # independent of where a run is stored
MAY_CHANGE = {name for name, field in FIELDS.items() if field.json_schema_extra["resume"]}
ADAPTERS = {}  # name -> pydantic.TypeAdapter, created on first use


def choices(name):
    """The values of a field with a fixed set, or None."""
    kind = FIELDS[name].annotation
    return get_args(kind) if get_origin(kind) is Literal else None


def number(value):
    """A bound as text: 0.5, 100,000."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def expected(name):
    """Description of a field's valid values: a number from 0 and below 1."""
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
    """Value of a field from a command-line argument. Raises: ValueError, which says what the field takes."""
    adapter = ADAPTERS.setdefault(name, TypeAdapter(FIELDS[name].rebuild_annotation(), config=ConfigDict(allow_inf_nan=False)))
    try:
        return adapter.validate_strings(text, strict=False)
    except ValidationError:
        raise ValueError(f"{name} takes {expected(name)}, and is {text!r}") from None

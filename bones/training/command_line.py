"""mura.py's command line: what it says, what the recipe says where it is silent, and what a resumed run says instead.

Reading it has no effects: hosts, devices, precision and the clock are session.py's.
"""

import argparse
import dataclasses
import os

from bones.networks.catalogue import NETWORKS
from bones.runs import recipes, record
from bones.system import hosts, scripts
from bones.system.errors import HostsError, RunError
from bones.system.scripts import positive

# What holds where neither the command line nor the recipe says otherwise.
DEFAULTS = {
    "data": None,
    "study_type": ["XR_HUMERUS"],
    "labels": None,
    "tuning_fraction": 0.1,
    "skip_unreadable": False,
    "recipe": "default",
    "precision": "auto",
    "seed": 0,
    "devices": "auto",
    "hosts": 1,
    "demo": False,
}
# The demo: DenseNet-169 at a size that trains, scores and plots on two CPU cores within five minutes.
DEMO = {"weights": "none", "size": 64, "epochs": 2, "batch_size": 16, "rotation": 0}
MAY_CHANGE = ("data", "devices")  # when a run goes on; where it lies and its hosts may, too
PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    options: dict  # every option by name; of a run that goes on, as it was trained, but for MAY_CHANGE
    devices: str | int  # asked for: auto, or how many
    out: str | None  # run folder; None: named by recipe and time
    resume: bool  # whether to go on with the run in `out`
    plan: hosts.Plan  # hosts that train together


def parse(argv, description=None):
    """The command line as a Request; ends the script with status 2 where it is wrong.

    What the command line says beats the demo's settings, which beat the recipe's, which beat DEFAULTS.

    Raises: RunError when a run to go on with cannot be read.
    """
    parser = build_parser(description)
    given = {name: value for name, value in vars(parser.parse_args(argv)).items() if value is not None}
    given |= dict(given.pop("set", []))
    plan = host_plan(parser, given.pop("hosts", None), given.pop("host_number", None))
    resume, out = given.pop("resume", False), given.pop("out", None)
    options = resumed_options(parser, given, out) if resume else new_options(parser, given)
    return Request(options, given.get("devices", options["devices"]), out, resume, plan)


def new_options(parser, given):
    """Options of a new run."""
    recipe = recipes.RECIPES[given.get("recipe", DEFAULTS["recipe"])]()
    demo = DEMO if given.get("demo") else {}
    options = {**DEFAULTS, **dataclasses.asdict(recipe), **demo, **given}
    if options["demo"] and options["data"]:
        parser.error("--demo brings its own data: leave out --data or --demo.")
    try:
        recipes.check(options | {"devices": 1})  # they are not counted yet
    except ValueError as error:
        parser.error(f"{error}.")
    return options


def build_parser(description):
    """Every option, with None where it is left out."""
    parser = scripts.parser(description)
    add_data_options(parser.add_argument_group("data"))
    add_network_options(parser.add_argument_group("network (left out: the recipe decides)"))
    add_training_options(parser.add_argument_group("training"))
    output = parser.add_argument_group("output")
    output.add_argument("--out", metavar="FOLDER", help="run folder to make (default runs/RECIPE-DATE-TIME)")
    output.add_argument("--resume", action="store_true", help="go on with the run in --out, with its own options")
    return parser


def add_data_options(group):
    """What is trained on."""
    group.add_argument(
        "--data", metavar="ROOT", help="folder with train/ and valid/ as MURA unpacks; left out: phantoms are drawn"
    )
    group.add_argument("--study-type", nargs="+", metavar="XR_*", help="study types to train on, or all (default XR_HUMERUS)")
    group.add_argument(
        "--labels",
        type=os.path.abspath,
        metavar="FILE.csv",
        help="study paths and labels that override those of the folders' names",
    )
    group.add_argument(
        "--tuning-fraction",
        type=fraction,
        metavar="F",
        help="share of train/'s patients kept for choosing epoch, threshold and temperature (default 0.1)",
    )
    group.add_argument(
        "--skip-unreadable", action="store_true", default=None, help="leave out views that do not decode instead of stopping"
    )
    group.add_argument("--demo", action="store_true", default=None, help="a small phantom set and settings for two CPU cores")


def add_network_options(group):
    """What is trained, and from which weights."""
    group.add_argument("--recipe", choices=recipes.RECIPES, help="named settings, see bones/runs/recipes.py (default default)")
    group.add_argument(
        "--set",
        type=recipe_setting,
        nargs="+",
        action="extend",
        metavar="NAME=VALUE",
        help=f"settings of the recipe without an option of their own: {', '.join(recipes.FREE)}",
    )
    group.add_argument("--network", choices=NETWORKS, help="architecture")
    group.add_argument("--weights", metavar="none|imagenet|FILE", help="starting weights: random, ImageNet's, or a file's")
    group.add_argument(
        "--size", type=positive(int), metavar="PX", help="side of the square input, pixels (recipe default: 320)"
    )
    group.add_argument(
        "--resize", choices=("pad", "stretch"), help="fit the long side and pad with black, or squeeze both sides"
    )


def add_training_options(group):
    """How it is trained."""
    group.add_argument("--epochs", type=positive(int), metavar="N", help="passes over the training views (recipe default: 52)")
    group.add_argument("--batch-size", type=positive(int), metavar="N", help="views a step and device (recipe default: 8)")
    group.add_argument(
        "--devices",
        type=number_of_devices,
        metavar="auto|N",
        help="devices that train together: auto is all GPUs (default auto); the learning rate stays as it is",
    )
    group.add_argument(
        "--hosts",
        metavar="N@ADDRESS:PORT|slurm",
        help="hosts that train together, on JAX, each running this command: how many meet at the first one's address, or what "
        "Slurm says; --out is on a disk that all share",
    )
    group.add_argument(
        "--host-number",
        type=int,
        metavar="N",
        help="which of the hosts this is, from 0 (default: what Slurm or Kubernetes says)",
    )
    group.add_argument(
        "--accumulation",
        type=positive(int),
        metavar="N",
        help="average the gradients of N batches for each change of the weights: as if a batch were N times as large, but for "
        "batch normalisation, in the memory of one (recipe default: 1)",
    )
    group.add_argument("--learning-rate", type=positive(float), metavar="X", help="Adam's, before the recipe's schedule")
    group.add_argument(
        "--precision", choices=PRECISIONS, help="arithmetic; auto is mixed_bfloat16 where the processor has it (default auto)"
    )
    group.add_argument(
        "--seed", type=seed, metavar="N", help="draws the tuning patients, weights, order and augmentation (default 0)"
    )


def recipe_setting(text):
    """argparse type: a setting of the recipe."""
    try:
        return recipes.setting(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def number_of_devices(text):
    """argparse type: auto, or an int above 0."""
    if text == "auto":
        return text
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is neither auto nor a whole number above 0")
    return int(text)


def seed(text):
    """argparse type: an int that random number generators take."""
    value = int(text)
    if not 0 <= value < 2**31:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {2**31 - 1}")
    return value


def fraction(text):
    """argparse type: a float above 0 and below 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def host_plan(parser, text, number):
    """What --hosts and --host-number say."""
    try:
        return hosts.plan(text, number)
    except HostsError as error:
        parser.error(str(error))


def resumed_options(parser, given, out):
    """Options of the run in --out; only --data may differ, for data that has moved, and --devices and --hosts, which share the
    same views a step.
    """
    if out is None:
        parser.error("--resume needs --out with the folder of the run to go on with.")
    settings = record.read(out)
    options = trained_options(settings["options"], out)
    changed = [name for name, value in given.items() if name not in MAY_CHANGE and options.get(name) != value]
    if changed:
        names = ", ".join(f"--set {name}" if name in recipes.FREE else "--" + name.replace("_", "-") for name in changed)
        parser.error(f"--resume goes on with the run's own options; it cannot change {names}. Start a new run for that.")
    return {**options, "data": given.get("data", settings["data"]["root"])}


def trained_options(recorded, out):
    """Options as run.json has them, whole. Raises: RunError when they are not such as a run is trained with."""
    fields = dataclasses.fields(recipes.Recipe)
    later = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING}
    # A run of an earlier version lacks the options that came later, and trained on one device.
    options = {**DEFAULTS, "devices": 1, **later, **recorded}
    missing = sorted({field.name for field in fields} - options.keys())
    if missing:
        raise RunError(f"{out}/run.json lacks the options {', '.join(missing)}. Restore it from a copy.")
    try:
        recipes.check(options)
        if options["network"] not in NETWORKS or options["precision"] not in PRECISIONS:
            raise ValueError(f"nobody knows the network {options['network']!r} or the precision {options['precision']!r}")
    except ValueError as error:
        raise RunError(f"{out}/run.json: {error}. Restore it from a copy.") from None
    return options

"""mura.py's command line, made from the record of options: what it says, and what recipe or resumed run say where it is silent.

Reading it has no effects: hosts, devices, precision and the clock are session.py's.
"""

import argparse
import dataclasses
import os

from bones.networks.catalogue import NETWORKS
from bones.runs import recipes, record
from bones.runs.options import FIELDS, MAY_CHANGE, SETTINGS, Options, choices, from_text
from bones.system import hosts, scripts
from bones.system.errors import HostsError, RunError

# The demo: DenseNet-169 at a size that trains, scores and plots on two CPU cores within five minutes.
DEMO = {"weights": "none", "size": 64, "epochs": 2, "batch_size": 16, "rotation": 0.0}
REGISTRIES = {"recipe": recipes.RECIPES, "network": NETWORKS}  # names to choose from
GROUPS = {
    "data": "data",
    "network": "network (left out: the recipe decides)",
    "training": "training",
    "output": "output",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    options: Options  # of a run that is resumed, as it was trained, but for MAY_CHANGE
    devices: str | int  # asked for: auto, or how many
    out: str | None  # run folder; None: named by recipe and time
    resume: bool  # whether to resume the run in `out`
    plan: hosts.Plan  # hosts that train together


def parse(argv, description=None):
    """The command line as a Request; ends the script with status 2 where it is wrong.

    What the command line says beats the demo's settings, which beat the recipe's, which beat the fields' defaults.

    Raises: RunError when a run to resume cannot be read.
    """
    parser = build_parser(description)
    given = vars(parser.parse_args(argv))
    given |= dict(given.pop("set", []))
    plan = host_plan(parser, given.pop("hosts", None), given.pop("host_number", None))
    if given.pop("resume", False):
        options = resumed_options(parser, given)
        return Request(options, given.get("devices", options.devices), given["out"], True, plan)
    if given.get("demo") and given.get("data"):
        parser.error("--demo brings its own data: leave out --data or --demo.")
    demo = DEMO if given.get("demo") else {}
    given = {name: as_field(value) for name, value in given.items()}
    options = recipes.options(given.pop("recipe", "default"), **demo | given)
    return Request(options, given.get("devices", "auto"), options.out, False, plan)


def build_parser(description):
    """Every option, absent where it is left out."""
    parser = scripts.parser(description)
    parser.argument_default = argparse.SUPPRESS
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    for name, field in FIELDS.items():
        if field.json_schema_extra["flag"]:
            add_option(groups[field.json_schema_extra["group"]], name, field)
    named = f"settings of the recipe without an option of their own: {', '.join(SETTINGS)}"
    groups["network"].add_argument("--set", type=setting, nargs="+", action="extend", metavar="NAME=VALUE", help=named)
    groups["training"].add_argument(
        "--hosts",
        metavar="N@ADDRESS:PORT|slurm",
        help="hosts that train together, on JAX, each running this command: how many meet at the first one's address, or what "
        "Slurm says; --out is on a disk that all share",
    )
    number = "which of the hosts this is, from 0 (default: what Slurm or Kubernetes says)"
    groups["training"].add_argument("--host-number", type=int, metavar="N", help=number)
    groups["output"].add_argument("--resume", action="store_true", help="resume the run in --out, with its own options")
    return parser


def add_option(group, name, field):
    """Add the option of a field: its flag, type, choices and help."""
    flag, said = "--" + name.replace("_", "-"), field.description + default_of(name, field)
    if field.annotation is bool:
        group.add_argument(flag, action="store_true", help=said)
    elif name in REGISTRIES or choices(name):
        group.add_argument(flag, choices=REGISTRIES.get(name) or choices(name), help=said)
    else:
        many = {"nargs": "+"} if name == "study_type" else {}
        convert = os.path.abspath if name == "labels" else str if many else checked(name)
        group.add_argument(flag, type=convert, metavar=field.json_schema_extra["metavar"], help=said, **many)


def default_of(name, field):
    """The end of an option's help: what holds where it is left out."""
    requested = field.json_schema_extra["requested"] or field.default
    if field.is_required():
        return f" (recipe default: {recipes.RECIPES['default']()[name]})"
    if requested is None or requested is False:
        return ""
    return f" (default {' '.join(requested) if isinstance(requested, tuple) else requested})"


def checked(name):
    """argparse type: a value of a field."""

    def convert(text):
        try:
            return from_text(name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def setting(text):
    """argparse type: (name, value) of NAME=VALUE, for a setting without an option of its own."""
    name, _, value = text.partition("=")
    if name not in SETTINGS:
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=VALUE with one of {', '.join(SETTINGS)}")
    return name, checked(name)(value)


def host_plan(parser, text, number):
    """What --hosts and --host-number say."""
    try:
        return hosts.plan(text, number)
    except HostsError as error:
        parser.error(str(error))


def resumed_options(parser, given):
    """Options of the run in --out, with those of MAY_CHANGE as given: data may have moved, devices share a step's views."""
    if "out" not in given:
        parser.error("--resume needs --out with the folder of the run to resume.")
    kept = record.read(given["out"])
    changed = [
        name for name, value in given.items() if name not in MAY_CHANGE and getattr(kept.options, name) != as_field(value)
    ]
    if changed:
        names = ", ".join(f"--set {name}" if name in SETTINGS else "--" + name.replace("_", "-") for name in changed)
        parser.error(f"--resume takes the run's own options; it cannot change {names}. Start a new run for that.")
    if kept.options.network not in NETWORKS:
        raise RunError(f"{given['out']}/run.json: the network {kept.options.network!r} is unknown. Restore it from a copy.")
    return kept.options.changed(data=given.get("data", kept.data.root))


def as_field(value):
    """A value of the command line as a field has it: argparse makes lists, and the record has tuples."""
    return tuple(value) if isinstance(value, list) else value

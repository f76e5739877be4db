"""mura.py's command line, built from the options: given values, and defaults from the recipe or the resumed run.

Parsing has no side effects: session.py handles hosts, devices, precision and time.
"""

import argparse
import dataclasses
import os

from bones.data import source
from bones.networks.catalogue import NETWORKS, named
from bones.runs import recipes, record
from bones.runs.options import FIELDS, MAY_CHANGE, SETTINGS, Options, choices, from_text
from bones.system import hosts, scripts
from bones.system.errors import HostsError, RunError

# Demo: DenseNet-169 at a size that trains, scores and plots on two CPU cores within five minutes.
DEMO = {"weights": "none", "size": 64, "epochs": 2, "batch_size": 16, "rotation": 0.0}
REGISTRIES = {"recipe": recipes.RECIPES}  # names to choose from
GROUPS = {
    "data": "data",
    "network": "network (default: the recipe's)",
    "training": "training",
    "output": "output",
}


@dataclasses.dataclass(frozen=True)
class Request:
    """A parsed command line."""

    options: Options  # of a resumed run: its own, except for MAY_CHANGE
    devices: str | int  # requested: auto, or a number
    out: str | None  # run folder; None: named after recipe and time
    resume: bool  # whether to resume the run in `out`
    plan: hosts.Plan  # hosts that train together


def parse(argv, description=None):
    """The command line as a Request; exits with status 2 where it is invalid.

    The command line overrides the demo's settings, which override the recipe's, which override the fields' defaults.

    Raises: RunError when a run to resume cannot be read.
    """
    parser = build_parser(description)
    given = vars(parser.parse_args(argv))
    given |= dict(given.pop("set", []))
    take_source(parser, given)
    plan = host_plan(parser, given.pop("hosts", None), given.pop("host_number", None))
    if given.pop("resume", False):
        options = resumed_options(parser, given)
        return Request(options, given.get("devices", options.devices), given["out"], True, plan)
    if given.get("demo") and given.get("data"):
        parser.error("--demo uses its own data: omit --data, --table or --demo.")
    demo = DEMO if given.get("demo") else {}
    given = {name: as_field(value) for name, value in given.items()}
    options = recipes.options(given.pop("recipe", "default"), **demo | given)
    return Request(options, given.get("devices", "auto"), options.out, False, plan)


def build_parser(description):
    """Parser of all options; omitted ones are absent from the result."""
    parser = scripts.parser(description)
    parser.argument_default = argparse.SUPPRESS
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    for name, field in FIELDS.items():
        if field.json_schema_extra["flag"]:
            add_option(groups[field.json_schema_extra["group"]], name, field)
    groups["data"].add_argument("--table", nargs="+", metavar="FILE.csv", help=source.TABLE)
    named = f"recipe settings without their own option: {', '.join(SETTINGS)}"
    groups["network"].add_argument("--set", type=setting, nargs="+", action="extend", metavar="NAME=VALUE", help=named)
    groups["training"].add_argument(
        "--hosts",
        metavar="N@ADDRESS:PORT|slurm",
        help="hosts that train together, on JAX, each running this command: their number and the first one's address, or "
        "Slurm's; --out is on a shared disk",
    )
    number = "index of this host, from 0 (default: from Slurm or Kubernetes)"
    groups["training"].add_argument("--host-number", type=int, metavar="N", help=number)
    groups["output"].add_argument("--resume", action="store_true", help="resume the run in --out with its own options")
    return parser


def take_source(parser, given):
    """Put what --data or --table and --layout say together into the parsed options."""
    found = source.of_options(parser, *(given.get(name) for name in ("data", "table", "layout", "positive")))
    given.pop("table", None)
    if found:
        given["data"] = found.paths
    if found and found.layout != "mura" and "resume" not in given:
        given["layout"] = found.layout
        given.setdefault("study_type", ["all"])  # few of them name study types


def add_option(group, name, field):
    """Add the option of a field: its flag, type, choices and help."""
    flag, text = "--" + name.replace("_", "-"), field.description + default_of(name, field)
    if field.annotation is bool:
        group.add_argument(flag, action="store_true", help=text)
    elif name in REGISTRIES or choices(name):
        group.add_argument(flag, choices=REGISTRIES.get(name) or choices(name), help=text)
    else:
        many = {"nargs": "+"} if name in ("data", "study_type") else {}
        converters = {"labels": os.path.abspath, "network": network_name}
        convert = converters.get(name) or (str if many else checked(name))
        group.add_argument(flag, type=convert, metavar=field.json_schema_extra["metavar"], help=text, **many)


def default_of(name, field):
    """The end of an option's help: its default."""
    requested = field.json_schema_extra["requested"] or field.default
    if field.is_required():
        return f" (recipe default: {recipes.RECIPES['default']()[name]})"
    if requested is None or requested is False:
        return ""
    return f" (default {' '.join(requested) if isinstance(requested, tuple) else requested})"


def network_name(text):
    """argparse type: the name of a network."""
    try:
        return named(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def checked(name):
    """argparse type: a value of a field."""

    def convert(text):
        try:
            return from_text(name, text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def setting(text):
    """argparse type: (name, value) of NAME=VALUE, for a setting without its own option."""
    name, _, value = text.partition("=")
    if name not in SETTINGS:
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=VALUE with one of {', '.join(SETTINGS)}")
    return name, checked(name)(value)


def host_plan(parser, text, number):
    """The hosts.Plan of --hosts and --host-number."""
    try:
        return hosts.plan(text, number)
    except HostsError as error:
        parser.error(str(error))


def resumed_options(parser, given):
    """Options of the run in --out, with those of MAY_CHANGE as given: data may have moved, devices may differ."""
    if "out" not in given:
        parser.error("--resume requires --out, the folder of the run to resume.")
    kept = record.read(given["out"])
    changed = [
        name for name, value in given.items() if name not in MAY_CHANGE and getattr(kept.options, name) != as_field(value)
    ]
    if changed:
        names = ", ".join(f"--set {name}" if name in SETTINGS else "--" + name.replace("_", "-") for name in changed)
        parser.error(f"--resume uses the run's own options; it cannot change {names}. Start a new run for that.")
    if kept.options.network not in NETWORKS:
        raise RunError(f"{given['out']}/run.json: the network {kept.options.network!r} is unknown. Restore it from a copy.")
    return kept.options.changed(data=as_field(given.get("data", kept.data.roots)))


def as_field(value):
    """A value of the command line as a field value: argparse makes lists, the options have tuples."""
    return tuple(value) if isinstance(value, list) else value

"""Where views come from: the paths of data roots, and how they are read. It imports no other module, so command lines may."""

import dataclasses

LAYOUTS = ("mura", "classes", "table")
TABLE = "tables of images, in place of --data: columns path, label, and if known patient, study, split, study_type"
LAYOUT = (
    "how --data is read: MURA's folders; classes: one folder a class, as in train/fractured, and no patients; table: as --table"
)
POSITIVE = "the positive (abnormal) class of --layout classes or --table, where its name does not say it"


@dataclasses.dataclass(frozen=True)
class Source:
    """One data root, or several as one; `roots.data_roots` opens it."""

    paths: tuple  # folders, or tables
    layout: str = "mura"  # of LAYOUTS
    positive: str | None = None  # the positive class of classes and tables whose names do not say it
    unsplit: str = "train"  # split of the views of classes and tables that name none

    @property
    def words(self):
        """The words of a command line that select it."""
        words = ["--table" if self.layout == "table" else "--data", *self.paths]
        words += ["--layout", "classes"] if self.layout == "classes" else []
        return words + (["--positive", self.positive] if self.positive else [])


def add_options(group):
    """Add the options --table, --layout and --positive to an argparse group."""
    group.add_argument("--table", nargs="+", metavar="FILE.csv", help=TABLE)
    group.add_argument("--layout", choices=LAYOUTS, help=f"{LAYOUT} (default mura)")
    group.add_argument("--positive", metavar="NAME", help=POSITIVE)


def of_options(parser, data, table, layout, positive):
    """The Source of parsed options, None where they name no data; exits with status 2 where they contradict each other."""
    if table and (data or (layout or "table") != "table"):
        parser.error("--table stands for --data and --layout: omit these.")
    layout = "table" if table else layout or "mura"
    if layout != "mura" and not (table or data):
        parser.error(f"--layout {layout} says how to read --data: name its folder.")
    if positive and layout == "mura":
        parser.error(
            "--positive is for --layout classes and --table: in MURA's layout, study folders have labels in their names."
        )
    return Source(tuple(table or data), layout, positive) if table or data else None

"""Load a folder of studies as a table of views and grey pixels, and check a data root before training.

    python data_loader.py --check MURA-v1.1        counts beside MURA's own; unreadable images, duplicates, label leaks
    python data_loader.py --check SET --layout classes    the same of a set with one folder a class, such as train/fractured
    python data_loader.py --table FILE.csv                the same of a table of images

Functions for other programs, which do not import Keras:

    views = find_views("MURA-v1.1", "train", ["XR_HUMERUS"])   a pandas.DataFrame, one row a view
    train, tuning = split_by_patient(views, 0.1, seed=0)       no patient is in both
    train, pixels = load_pixels(train, 320, "pad")             (n, 320, 320, 1) uint8, mapped from disk, not loaded
    weights = class_weights(train)                             (n,): both classes of a study type count the same

Exit status: 0 no error was found that would invalidate training; 1 one was, or the root cannot be read; 2 a wrong command line.
"""

import importlib
import sys

from bones.data import source
from bones.system import scripts
from bones.system.errors import DataError

# Name -> its module, imported on first access, since pandas alone takes half a second.
PUBLIC = {
    "find_views": "bones.data.views",
    "split_by_patient": "bones.data.splits",
    "class_weights": "bones.data.splits",
    "load_pixels": "bones.data.pixels",
    "read_labels": "bones.data.labels",
}
__all__ = ["DataError", *PUBLIC]


def __getattr__(name):
    if name not in PUBLIC:
        raise AttributeError(f"module 'data_loader' has no attribute {name!r}")
    return getattr(importlib.import_module(PUBLIC[name]), name)


@scripts.command
def main(argv=None):
    """Check a data root, or several as one; returns the exit status."""
    parser = scripts.parser(__doc__)
    roots = "data root to read and check; several are checked as one"
    parser.add_argument("--check", nargs="*", metavar="ROOT", help=roots)
    source.add_options(parser)
    parser.add_argument("--study-type", nargs="+", default=["all"], metavar="XR_*", help="study types (default: all)")
    parser.add_argument("--labels", metavar="FILE.csv", help="corrections to apply first: study paths and labels")
    pairs = "picture of images that look alike in both splits or under both labels"
    parser.add_argument("--pairs", metavar="FILE.png", help=pairs)
    options = parser.parse_args(argv)
    found = source.of_options(parser, options.check, options.table, options.layout, options.positive)
    if not found:
        parser.error("name a data root as --check ROOT, or a table of images as --table FILE.csv.")
    with scripts.importing(keras=False):
        from bones.data import check
    report, wrong = check.check_root(found, options.study_type, options.labels, options.pairs)
    print(report)
    if not wrong:
        types = ["all"] if "all" in options.study_type else options.study_type
        labels = ["--labels", options.labels] if options.labels else []
        scripts.print_next("mura.py", *found.words, "--study-type", *types, *labels)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(scripts.run(main))

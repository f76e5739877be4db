"""From a folder of studies to a table of views and checked grey pixels; and a report on a data root before anyone trains.

    python data_loader.py --check MURA-v1.1        counts beside MURA's own; what is broken, blank, doubled or telltale

What other programs may import, without Keras:

    views = find_views("MURA-v1.1", "train", ["XR_HUMERUS"])   one row a view; the currency of the whole repository
    train, tuning = split_by_patient(views, 0.1, seed=0)       nobody is in both
    train, pixels = load_pixels(train, 320, "pad")             (n, 320, 320, 1) uint8, mapped from disk, not loaded
    weights = class_weights(train)                             (n,): both classes of a study type count the same

Exit status: 0 nothing was found that would make training wrong; 1 something was, or the root cannot be read; 2 a wrong command
line.
"""

import importlib
import sys

from bones.system import scripts
from bones.system.errors import DataError

# Name -> the module that has it: imported when it is asked for, since pandas alone takes half a second.
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
    """Check a data root as the command line says; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("--check", required=True, metavar="ROOT", help="data root to read whole and report on")
    parser.add_argument("--study-type", nargs="+", default=["all"], metavar="XR_*", help="study types (default: all)")
    parser.add_argument("--labels", metavar="FILE.csv", help="corrections to apply first: study paths and labels")
    options = parser.parse_args(argv)
    with scripts.importing(keras=False):
        from bones.data import check
    report, wrong = check.check_root(options.check, options.study_type, options.labels)
    print(report)
    if not wrong:
        types = ["all"] if "all" in options.study_type else options.study_type
        labels = ["--labels", options.labels] if options.labels else []
        scripts.print_next("mura.py", "--data", options.check, "--study-type", *types, *labels)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(scripts.run(main))

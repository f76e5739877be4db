"""Draw synthetic upper-arm radiographs in MURA's layout, see bones/data/phantoms/sets.py.

    python -m tools.phantoms --out data/phantom --train-studies 400 --held-out-studies 120 --seed 0

Exit status: 0 done; 1 a set that cannot be drawn or written; 2 a wrong command line.
"""

import sys

from bones.system import scripts
from bones.system.errors import PhantomError


@scripts.command
def main(argv=None):
    """Draw a set; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("--out", default="data/phantom", help="data root to make (default %(default)s)")
    parser.add_argument("--train-studies", type=int, default=400, metavar="N", help="studies in train/ (default %(default)s)")
    parser.add_argument(
        "--held-out-studies", type=int, default=120, metavar="N", help="studies in valid/ (default %(default)s)"
    )
    parser.add_argument(
        "--size", type=int, default=512, metavar="PX", help="long side of an image, pixels (default %(default)s)"
    )
    parser.add_argument(
        "--severity",
        type=float,
        default=1.0,
        metavar="X",
        help="factor on gaps and shifts; lower is harder (default %(default)s)",
    )
    parser.add_argument(
        "--zoom", type=float, default=1.0, metavar="X", help="magnification; higher is easier (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed of the set (default %(default)s)")
    parser.add_argument("--sheet", metavar="FILE", help="also draw some of the images side by side into a .png")
    options = vars(parser.parse_args(argv))
    sheet, out = options.pop("sheet"), options["out"]
    if sheet and not sheet.endswith(".png"):
        parser.error(f"--sheet {sheet}: expected a name that ends in .png")
    with scripts.importing(keras=False):
        from bones.data.phantoms import sets
    try:
        truth = sets.draw_set(**options)
        if sheet:
            sets.contact_sheet(out, sheet)
    except OSError as error:
        raise PhantomError(f"{out} cannot be written ({error.strerror}). Make room, or pass another --out.") from None
    print(f"Drew {len(truth)} views ({truth['label'].sum()} positive) into {out}.")
    scripts.print_next("mura.py", "--data", out, "--weights", "none")


if __name__ == "__main__":
    sys.exit(scripts.run(main))

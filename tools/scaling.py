"""Scaling of time and memory with the number of views, and of speed with hosts: the tables of docs/scaling.md.

    python -m tools.scaling --views 1272 36808 1000000 --out runs/scaling     measured, from MURA's humerus to a million
    python -m tools.scaling --rate 400 --network 10 --disk 1                  estimated, from one host to 64

Phantoms at 64 px are drawn once and copied with unique bytes and patients. Each stage then runs in a separate process, whose
time and memory are measured. Copies are in the system's file cache: a slow disk takes additional time.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from tqdm import tqdm  # progress bar

from bones.data.phantoms import sets as phantom
from bones.scores.text import markdown_table
from bones.system import backend, scripts
from bones.system.errors import BenchmarkError
from bones.system.files import whole_folder

SIZE = 64
BATCH_SIZE = 8
HOSTS = (1, 2, 4, 8, 16, 32, 64)
DRAWN = 250  # studies that are copied
# In this order: each stage uses files of the stages before it.
STAGES = ("nothing", "find", "check", "decode", "start again", "first batch", "epoch")


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    options = parse_options(argv)
    backend.choose()
    if options.stage:
        print(json.dumps(measure(options.stage, Path(options.out))))
    elif options.rate:
        print(markdown_table(estimate(options.rate, options.devices, options.network, options.disk)))
    else:
        print(measured(options.views, Path(options.out).absolute()))


def parse_options(argv):
    """Parse and check the command line."""
    parser = scripts.parser(__doc__)
    parser.add_argument("--views", nargs="+", type=int, default=[1272, 36808], metavar="N", help="sizes of the training set")
    parser.add_argument("--out", default="runs/scaling", metavar="FOLDER", help="folder for the images (default %(default)s)")
    parser.add_argument("--rate", type=float, metavar="X", help="training speed of a device, views/s: estimate only")
    parser.add_argument("--devices", type=int, default=1, metavar="N", help="devices per host (default %(default)s)")
    parser.add_argument("--network", type=float, default=10, metavar="GBIT", help="Gbit/s between hosts (default %(default)s)")
    parser.add_argument(
        "--disk", type=float, default=1, metavar="GB", help="GB/s of the disk that all share (default %(default)s)"
    )
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if min([*options.views, options.devices, options.network, options.disk, 1 if options.rate is None else options.rate]) <= 0:
        parser.error("expected numbers above 0.")
    return options


# ---------------------------------------------------------------------------------------------------------------------
# Scaling with views


def measured(counts, out):
    """Markdown tables of time and memory of each stage, for each number of views."""
    rows = []
    for count in counts:
        copy_films(out / "drawn", out / str(count), count)
        rows += [{"views": count, "stage": stage, **in_a_process(stage, out / str(count))} for stage in STAGES]
    table = pd.DataFrame(rows)
    shown = as_rows(table, "seconds", "{:.2f} s"), as_rows(table, "resident", "{:.0f} MB")
    return "\n\n".join(markdown_table(each) for each in shown)


def as_rows(table, column, form):
    """Table rows, one per stage, with a column for each number of views."""
    wide = table.pivot(index="stage", columns="views", values=column).loc[list(STAGES)]
    return [
        {"Stage": stage} | {f"{count:,} views": form.format(value) for count, value in row.items()}
        for stage, row in wide.iterrows()
    ]


def copy_films(drawn, root, count):
    """Create a data root with `count` training views, unless it exists."""
    if root.is_dir():
        return
    if not drawn.is_dir():
        phantom.draw_set(drawn, train_studies=DRAWN, held_out_studies=4, size=SIZE, seed=0)
    studies = [
        (study, [image.read_bytes() for image in sorted(study.iterdir())]) for study in sorted(drawn.glob("train/*/*/*"))
    ]
    made, bar = 0, tqdm(total=count, desc="Copying images", unit="view", leave=False, disable=None)
    with whole_folder(root) as partial, bar:
        while made < count:
            study, images = studies[made % len(studies)]
            folder = partial / "train" / "XR_HUMERUS" / f"patient{made:07d}" / study.name
            folder.mkdir(parents=True)
            for view, content in enumerate(images[: count - made]):
                # Bytes after the last PNG chunk are ignored, and make each file unique.
                (folder / f"image{view + 1}.png").write_bytes(content + made.to_bytes(4, "big"))
                made += 1
            bar.update(len(images))


def in_a_process(stage, root):
    """Run `measure` in a new process, to measure the memory of this stage only."""
    command = [sys.executable, "-m", "tools.scaling", "--stage", stage, "--out", str(root)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise BenchmarkError(f"the stage {stage!r} of {root} ended with status {done.returncode}; see its message above.")
    return json.loads(done.stdout.splitlines()[-1])


def measure(stage, root):
    """Run one stage. Returns: {"seconds", "resident"}: its time, and the peak memory of the process in MB."""
    from bones.data import check as data_check
    from bones.data.pixels import load_pixels
    from bones.data.roots import data_roots
    from bones.data.views import find_views, fingerprint
    from bones.networks.batches import Batches
    from bones.runs import recipes
    from bones.runs.data import load_parts

    options = recipes.options("default", data=str(root), size=SIZE)
    os.chdir(root)  # the cache goes to data/cache in it
    if stage in ("check", "decode"):
        views = find_views(root, "train")
    elif stage in ("first batch", "epoch"):
        (views, pixels), *_ = load_parts(options.source, options)
        batches = Batches(pixels, BATCH_SIZE, views["label"], shuffle_seed=0)
    start = time.perf_counter()
    if stage == "find":
        find_views(root, "train")
    elif stage == "check":
        data_check.check(data_roots(root), views, [])
    elif stage == "decode":
        load_pixels(views, SIZE, "pad")
    elif stage == "start again":  # everything in training before the network is built
        for views, _ in load_parts(options.source, options)[:2]:
            fingerprint(views, root)
    elif stage == "first batch":
        batches[0]
    elif stage == "epoch":
        batches.on_epoch_end()
        for place in range(len(batches)):
            batches[place]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


# ---------------------------------------------------------------------------------------------------------------------
# Scaling with hosts


def estimate(rate, devices, gbit, disk):
    """Estimate the training speed of the default recipe on several hosts.

    A step is the computation and then the all-reduce of gradients, for which each of n hosts in a ring sends 2 (n - 1) / n
    times their size, without overlap. The next batch is read at the same time, by all hosts from one disk without caching.

    Args:
        rate: training speed of a device, views/s.
        devices: number per host.
        gbit: network bandwidth of a host, Gbit/s.
        disk: read bandwidth of all hosts together, GB/s.
    Returns: rows of a table.
    """
    from bones.networks import catalogue
    from bones.runs import recipes

    recipe = recipes.options("default")
    gradients = 4 * catalogue.build(recipe.network, recipe.size).count_params()  # bytes, float32
    rows = []
    for hosts in HOSTS:
        views = recipe.batch_size * devices * hosts
        parts = {
            "computing": recipe.batch_size / rate,
            "network": 2 * (hosts - 1) / hosts * gradients / (gbit * 1e9 / 8),
            "disk": views * recipe.size**2 / (disk * 1e9),
        }
        step = max(parts["computing"] + parts["network"], parts["disk"])
        row = {"Hosts": hosts, "Views a step": views, "Steps an epoch of 36,808": 36808 // views}
        row |= {f"{part}, ms": f"{1000 * seconds:.1f}" for part, seconds in parts.items()}
        row |= {"Views a second": f"{views / step:,.0f}"}
        row |= {"Of hosts times one's": f"{views / step / (rate * devices * hosts):.0%}", "Most": max(parts, key=parts.get)}
        rows.append(row)
    return rows


if __name__ == "__main__":
    sys.exit(scripts.run(main))

"""Copy a finished run into a folder for a repository: best.h5 with kernels of 16 bits, and no path of this machine.

    python -m tools.publish runs/light-0 --out weights/fracatlas

The copy is a run folder. Its weights are rounded, so score the copy, not the run: its scores are those of the file that users
load. Only run.json, history.csv, best.h5 and the model card are copied.
Exit status: 0 done; 1 an error of the run or the folder; 2 a wrong command line.
"""

import json
import sys
from pathlib import Path

import h5py  # copies best.h5
import numpy as np

from bones.runs import card, record
from bones.runs.folder import RunFolder
from bones.system import scripts
from bones.system.errors import FileError, RunError
from bones.system.files import whole_folder


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("run", help="finished run folder of mura.py")
    parser.add_argument("--out", type=Path, required=True, help="folder to create")
    options = parser.parse_args(argv)
    publish(RunFolder.open(options.run), options.out)
    scripts.print_next("model_test.py", options.out, "--data", "ROOT")


def publish(run, out):
    """Copy a finished run. Raises: RunError when it is not finished or not in .h5; FileError when the folder exists."""
    if not run.record().finished:
        raise RunError(f"{run.path} has not finished its training. Resume it with mura.py --out {run.path} --resume.")
    if run.network_file().name != "best.h5":
        raise RunError(f"{run.path} contains {run.network_file().name}. Only a best.h5 is copied; copy the folder itself.")
    if out.exists():
        raise FileError(f"{out} exists. Remove it, or pass another --out.")
    content = without_paths(record.read_json(run / "run.json"))
    with whole_folder(out) as partial:
        copy_in_half(run / "best.h5", partial / "best.h5")
        (partial / "history.csv").write_bytes((run / "history.csv").read_bytes())
        (partial / "run.json").write_text(json.dumps(content, indent=2) + "\n")
    card.write(RunFolder.open(out))


def without_paths(content):
    """run.json without folders of this machine: of data roots and the run folder, only the names are left."""
    for part, name in (("data", "roots"), ("options", "data")):
        content[part][name] = [Path(root).name for root in content[part][name]]
    content["options"]["out"] = content["options"]["out"] and Path(content["options"]["out"]).name
    return content


def copy_in_half(source, target):
    """Copy a .h5 network with its kernels as 16-bit floats, compressed; Keras loads them into 32 bits.

    Vectors stay as they are: those of batch normalisation are a thousandth of the weights, and variances can be tiny.
    """

    def copy(name, entry):
        if isinstance(entry, h5py.Group):
            copied = out.require_group(name)
        elif entry.ndim > 1 and entry.dtype == np.float32:
            copied = out.create_dataset(name, data=entry[()].astype(np.float16), compression="gzip", shuffle=True)
        else:
            copied = out.create_dataset(name, data=entry[()])
        for key, value in entry.attrs.items():
            copied.attrs[key] = value

    with h5py.File(source) as file, h5py.File(target, "w") as out:
        copy("/", file)
        file.visititems(copy)


if __name__ == "__main__":
    sys.exit(scripts.run(main))

"""Train a network to classify radiographs in MURA's layout as Positive (abnormal) or Negative (normal).

    python mura.py --data MURA-v1.1                   the default recipe: DenseNet-169, batch 8, 52 epochs, XR_HUMERUS
    python mura.py --data MURA-v1.1 --recipe paper    MURA's baseline; see bones/runs/recipes.py
    python mura.py --demo                             synthetic radiographs, small: minutes on two CPU cores
    python mura.py --out runs/NAME --resume           resume a stopped run

A run folder contains all results: best.h5 (the last or the best epoch, depending on the recipe), last.h5, history.csv, run.json
and resume/. Where .h5 does not hold the network, best.keras and last.keras take the place of the first two.
Ctrl-C or SIGTERM saves the state after the current step; a second one stops immediately.
Exit status: 0 done, or stopped with its state saved; 1 invalid data or checkpoint, or a loss that is not finite; 2 invalid
command line; 130 stopped before training, or immediately.
"""

import sys

from bones.system import scripts
from bones.training import command_line


@scripts.command
def main(argv=None):
    """Train according to the command line; returns the exit status."""
    request = command_line.parse(argv, __doc__)
    # OpenVINO computes features faster, and a run of no epochs needs no gradients.
    fits_only = request.options.epochs == 0 and request.plan.count == 1 and request.devices in ("auto", 1)
    with scripts.importing(preferred="openvino" if fits_only else None):
        from bones.training import session
    return session.train(request)


if __name__ == "__main__":
    sys.exit(scripts.run(main))

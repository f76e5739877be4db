"""Train a network to call radiographs in MURA's layout Positive (abnormal) or Negative (normal).

    python mura.py --data MURA-v1.1                   the default recipe: DenseNet-169, batch 8, 52 epochs, XR_HUMERUS
    python mura.py --data MURA-v1.1 --recipe paper    MURA's baseline; see bones/runs/recipes.py
    python mura.py --demo                             synthetic radiographs, small: minutes on two CPU cores
    python mura.py --out runs/NAME --resume           go on with a run that stopped

A run folder holds all that comes out: best.h5 (of the last epoch or the best one, as the recipe says), last.h5, history.csv,
run.json and resume/.
Ctrl-C or SIGTERM saves the state after the step at hand; a second one stops at once.
Exit status: 0 done, or stopped with its state saved; 1 a fault of data, checkpoint or numbers; 2 a wrong command line; 130
stopped before the training, or at once.
"""

import sys

from bones.system import scripts
from bones.training import command_line


@scripts.command
def main(argv=None):
    """Train as the command line says; returns the exit status."""
    request = command_line.parse(argv, __doc__)
    with scripts.importing():
        from bones.training import session
    return session.train(request)


if __name__ == "__main__":
    sys.exit(scripts.run(main))

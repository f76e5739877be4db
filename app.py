"""A web page that classifies one study: upload its views, and see their probabilities, heat maps and the study's decision.

    python app.py                                 weights/fracatlas on http://127.0.0.1:7860, on this machine only
    python app.py runs/NAME                       a run of yours
    python app.py runs/NAME --host 0.0.0.0        for everyone who can reach this machine

Views are decoded and checked as in model_test.py, and removed after the response. DICOM files of several studies get an
answer for each. The page loads nothing from other hosts.
This is research software, not a medical device.
Exit status: 0 stopped by Ctrl-C; 1 an error of checkpoint, address or packages; 2 a wrong command line.
"""

import os
import sys

from bones.runs import record
from bones.system import scripts


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    parser = scripts.parser(__doc__)
    shipped = "run folder of mura.py (default: weights/fracatlas, which comes with this repository)"
    parser.add_argument("run", nargs="?", default=str(record.SHIPPED), metavar="RUN", help=shipped)
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 is every address of it (default %(default)s)",
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default %(default)s)")
    options = parser.parse_args(argv)
    if not 1 <= options.port <= 65535:
        parser.error(f"--port {options.port} is not between 1 and 65535")
    with scripts.importing():  # not OpenVINO, which has no gradients for heat maps
        from bones.runs.folder import RunFolder
        from bones.serving import server
    server.serve(RunFolder.open(options.run), options.host, options.port)


if __name__ == "__main__":
    status = scripts.run(main)
    sys.stdout.flush()
    os._exit(status)  # not sys.exit, which would crash threads that are still responding

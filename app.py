"""A web page for one study: drop its views, and read each view's probability and heat map and the study's decision.

    python app.py runs/NAME                       http://127.0.0.1:7860, for this machine alone
    python app.py runs/NAME --host 0.0.0.0        for everyone who reaches this machine

Views are decoded and checked as model_test.py does, and removed as soon as they are answered. The page fetches nothing from
outside. This is research software, not a medical device.
Exit status: 0 stopped by Ctrl-C; 1 a fault of checkpoint, address or packages; 2 a wrong command line.
"""

import os
import sys

from bones.system import scripts


@scripts.command
def main(argv=None):
    """Serve as the command line says; returns the exit status."""
    parser = scripts.parser(__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder that mura.py made")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 is all of this machine's (default %(default)s)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen at (default %(default)s)")
    options = parser.parse_args(argv)
    if not 1 <= options.port <= 65535:
        parser.error(f"--port {options.port} is not between 1 and 65535")
    with scripts.importing():  # not OpenVINO, which has no gradients for the maps
        from bones.runs.folder import RunFolder
        from bones.serving import server
    server.serve(RunFolder.open(options.run), options.host, options.port)


if __name__ == "__main__":
    status = scripts.run(main)
    sys.stdout.flush()
    os._exit(status)  # not sys.exit: the end of the interpreter would crash a thread that is still answering

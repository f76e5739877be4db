"""Ctrl-C and SIGTERM, which schedulers send before they kill, end every script in order: a line, and exit status 130."""

import os
import signal
import sys
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def quit_at_once():
    """While a script imports its libraries, where an exception would come out as a traceback of theirs."""

    def leave(number, frame):
        os.write(2, b"stopped\n")
        os._exit(130)

    for number in SIGNALS:
        signal.signal(number, leave)


def run(main):
    """Exit status of a script's main, which either signal interrupts."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: stopped", file=sys.stderr)
        return 130

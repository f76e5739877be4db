"""What every script shares: its parser, its signals, the moment when it imports its libraries, and how it ends.

Exit status: 0 done; 1 a fault, told in one message; 2 a wrong command line; 130 stopped by Ctrl-C or SIGTERM, which schedulers
send before they kill.
"""

import argparse
import contextlib
import functools
import inspect
import os
import shlex
import signal
import sys
from pathlib import Path

from bones.system import backend
from bones.system.errors import BonesError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_at_exit = []  # functions of the exit status


def parser(description):
    """An argparse parser whose help begins with a script's docstring, its manual."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )


def positive(kind):
    """argparse type: an int or float above 0."""

    def convert(text):
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    convert.__name__ = kind.__name__
    return convert


def command(main):
    """Decorates a script's main, `f(argv) -> exit status or None`: an error of ours, or of the system, becomes one line."""
    name = Path(inspect.getfile(main)).name

    @functools.wraps(main)
    def ending(argv=None):
        status = 1
        try:
            status = main(argv) or 0
        except (BonesError, OSError) as error:
            status = getattr(error, "exit_status", 1)
            print(f"{name}: {error}", file=sys.stderr)
        except SystemExit as end:  # of the command line
            status = end.code
            raise
        finally:
            while _at_exit:
                _at_exit.pop()(status)
        return status

    return ending


def on_exit(function):
    """Have a script call a function with its exit status when it ends, after its message."""
    _at_exit.append(function)


def run(main):
    """Exit status of a script's main, which either signal interrupts."""
    for number in SIGNALS:  # SIGINT, too: a shell starts what runs in the background with Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: stopped", file=sys.stderr)
        return 130


@contextlib.contextmanager
def importing(preferred=None, keras=True):
    """Where a script imports its libraries, once its command line is read.

    Under `run`, Ctrl-C ends the process at once: an exception in the middle of an import would come out as a traceback of the
    library's.

    Args:
        preferred: see `backend.choose`, which is called before.
        keras: whether Keras is among them.
    """
    if keras:
        backend.choose(preferred)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    under_run = all(handler is signal.default_int_handler for handler in before.values())
    if under_run:
        for number in SIGNALS:
            signal.signal(number, exit_immediately)
    try:
        yield
    finally:
        if under_run:
            for number, handler in before.items():
                signal.signal(number, handler)


def exit_immediately(number, frame):
    """Handler of a signal: ends the process without clean-up, of which there is nothing to do yet."""
    os.write(2, b"stopped\n")
    os._exit(130)


def print_next(*words):
    """Print the next command to type."""
    print("Next:", shlex.join(["python", *map(str, words)]))

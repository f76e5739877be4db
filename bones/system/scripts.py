"""What all scripts share: the argument parser, signal handling, delayed imports of libraries, and exit status.

Exit status: 0 done; 1 an error, reported in one message; 2 a wrong command line; 130 stopped by Ctrl-C or SIGTERM, which
schedulers send before SIGKILL.
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

from bones.system import backend, environment
from bones.system.errors import BonesError, FileError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_at_exit = []  # functions of the exit status


def parser(description):
    """An argparse parser whose help begins with a script's docstring."""
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
    """Decorates a script's main, `f(argv) -> exit status or None`: a BonesError or OSError becomes one line."""
    name = Path(inspect.getfile(main)).name

    @functools.wraps(main)
    def ending(argv=None):
        status = 1
        try:
            status = main(argv) or 0
            flush_output()
        except BrokenPipeError:  # whatever read our output has ended, such as head
            discard_output()
        except (BonesError, OSError) as error:
            status = getattr(error, "exit_status", 1)
            print(f"{name}: {error}", file=sys.stderr)
        except SystemExit as end:  # of the command line
            status = end.code
            raise
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
            print(f"{name}: memory ran out. End other programs, or take a machine with more memory.", file=sys.stderr)
        finally:
            while _at_exit:
                _at_exit.pop()(status)
        return status

    return ending


def flush_output():
    """Write what standard output still holds. Raises: FileError when it cannot be written, as on a full disk."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        raise FileError(f"standard output cannot be written: {error.strerror}.") from None


def discard_output():
    """Write no more to standard output: the interpreter would try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def on_exit(function):
    """Register a function that a script calls with its exit status when it ends, after its message."""
    _at_exit.append(function)


def run(main):
    """Exit status of a script's main, which either signal interrupts."""
    environment.open_standard_streams()
    for number in SIGNALS:  # SIGINT, too: a shell starts what runs in the background with Ctrl-C ignored
        signal.signal(number, signal.default_int_handler)
    try:
        return main()
    except KeyboardInterrupt:
        print(f"{Path(sys.argv[0]).name}: stopped", file=sys.stderr)
        return 130


@contextlib.contextmanager
def importing(preferred=None, keras=True):
    """Context in which a script imports its libraries, after its command line is parsed.

    Under `run`, Ctrl-C ends the process at once: an exception during an import would print the library's traceback.

    Args:
        preferred: see `backend.choose`, which is called before.
        keras: whether Keras is among them.
    """
    environment.prepare()
    if keras:
        backend.choose(preferred)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    under_run = all(handler is signal.default_int_handler for handler in before.values())
    if under_run:
        for number in SIGNALS:
            signal.signal(number, exit_immediately)
    try:
        with environment.without_notices() if keras and under_run else contextlib.nullcontext():
            if keras:
                backend.import_keras()
            yield
        environment.settle()
    finally:
        if under_run:
            for number, handler in before.items():
                signal.signal(number, handler)


def exit_immediately(number, frame):
    """Signal handler that ends the process without clean-up: there is nothing to clean up yet."""
    os.write(2, b"stopped\n")
    os._exit(130)


def print_next(*words):
    """Print the next command to run."""
    print("Next:", shlex.join(["python", *map(str, words)]))

"""Time training, scoring, loading and starting against other libraries, in one run of alternating rounds.

    python -m tools.benchmark                                     all tables: about half an hour on two cores
    python -m tools.benchmark --only train                        one part: load, train, score or start
    python -m tools.benchmark --only train --engine ours torch    some engines
    python -m tools.benchmark --network efficientnet_lite0        another network
    KERAS_BACKEND=jax python -m tools.benchmark                   ours and stock Keras on another backend, for a GPU

Each engine is warmed up first and then measured in rounds, one engine after the other in each round, because a machine's speed
drifts by more than the differences between engines. The median and range over the rounds are printed. Libraries that are not
installed are reported and left out (pip install -r requirements/benchmark.txt). Compare only within a run, and end other
programs before: a warning reports those that use the processor.
Exit status: 0 done; 1 an engine failed; 2 a wrong command line; 130 stopped by Ctrl-C or SIGTERM. The table and --json then
contain the rounds until then.
"""

import datetime
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bones.networks.catalogue import NETWORKS
from bones.scores.text import markdown_table
from bones.system import backend, machine, scripts
from bones.system.errors import BenchmarkError

# task -> [(engine, precision or file format)]. Engines of one precision are loaded at the same time, one running and the
# others waiting; two precisions at once would need too much memory.
ENGINES = {
    "load": [
        *((engine, form) for form in ("png", "jpeg") for engine in ("ours", "tf.data", "opencv")),
        ("ours", "cache"),
    ],
    "train": [
        *((engine, "bfloat16") for engine in ("ours", "keras", "torch", "torch.compile")),
        *((engine, "float32") for engine in ("ours", "keras", "torch")),
    ],
    "score": [
        *((engine, "bfloat16") for engine in ("ours", "ours, openvino", "keras", "torch", "openvino")),
        *((engine, "float32") for engine in ("ours", "keras", "onnxruntime")),
    ],
    "start": [(engine, "bfloat16") for engine in ("ours", "keras", "torch")],
}
WHAT = {"load": "decode, cold", "train": "views trained", "score": "views scored"}
FIRST = "from Enter to model_test.py's answer"
FIRST_ENGINES = {"ours": None, "ours, openvino": "openvino"}  # -> backend for scoring; None: the requested one
UNITS = {"warm start, 1,272 views": "s", "wait for a batch": "ms"}
UNITS |= {"resident, 1,272 views": "MB", "resident, 36,808 views": "MB"}
PEERS = "pip install -r requirements/benchmark.txt"
IN_TORCH = ("densenet169", "efficientnet_lite0")  # networks of tools/torch_networks.py
OF_TORCH = ("torch", "torch.compile", "openvino", "onnxruntime")  # engines that compute a network of IN_TORCH
BUSY = 0.1  # processors that other programs may use without a warning
CHECKOUT = Path(__file__).parents[1]


class Engine:
    """One engine in a separate process, which waits for requests."""

    def __init__(self, job):
        self.job, self.values, self.missing = job, [], None
        environment = dict(os.environ)
        if job["engine"] == "ours, openvino":
            environment["KERAS_BACKEND"] = "openvino"
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (open as long as the process runs)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.benchmark_peers", json.dumps(job)],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=environment,
        )

    def warm_up(self):
        """Wait until it is ready, or reports a missing library."""
        print(f"{self.job['task']}: warming up {self.job['engine']} ({self.job['precision']})", file=sys.stderr)
        self.missing = self.answer().get("missing")
        if self.missing:
            say_missing(self.job["task"], self.job["engine"], self.missing)

    def answer(self):
        """Read the next JSON line of the process."""
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            name = f"{self.job['task']}, {self.job['engine']} ({self.job['precision']})"
            raise BenchmarkError(f"{name} stopped with status {self.process.returncode}:\n{self.log.read()[-2000:]}")
        return json.loads(line)

    def measure(self):
        """Run one round."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.values.append(self.answer()["value"])

    def close(self):
        """Kill the process."""
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.log):
            file.close()


@scripts.command
def main(argv=None):
    """Run the command line; returns the exit status."""
    options = parse_options(argv)
    backend.choose()
    if os.environ.get("KERAS_BACKEND") == "openvino":
        raise BenchmarkError("KERAS_BACKEND is openvino, which cannot train and has its own rows. Unset it.")
    setting = {"device": machine.processor()["device"], "date": str(datetime.date.today())}
    setting |= {"network": options.network, "size": options.size, "batch_size": options.batch_size}
    print("{device}, {date}; {network}, {size} px, batch {batch_size}\n".format(**setting))
    results = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            for task in options.only:
                rows = []
                try:
                    measure(task, options, Path(folder), rows)
                finally:
                    results += [row | setting for row in rows]
                    if rows:
                        print(markdown_table(as_cells(rows)) + "\n", flush=True)
    finally:
        if options.json:
            Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
            print(f"Wrote {options.json}")


def parse_options(argv):
    """Parse and check the command line."""
    parser = scripts.parser(__doc__)
    engines = sorted({engine for pairs in ENGINES.values() for engine, _ in pairs})
    parser.add_argument(
        "--only", nargs="+", choices=ENGINES, default=list(ENGINES), metavar="TASK", help="load, train, score, start"
    )
    parser.add_argument(
        "--engine",
        nargs="+",
        choices=engines,
        default=engines,
        metavar="ENGINE",
        help=f"{', '.join(map(repr, engines))} (default: all)",
    )
    precisions = sorted({precision for pairs in ENGINES.values() for _, precision in pairs})
    parser.add_argument("--precision", nargs="+", choices=precisions, default=precisions, help="or file formats (default: all)")
    parser.add_argument("--network", choices=NETWORKS, default="densenet169", metavar="NAME", help="(default densenet169)")
    parser.add_argument("--rounds", type=scripts.positive(int), default=5, metavar="N", help="(default 5)")
    parser.add_argument("--size", type=int, default=320, metavar="PX", help="side of the square input (default 320)")
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="views per training step (default 8)")
    parser.add_argument("--json", metavar="FILE", help="also write the results to a file")
    options = parser.parse_args(argv)
    least = max(32, NETWORKS[options.network].least_size)
    if options.size < least or options.batch_size < 1:
        parser.error(f"--size takes {least} or more for {options.network}, --batch-size 1 or more.")
    if options.json:
        file = Path(options.json).absolute()
        if not file.parent.is_dir() or not os.access(file.parent, os.W_OK):
            parser.error(f"--json: {file.parent} is not a writable folder for {file.name}.")
        if file.is_dir():
            parser.error(f"--json: {file} is a folder; name a file.")
    if not any(chosen(task, options) or has_first_answer(task, options) for task in options.only):
        parser.error("no engine of these tasks matches --engine and --precision: nothing to measure.")
    return options


def chosen(task, options):
    """The requested (engine, precision) pairs of a task."""
    left_out = () if options.network in IN_TORCH or task == "load" else OF_TORCH
    pairs = [pair for pair in ENGINES[task] if pair[0] not in left_out]
    return [pair for pair in pairs if pair[0] in options.engine and pair[1] in options.precision]


def has_first_answer(task, options):
    """Whether to time the first prediction, which is part of the start task."""
    return task == "start" and "bfloat16" in options.precision and any(name in options.engine for name in FIRST_ENGINES)


def say_missing(task, engine, library):
    """Report that an engine is left out."""
    print(f"{task}: {engine} is left out, {library} is not installed: {PEERS}", file=sys.stderr)


def compare(jobs, rounds, unit, rows):
    """Warm up the jobs' engines and measure them in alternation.

    Appends one row for each engine and quantity to `rows`, also when it is stopped: of the rounds until then.
    """
    engines = []
    try:
        for job in jobs:
            engines.append(Engine(job))
            engines[-1].warm_up()
        present = [engine for engine in engines if not engine.missing]
        warn_if_busy()
        for place in range(rounds if present else 0):
            print(f"{jobs[0]['task']}: round {place + 1} of {rounds}", file=sys.stderr)
            for engine in present:
                engine.measure()
    finally:
        for engine in engines:
            engine.close()
        rows += [row for engine in engines if engine.values for row in as_rows(engine.job, engine.values, unit)]


def warn_if_busy():
    """Report what other programs use of the processor, while all engines wait."""
    try:
        import psutil  # use of the processor, on each system
    except ModuleNotFoundError:
        print(f"whether other programs use the processor is unknown, psutil is not installed: {PEERS}", file=sys.stderr)
        return
    busy = psutil.cpu_percent(interval=1) / 100 * psutil.cpu_count()
    if busy > BUSY:
        print(
            f"warning: other programs use {busy:.1f} of {psutil.cpu_count()} processors. End them: they change ratios, too.",
            file=sys.stderr,
        )


def as_rows(job, values, unit):
    """Rows of an engine's values: numbers, or dicts of numbers by quantity."""
    if isinstance(values[0], dict):
        tables = {what: [value[what] for value in values] for what in values[0]}
    else:
        tables = {WHAT[job["task"]]: values}
    return [
        {
            **{key: job[key] for key in ("task", "engine", "precision")},
            "what": what,
            "value": statistics.median(numbers),
            "low": min(numbers),
            "high": max(numbers),
            "unit": UNITS.get(what, unit),
            "rounds": len(numbers),
        }
        for what, numbers in tables.items()
    ]


# ---------------------------------------------------------------------------------------------------------------------
# Tasks


def measure(task, options, folder, rows):
    """Measure one task, and append its rows to `rows`."""
    same = {"task": task, "network": options.network, "size": options.size, "batch_size": options.batch_size}
    jobs = [same | {"engine": engine, "precision": precision} for engine, precision in chosen(task, options)]
    if task == "load" and jobs:
        films = draw_films(folder)
        jobs = [job | {"paths": films.get(job["precision"]), "folder": str(folder)} for job in jobs]
    if task == "start":  # each process can start only once
        for job in jobs:
            compare([job], 1, "s", rows)
        if has_first_answer(task, options):
            time_first_answer(folder, options, rows)
        return
    for group in dict.fromkeys(job["precision"] for job in jobs):
        compare([job for job in jobs if job["precision"] == group], options.rounds, "views/s", rows)


def draw_films(folder):
    """Draw the same phantoms in both formats: {"png": paths, "jpeg": paths}."""
    from PIL import Image

    from bones.data.phantoms import sets as phantom

    phantom.draw_set(folder / "films", train_studies=40, held_out_studies=2)
    png = sorted(str(path) for path in (folder / "films").rglob("*.png"))
    jpeg = [str(Path(path).with_suffix(".jpg")) for path in png]
    for before, after in zip(png, jpeg, strict=True):
        Image.open(before).save(after, quality=95)
    return {"png": png, "jpeg": jpeg}


def time_first_answer(folder, options, rows):
    """Time model_test.py from its start to its result on one image, by backend, and append to `rows`."""
    from bones.data.phantoms import sets as phantom

    print("start: training a network for one epoch for scoring", file=sys.stderr)
    phantom.draw_set(folder / "studies", train_studies=24, held_out_studies=4, size=128)
    run, film = folder / "run", next((folder / "studies" / "valid").rglob("*.png"))
    training = ["mura.py", "--data", folder / "studies", "--weights", "none", "--tuning-fraction", "0.3", "--epochs", "1"]
    run_script(*training, "--network", options.network, "--size", options.size, "--out", run)
    for engine in [name for name in FIRST_ENGINES if name in options.engine]:
        scoring = FIRST_ENGINES[engine] or os.environ.get("KERAS_BACKEND") or "tensorflow"
        if importlib.util.find_spec(scoring) is None:
            say_missing("start", engine, scoring)
            continue
        values = []
        try:
            for _ in range(options.rounds):
                start = time.perf_counter()
                run_script("model_test.py", run, film, scoring=scoring)
                values.append({FIRST: time.perf_counter() - start})
        finally:
            rows += as_rows({"task": "start", "engine": engine, "precision": "bfloat16"}, values, "s") if values else []


def run_script(*arguments, scoring=None):
    """Run a script of this repository, optionally on a given Keras backend."""
    environment = os.environ | ({"KERAS_BACKEND": scoring} if scoring else {})
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(done.stderr[-2000:])


# ---------------------------------------------------------------------------------------------------------------------
# Tables


def as_cells(rows):
    """Table cells of one task, with each engine's ratio to ours for the same quantity."""
    ours = {(row["what"], row["precision"]): row["value"] for row in rows if row["engine"] == "ours"}
    cells = []
    for row in rows:
        same = ours.get((row["what"], row["precision"]))
        share = f"{row['value'] / same:.2f}" if same and row["engine"] != "ours" else ""
        spread = f"{row['low']:.3g} to {row['high']:.3g}" if row["high"] > row["low"] else ""
        what = {rows[0]["task"]: row["engine"], "precision": row["precision"], "what": row["what"]}
        cells.append({**what, "median": f"{row['value']:.3g} {row['unit']}", "range": spread, "of ours": share})
    return cells


if __name__ == "__main__":
    sys.exit(scripts.run(main))

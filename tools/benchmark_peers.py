"""The same work with this repository, plain Keras, PyTorch, OpenVINO, OpenCV and tf.data, each in a separate process.

benchmark.py starts `python -m tools.benchmark_peers JOB`, where JOB is JSON, and reads JSON lines: first {"ready": true} when
the engine is warmed up, or {"missing": NAME} of a library; then {"value": ...} for every line that it sends. The jobs import
all libraries, including NumPy, after timing starts.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

TRAIN_STEPS = {"cpu": 8, "gpu": 160}  # steps per round
SCORED_VIEWS, SCORED_AT_ONCE = 64, 32


def random_views(size, count):
    """((count, size, size, 1) uint8, (count, 1) float32): speed does not depend on image content."""
    import numpy as np

    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, size, size, 1), np.uint8), rng.integers(0, 2, (count, 1)).astype(np.float32)


def speed(work, views):
    """Views per second of one call."""
    start = time.perf_counter()
    work()
    return views / (time.perf_counter() - start)


# ---------------------------------------------------------------------------------------------------------------------
# Train and score. Each function does the setup and returns a function, which a round calls and which returns its value.


def keras_network(job):
    """A network of this repository with random weights and Keras's own layers."""
    import keras

    from bones.networks import catalogue

    precision = job["precision"]
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bfloat16" else precision)
    return catalogue.build(job["network"], job["size"])


def compiled(job):
    """A compiled network: "ours" as mura.py trains it, including augmentation, or plain Keras without augmentation."""
    import keras

    network = keras_network(job)
    if job["engine"] == "ours":
        from bones.networks.acceleration import accelerate
        from bones.runs import recipes
        from bones.training import trainer as training

        options = recipes.options("default")
        return training.build_trainer(accelerate(network), options, steps_an_epoch=159)
    network.compile(keras.optimizers.Adam(3e-4), "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC()])
    return network


def train_keras(job):
    import numpy as np

    from bones.data.pixels import Rows
    from bones.networks.batches import Batches
    from bones.system import machine

    trainer = compiled(job)
    steps = TRAIN_STEPS["gpu" if machine.has_accelerator() else "cpu"]
    views, label = random_views(job["size"], job["batch_size"])
    rows = Rows(views, np.arange(steps * len(views)) % len(views))
    batches = Batches(rows, len(views), np.tile(label[:, 0], steps), shuffle_seed=0)
    return lambda: speed(lambda: trainer.fit(batches, verbose=0), len(rows))


def score_keras(job):
    from bones.networks.acceleration import accelerate
    from bones.networks.batches import predict

    network = keras_network(job)
    network = accelerate(network) if job["engine"].startswith("ours") else network
    views, _ = random_views(job["size"], SCORED_VIEWS)
    return lambda: speed(lambda: predict(network, views), len(views))


def torch_network(job):
    """(peer, (n, 1, size, size) views, labels, autocast) on the GPU if available, else on the CPU."""
    import torch

    from tools import torch_networks

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    views, label = random_views(job["size"], job["batch_size"])
    views = torch.tensor(views).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last).to(device)
    peer = torch_networks.NETWORKS[job["network"]]().to(device, memory_format=torch.channels_last)
    autocast = torch.autocast(device.type, torch.bfloat16) if job["precision"] == "bfloat16" else contextlib.nullcontext()
    return peer, views, torch.tensor(label).to(device), autocast


def train_torch(job):
    import torch

    peer, views, label, autocast = torch_network(job)
    optimizer = torch.optim.Adam(peer.parameters(), 3e-4)
    forward = torch.compile(peer) if job["engine"] == "torch.compile" else peer

    def work(steps):
        for _ in range(steps):
            with autocast:
                logits = forward(views)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()  # synchronises with a GPU

    some = TRAIN_STEPS["gpu" if views.is_cuda else "cpu"]
    return lambda steps=some: speed(lambda: work(steps), steps * len(views))


def score_torch(job):
    import torch

    peer, views, _, autocast = torch_network(job | {"batch_size": SCORED_AT_ONCE})
    peer.eval()

    def answer():
        with torch.inference_mode(), autocast:
            return peer(views).float().cpu()

    return scored(answer)


def score_openvino(job):
    import openvino

    peer, views, *_ = torch_network(job | {"batch_size": SCORED_AT_ONCE})
    model = openvino.convert_model(peer.eval(), example_input=views, input=list(views.shape))
    hint = {"INFERENCE_PRECISION_HINT": "bf16" if job["precision"] == "bfloat16" else "f32"}
    network, views = openvino.compile_model(model, "CPU", hint), views.contiguous().numpy()
    return scored(lambda: network(views))


def score_onnxruntime(job):
    import onnxruntime
    import onnxscript  # noqa: F401 (PyTorch's exporter needs it)
    import torch

    peer, views, *_ = torch_network(job | {"batch_size": SCORED_AT_ONCE})
    model = torch.onnx.export(peer.eval(), (views,), verbose=False).model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=onnxruntime.get_available_providers())
    feed = {session.get_inputs()[0].name: views.cpu().contiguous().numpy()}
    return scored(lambda: session.run(None, feed))


def scored(answer):
    """The function that a scoring round calls, from one that scores SCORED_AT_ONCE views."""
    return lambda: speed(lambda: [answer() for _ in range(SCORED_VIEWS // SCORED_AT_ONCE)], SCORED_VIEWS)


# ---------------------------------------------------------------------------------------------------------------------
# Load


def load_ours(job):
    if job["precision"] == "cache":
        return load_cache(job)
    import pandas as pd

    from bones.data.pixels import load_pixels

    views = pd.DataFrame({"path": job["paths"]})
    return lambda: speed(lambda: load_pixels(views, job["size"], "pad", cache=None), len(views))


def load_cache(job):
    """Time a start from the cache and reading batches, and measure resident memory."""
    import numpy as np
    import pandas as pd

    from bones.data.pixels import Rows, load_pixels

    png = sorted(Path(job["folder"]).rglob("*.png"))
    views = pd.DataFrame({"path": [str(png[place % len(png)]) for place in range(1272)]})
    size, cache = job["size"], Path(job["folder"]) / "cache"
    _, pixels = load_pixels(views, size, "pad", cache=cache)
    _, small = walk(pixels, job["batch_size"])  # before the large file is read
    large = np.lib.format.open_memmap(cache / "large.npy", "w+", np.uint8, (36808, size, size, 1))  # zeros take no disk space
    large = Rows(np.load(cache / "large.npy", mmap_mode="r"), np.arange(len(large)))

    def once():
        start = time.perf_counter()
        _, pixels = load_pixels(views, size, "pad", cache=cache)
        warm = time.perf_counter() - start
        wait, _ = walk(pixels, job["batch_size"])
        _, resident = walk(large, job["batch_size"])
        names = "warm start, 1,272 views", "wait for a batch", "resident, 1,272 views", "resident, 36,808 views"
        return dict(zip(names, (warm, 1000 * wait, small, resident), strict=True))

    return once


def walk(rows, batch_size):
    """Read every batch of an epoch. Returns: (seconds per batch, resident memory afterwards in MB)."""
    from bones.networks.batches import Batches

    start = time.perf_counter()
    batches = Batches(rows, batch_size, shuffle_seed=0)
    for place in range(len(batches)):
        batches[place]
    seconds = (time.perf_counter() - start) / len(batches)
    return seconds, int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def load_opencv(job):
    import concurrent.futures

    import cv2
    import numpy as np

    size = job["size"]
    pixels = np.zeros((len(job["paths"]), size, size), np.uint8)

    def decode(place):
        grey = cv2.imread(job["paths"][place], cv2.IMREAD_GRAYSCALE)
        scale = size / max(grey.shape)
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = (size - grey.shape[0]) // 2, (size - grey.shape[1]) // 2
        pixels[place, top : top + grey.shape[0], left : left + grey.shape[1]] = grey

    def work():
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decode, range(len(pixels))))

    cv2.setNumThreads(1)  # one image per core
    return lambda: speed(work, len(pixels))


def load_tf_data(job):
    import tensorflow as tf

    def decode(path):
        grey = tf.io.decode_image(tf.io.read_file(path), channels=1, expand_animations=False)
        square = tf.image.resize_with_pad(grey, job["size"], job["size"], antialias=True)
        return tf.cast(square + 0.5, tf.uint8)

    data = tf.data.Dataset.from_tensor_slices(job["paths"]).map(decode, tf.data.AUTOTUNE).batch(len(job["paths"]))
    return lambda: speed(lambda: [batch.shape for batch in data], len(job["paths"]))


# ---------------------------------------------------------------------------------------------------------------------
# Start: one round, whose value is a dict of seconds


def start_keras(job):
    """Seconds from the start of the process to the end of the first step, in parts."""
    import keras

    keras.ops.zeros(1)
    imported = time.perf_counter()
    trainer = compiled(job)
    views, label = random_views(job["size"], job["batch_size"])
    built = time.perf_counter()
    train_step, traces = trainer.train_step, []

    def timed_train_step(*arguments):  # runs only while the step is traced
        start = time.perf_counter()
        result = train_step(*arguments)
        traces.append(time.perf_counter() - start)
        return result

    trainer.train_step = timed_train_step
    trainer.train_on_batch(views, label)
    first = time.perf_counter()
    trainer.train_on_batch(views, label)
    trainer.train_on_batch(views, label)
    step, trace = (time.perf_counter() - first) / 2, sum(traces)
    parts = {
        "import": imported - job["started"],
        "build": built - imported,
        "trace": trace,
        "optimise": first - built - trace - step,
    }
    return lambda: parts | {"to the end of the first step": first - job["started"]}


def start_torch(job):
    """The same for eager PyTorch, which does not trace."""
    from tools import torch_networks  # noqa: F401

    imported = time.perf_counter()
    train_torch(job)(steps=1)
    first = time.perf_counter()
    return lambda: {"import": imported - job["started"], "to the end of the first step": first - job["started"]}


JOBS = {
    ("train", "ours"): train_keras,
    ("train", "keras"): train_keras,
    ("train", "torch"): train_torch,
    ("train", "torch.compile"): train_torch,
    ("score", "ours"): score_keras,
    ("score", "ours, openvino"): score_keras,
    ("score", "keras"): score_keras,
    ("score", "torch"): score_torch,
    ("score", "openvino"): score_openvino,
    ("score", "onnxruntime"): score_onnxruntime,
    ("load", "ours"): load_ours,
    ("load", "opencv"): load_opencv,
    ("load", "tf.data"): load_tf_data,
    ("start", "ours"): start_keras,
    ("start", "keras"): start_keras,
    ("start", "torch"): start_torch,
}


def main():
    """Run the job of the command line until standard input ends."""
    started = time.perf_counter()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    job = json.loads(sys.argv[1]) | {"started": started}
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # keeps the libraries' output out of the JSON lines
    try:
        once = JOBS[job["task"], job["engine"]](job)
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}), file=answers)
        return
    once()  # warm-up
    print(json.dumps({"ready": True}), file=answers)
    for _ in sys.stdin:
        print(json.dumps({"value": once()}), file=answers)


if __name__ == "__main__":
    main()

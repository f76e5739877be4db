"""Formats of other runtimes: how to write a network, load it, and read its metadata.

Packages are imported where they are used, so that export.py can parse its command line without them. It checks for the optional
packages before it starts.
"""

import dataclasses
import json
import shlex
from collections.abc import Callable

LIMIT = 1e-3  # largest difference of a probability from Keras's; measured with DenseNet-169: 2e-6
INT8_LIMIT = 0.1  # the same with 8-bit weights; measured: 0.01 after 20 epochs on FracAtlas, 0.07 after a demo
INFO = "model_info"  # where OpenVINO's own tools store metadata


def write_onnx(network, path, metadata):
    import numpy as np
    import onnx

    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports a network to ONNX only after a call
    network.export(path, format="onnx", verbose=False)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def load_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda grey: session.run(["probability"], {"grey": grey})[0]


def read_onnx_metadata(path):
    import onnx

    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def write_litert(network, path, metadata, optimizations=()):
    import numpy as np
    import tensorflow as tf
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    # Not with Keras's own export, which allows operations that need TensorFlow besides LiteRT.
    converter = tf.lite.TFLiteConverter.from_saved_model(str(write_graph(network, path.with_name("graph"))))
    converter.optimizations = [getattr(tf.lite.Optimize, name) for name in optimizations]
    model = flatbuffer_utils.read_model_from_bytearray(converter.convert())
    for name, text in metadata.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data, entry.name, entry.buffer = np.frombuffer(text.encode(), np.uint8), name, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    flatbuffer_utils.write_model(model, path)


def write_litert_int8(network, path, metadata):
    """Weights have 8 bits; activations stay float32, so no views are needed to calibrate their range."""
    write_litert(network, path, metadata, ["DEFAULT"])


def load_litert(path):
    from ai_edge_litert.interpreter import Interpreter

    score = Interpreter(str(path)).get_signature_runner()  # it resizes the input to each batch
    return lambda grey: score(grey=grey)["probability"]


def read_litert_metadata(path):
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model(path)
    return {entry.name.decode(): bytes(model.buffers[entry.buffer].data).decode(errors="replace") for entry in model.metadata}


def write_graph(network, path):
    """Write a SavedModel without metadata, which is also converted to LiteRT and OpenVINO. Returns: its path."""
    import keras

    # network.export would write every weight twice: as Keras's variable and as the TensorFlow variable in it.
    archive = keras.export.ExportArchive()
    archive.add_endpoint("serve", lambda grey: network(grey, training=False), [network.input])
    archive.write_out(str(path), verbose=False)
    return path


def write_saved_model(network, path, metadata):
    write_graph(network, path)
    extra = path / "assets.extra"  # TensorFlow's folder for files that it does not read
    extra.mkdir()
    (extra / "metadata.json").write_text(json.dumps(metadata, indent=2) + "\n")


def load_saved_model(path):
    import tensorflow as tf

    model = tf.saved_model.load(path)
    return lambda grey: model.serve(grey)["probability"].numpy()


def read_saved_model_metadata(path):
    return json.loads((path / "assets.extra" / "metadata.json").read_text())


def write_openvino(network, path, metadata):
    import openvino

    model = openvino.convert_model(write_graph(network, path.with_name("graph")))
    for name, text in metadata.items():
        model.set_rt_info(text, [INFO, name])
    openvino.save_model(model, str(path), compress_to_fp16=False)


def load_openvino(path):
    import openvino

    # The default is bfloat16 on processors that support it.
    model = openvino.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda grey: model(grey)["probability"]


def read_openvino_metadata(path):
    import openvino

    model = openvino.Core().read_model(path)
    return {name: model.get_rt_info([INFO, name]).astype(str) for name in model.get_rt_info([INFO]).value}


@dataclasses.dataclass(frozen=True)
class Format:
    """An export format."""

    ending: str  # of the default file, after "best"
    suffixes: tuple  # of the file, and of those beside it
    modules: tuple  # optional packages
    write: Callable  # (network, path, {name: text})
    load: Callable  # path -> f((n, size, size, 1) float32) -> (n, 1) float32
    read_metadata: Callable  # path -> {name: text}
    imports: str  # of an example in Python
    opening: str  # how the example opens a path as `model`
    call: str  # how `model` scores `grey`
    limit: float = LIMIT

    def files(self, path):
        """All files, or folders, of an export."""
        return [path, *(path.with_suffix(suffix) for suffix in self.suffixes[1:])]

    def example(self, path, size):
        """A command that loads an export and predicts a black view."""
        black = f'grey = numpy.zeros((1, {size}, {size}, 1), "float32")'
        opening = f"model = {self.opening.format(json.dumps(str(path)))}"
        return shlex.join(["python", "-c", f"import numpy, {self.imports}; {black}; {opening}; print({self.call})"])


LITERT = Format(
    ending=".tflite",
    suffixes=(".tflite",),
    modules=("ai_edge_litert",),
    write=write_litert,
    load=load_litert,
    read_metadata=read_litert_metadata,
    imports="ai_edge_litert.interpreter as litert",
    opening="litert.Interpreter({}).get_signature_runner()",
    call="model(grey=grey)",
)
FORMATS = {
    "onnx": Format(
        ending=".onnx",
        suffixes=(".onnx",),
        modules=("onnx", "tf2onnx", "onnxruntime"),
        write=write_onnx,
        load=load_onnx,
        read_metadata=read_onnx_metadata,
        imports="onnxruntime",
        opening="onnxruntime.InferenceSession({})",
        call='model.run(None, {"grey": grey})',
    ),
    "litert": LITERT,
    "litert_int8": dataclasses.replace(LITERT, ending="_int8.tflite", write=write_litert_int8, limit=INT8_LIMIT),
    "saved_model": Format(
        ending="_saved_model",
        suffixes=("",),
        modules=(),
        write=write_saved_model,
        load=load_saved_model,
        read_metadata=read_saved_model_metadata,
        imports="tensorflow",
        opening="tensorflow.saved_model.load({})",
        call="model.serve(grey)",
    ),
    "openvino": Format(
        ending=".xml",
        suffixes=(".xml", ".bin"),
        modules=("openvino",),
        write=write_openvino,
        load=load_openvino,
        read_metadata=read_openvino_metadata,
        imports="openvino",
        opening="openvino.compile_model({})",
        call="model(grey)",
    ),
}

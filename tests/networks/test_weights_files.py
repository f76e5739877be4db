"""Weights of Keras 2, Keras 3 and PyTorch go to the layers that they belong to, all or none, and hostile files are refused."""

import io
import json
import logging
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers
from support import ROOT

from bones.networks import catalogue, densenet_names, keras_files, safetensors_files
from bones.networks.parts import load_weights
from bones.system.errors import WeightsError

NORMALISATION = ("gamma", "beta", "moving_mean", "moving_variance")


def small(units=1, names=("conv1_conv", "conv1_bn", "conv2_block1_1_conv", "bn"), head="probability"):
    """A network with a DenseNet's names, without its shape."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, use_bias=False, name=names[0])(inputs)
    x = layers.BatchNormalization(name=names[1])(x)
    x = layers.Conv2D(5, 1, use_bias=False, name=names[2])(x)
    x = layers.BatchNormalization(name=names[3])(x)
    return keras.Model(inputs, layers.Dense(units, name=head)(layers.GlobalAveragePooling2D()(x)), name="small")


def filled(network, seed=0):
    """The same network with random weights."""
    rng = np.random.default_rng(seed)
    network.set_weights([rng.uniform(0.5, 1.5, weight.shape).astype(np.float32) for weight in network.get_weights()])
    return network


def same(first, second):
    """Whether two lists of arrays are equal."""
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def content(network, separator="/"):
    """[(layer, [(name of weight, values)])] of a network as Keras 2 has them, with conv1/conv for conv1_conv."""
    found = []
    for layer in network.layers:
        name = layer.name.replace("conv1_", f"conv1{separator}")
        found.append((name, [(weight.name, np.asarray(weight)) for weight in layer.weights]))
    return [(name, weights) for name, weights in found if weights]


def write_h5(path, groups, config=None):
    """Write groups of [(layer, [(whole name of weight, values)])] as Keras 2 does: of a whole model where it has a config."""
    with h5py.File(path, "w") as file:
        if config:
            file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights") if config else file
        group.attrs["layer_names"] = [name.encode() for name, _ in groups]
        for name, weights in groups:
            own = group.create_group(name)
            own.attrs["weight_names"] = [f"{weight}:0".encode() for weight, _ in weights]
            for weight, values in weights:
                own.create_dataset(f"{weight}:0", data=values)


def flat(network):
    """Groups of write_h5 for a model without a nested one."""
    return [(name, [(f"{name}/{weight}", values) for weight, values in weights]) for name, weights in content(network)]


def nested(network):
    """Groups of write_h5 for a base in a Sequential: what is trained first, then what is not."""
    rows = [row for _, weights in flat(network)[:-1] for row in weights]
    moving = [row for row in rows if "/moving_" in row[0]]
    return [("base", [row for row in rows if row not in moving] + moving), flat(network)[-1]]


def functional(network):
    """A configuration with as much as is read of it."""
    found = [{"class_name": type(layer).__name__, "config": {"name": layer.name}} for layer in network.layers]
    return {"class_name": "Functional", "config": {"name": "model", "layers": found}}


def write_keras(path, network, method=zipfile.ZIP_DEFLATED, extra=None):
    """Write a .keras file as Keras 2 does: layers by class and number."""
    weights, counts = io.BytesIO(), {}
    with h5py.File(weights, "w") as file:
        for layer in network.layers:
            kind = keras_files.snake_case(type(layer).__name__)
            counts[kind] = counts.get(kind, -1) + 1
            own = file.create_group(f"layers/{kind}_{counts[kind]}/vars" if counts[kind] else f"layers/{kind}/vars")
            for number, weight in enumerate(layer.weights):
                own.create_dataset(str(number), data=np.asarray(weight))
        file.create_group("optimizer/vars").create_dataset("0", data=np.zeros(3))
        file.create_group("metrics/mean/vars").create_dataset("0", data=np.zeros(()))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("config.json", json.dumps(functional(network)))
        archive.writestr("model.weights.h5", weights.getvalue() if extra is None else extra)


COUNTED = ("conv2d_7", "batch_normalization_12", "conv2d_8", "batch_normalization_13")
KERAS_2 = {
    "whole.h5": lambda path, network: write_h5(path, flat(network), functional(network)),
    "weights.h5": lambda path, network: write_h5(path, flat(network)),
    "nested.h5": lambda path, network: write_h5(path, nested(network)),
    "whole.keras": write_keras,
}


@pytest.mark.parametrize("name", KERAS_2)
def test_keras_2(name, tmp_path):
    sound = filled(small(head="predictions"))
    KERAS_2[name](tmp_path / name, sound)
    assert same(load_weights(small(), tmp_path / name).get_weights(), sound.get_weights())


def test_names_that_keras_counted_go_by_order(tmp_path):
    sound = filled(small(names=COUNTED, head="dense_3"))
    write_h5(tmp_path / "x.h5", flat(sound))
    assert same(load_weights(small(), tmp_path / "x.h5").get_weights(), sound.get_weights())
    # A base whose upper half was trained: in the file's order the lower half comes last, and the configuration has the order.
    rows = flat(sound)
    base = [row for _, weights in (*rows[2:4], *rows[:2]) for row in weights]
    inner = functional(sound)
    inner["config"]["layers"] = inner["config"]["layers"][:-2]
    dense = {"class_name": "Dense", "config": {"name": "dense_3"}}
    outer = {"class_name": "Sequential", "config": {"name": "sequential", "layers": [inner, dense]}}
    write_h5(tmp_path / "frozen.h5", [("base", base), rows[-1]], outer)
    assert same(load_weights(small(), tmp_path / "frozen.h5").get_weights(), sound.get_weights())


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".weights.h5"])
def test_keras_3(suffix, tmp_path):
    sound = filled(small(head="predictions"))
    save = keras.Model.save_weights if suffix == ".weights.h5" else keras.Model.save
    save(sound, tmp_path / f"x{suffix}")
    assert same(load_weights(small(), tmp_path / f"x{suffix}").get_weights(), sound.get_weights())
    base = keras.Model(sound.input, sound.layers[-3].output)
    whole = keras.Sequential([base, layers.GlobalAveragePooling2D(), layers.Dense(1)])
    save(whole, tmp_path / f"nested{suffix}")
    found = load_weights(small(), tmp_path / f"nested{suffix}").get_weights()
    assert same(found, base.get_weights() + whole.layers[-1].get_weights())


@pytest.mark.parametrize("name", ["depthwise_kernel", "kernel"])
def test_depthwise_kernels(name, tmp_path):
    """Keras 2 names them depthwise_kernel, Keras 3 kernel."""
    inputs = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(inputs)
    network = keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))
    values = np.random.default_rng(0).random((3, 3, 3, 1), np.float32)
    write_h5(tmp_path / "x.h5", [("depthwise", [(f"depthwise/{name}", values)])])
    assert np.array_equal(load_weights(network, tmp_path / "x.h5").layers[1].get_weights()[0], values)


@pytest.mark.parametrize("units", [0, 14])
def test_another_head_is_left_out_and_said(units, tmp_path, caplog):
    sound = filled(small(max(units, 1), head="predictions"))
    write_h5(tmp_path / "x.h5", flat(sound)[: None if units else -1])
    network = small()
    head = network.layers[-1].get_weights()
    with caplog.at_level(logging.WARNING):
        load_weights(network, tmp_path / "x.h5")
    assert same(network.get_weights()[:-2], sound.get_weights()[:-2]) and same(network.layers[-1].get_weights(), head)
    assert [record.getMessage() for record in caplog.records] == (
        [f"{tmp_path / 'x.h5'}: its head is left out (predictions: 5 x 14, 14), and training begins with a random one."]
        if units
        else []
    )


def change(groups, layer, weight, values):
    """Groups of write_h5 with other values of a weight; None: without it."""
    changed = []
    for name, weights in groups:
        rows = [(row, values if (name, row) == (layer, f"{layer}/{weight}") else old) for row, old in weights]
        changed.append((name, [row for row in rows if row[1] is not None]))
    return changed


@pytest.mark.parametrize(
    ("layer", "weight", "values", "message"),
    [
        ("conv1/bn", "gamma", None, "conv1_bn/gamma: missing, expected 4"),
        (
            "conv1/conv",
            "kernel",
            np.ones((3, 3, 1, 4), np.float32),
            "conv1/conv/kernel:0: 3 x 3 x 1 x 4, expected 3 x 3 x 3 x 4",
        ),
        ("bn", "beta", np.ones(5, np.int64), "bn/beta:0: values of type int64, expected floating point"),
        ("bn", "beta", np.full(5, np.nan), "bn/beta:0 has values that are not finite"),
        ("bn", "beta", np.full(5, 1e60), "bn/beta:0 has values that are not finite"),
    ],
)
def test_all_or_nothing(layer, weight, values, message, tmp_path):
    write_h5(tmp_path / "x.h5", change(flat(filled(small())), layer, weight, values))
    network = small()
    before = network.get_weights()
    with pytest.raises(WeightsError) as raised:
        load_weights(network, tmp_path / "x.h5")
    assert message in str(raised.value) and "x.h5" in str(raised.value) and len(str(raised.value)) < 600
    assert same(network.get_weights(), before)


def test_a_deeper_network_is_refused(tmp_path):
    """ResNet-101 has every layer of ResNet-50, in the same shapes."""
    groups = flat(filled(small()))
    groups.insert(4, ("conv2/more", [("conv2/more/kernel", np.ones((1, 1, 5, 5), np.float32))]))
    write_h5(tmp_path / "x.h5", groups)
    with pytest.raises(WeightsError, match=r"it has 1 kernels that the network lacks:\n  conv2/more/kernel:0: 1 x 1 x 5 x 5"):
        load_weights(small(), tmp_path / "x.h5")


# ---------------------------------------------------------------------------------------------------------------------
# PyTorch


def torch_tensors(network, prefix="", dot=""):
    """{name: values} as torchvision has them, of a network of `small`."""
    modules = ("features.conv0", "features.norm0", f"features.denseblock1.denselayer1.conv{dot}1", "features.norm5")
    found = {}
    for name, layer in zip((*modules, "classifier"), (layer for layer in network.layers if layer.weights), strict=True):
        kinds = ("weight", "bias", "running_mean", "running_var")
        for kind, weight in zip(kinds, layer.get_weights(), strict=False):
            axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[weight.ndim]
            found[f"{prefix}{name}.{kind}"] = np.ascontiguousarray(weight.transpose(axes))
        if "norm" in name:
            found[f"{prefix}{name}.num_batches_tracked"] = np.array(1, np.int64)
    return found


def safetensors(tensors, **other):
    """Bytes of a .safetensors file."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        kind = {"f": "F", "i": "I"}[values.dtype.kind] + str(8 * values.itemsize)
        header[name] = {"dtype": kind, "shape": values.shape, "data_offsets": [len(data), len(data) + values.nbytes]} | other
        data += values.tobytes()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("prefix", ["", "module.", "model.module."])
@pytest.mark.parametrize("dot", ["", "."])
def test_torchvision_and_timm(prefix, dot, tmp_path):
    sound = filled(small())
    (tmp_path / "x.safetensors").write_bytes(safetensors(torch_tensors(sound, prefix, dot)))
    assert same(load_weights(small(), tmp_path / "x.safetensors").get_weights(), sound.get_weights())


def test_classes_of_imagenet_are_left_out(tmp_path, caplog):
    (tmp_path / "x.safetensors").write_bytes(safetensors(torch_tensors(filled(small(7)))))
    load_weights(small(), tmp_path / "x.safetensors")
    assert "its head is left out (classifier: 7 x 5, 7)" in caplog.text


def test_missing_tensors_are_named_as_in_the_file(tmp_path):
    tensors = torch_tensors(filled(small()), "module.")
    del tensors["module.features.norm5.bias"]
    tensors["module.features.conv0.weight"] = np.ones((1, 1, 1, 1), np.float32)
    (tmp_path / "x.safetensors").write_bytes(safetensors(tensors))
    with pytest.raises(WeightsError, match="2 of the 10 tensors that it needs are missing") as raised:
        load_weights(small(), tmp_path / "x.safetensors")
    assert "\n  module.features.conv0.weight: 1 x 1 x 1 x 1, expected 4 x 3 x 3 x 3\n" in str(raised.value)
    assert "\n  module.features.norm5.bias: missing, expected 5\n" in str(raised.value)


def test_pytorch_is_for_densenets(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(safetensors({"fc.weight": np.ones((1, 4), np.float32)}))
    with pytest.raises(WeightsError, match="contains PyTorch's tensors, and small takes none"):
        load_weights(small(names=COUNTED), tmp_path / "x.safetensors")


def test_every_layer_of_densenet169_has_a_name():
    base = keras.applications.DenseNet169(include_top=False, weights=None, input_shape=(32, 32, 3))
    names = [densenet_names.module(layer.name) for layer in base.layers if layer.weights]
    assert len(set(names)) == len(names) == 337 and None not in names
    # Shapes are of torchvision's densenet169, written down from its state_dict.
    pairs, rest = densenet_names.match([layer for layer in base.layers if layer.weights], {})
    shapes = {stored.name: tuple(weight.shape) for weight, stored in pairs}
    assert len(shapes) == 844 and not rest
    assert shapes["features.denseblock3.denselayer32.conv2.weight"] == (3, 3, 128, 32)
    assert shapes["features.transition3.conv.weight"] == (1, 1, 1280, 640) and shapes["features.norm5.weight"] == (1664,)


# ---------------------------------------------------------------------------------------------------------------------
# Hostile files


def refused(path, match):
    with pytest.raises(WeightsError, match=match) as raised:
        load_weights(small(), path)
    assert str(path) in str(raised.value) and len(str(raised.value)) < 700


@pytest.mark.parametrize(
    ("other", "match"),
    [
        ({"data_offsets": [0, 10**15]}, "ends early"),
        ({"data_offsets": [-8, 8]}, "a shape in it is wrong"),
        ({"shape": [10**9, 10**9]}, "differ in size"),
        ({"shape": [-4, -1]}, "a shape in it is wrong"),
        ({"dtype": "F8_E4M3"}, "values of the kind F8_E4M3"),
        ({"shape": None}, "not a complete"),
        ({"more": 1}, "not a complete"),
    ],
)
def test_headers_of_safetensors(other, match, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(safetensors({"features.conv0.weight": np.ones(4, np.float32)}, **other))
    refused(tmp_path / "x.safetensors", match)


def test_safetensors_cut_anywhere(tmp_path):
    data = safetensors({"a": np.ones(4, np.float32), "b": np.ones((2, 3), np.float64)})
    (tmp_path / "x.safetensors").write_bytes(data)
    assert safetensors_files.read(tmp_path / "x.safetensors")["b"].dtype == np.float64
    for length in range(len(data)):
        (tmp_path / "x.safetensors").write_bytes(data[:length])
        with pytest.raises(WeightsError, match=r"not a complete \.safetensors file"):
            safetensors_files.read(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes((2**60).to_bytes(8, "little") + b"{}")
    refused(tmp_path / "x.safetensors", "its header is longer than the file")


def test_data_sets_larger_than_the_network_are_not_read(tmp_path):
    """A compressed or never written data set takes no room in a file, whatever its shape."""
    write_h5(tmp_path / "x.h5", flat(filled(small())))
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file["conv1/conv/conv1/conv/kernel:0"]
        file["conv1/conv"].create_dataset("conv1/conv/kernel:0", (10**6, 10**6, 3, 4), np.float32, chunks=(10, 10, 3, 4))
    refused(tmp_path / "x.h5", "kernel:0: 1000000 x 1000000 x 3 x 4, expected 3 x 3 x 3 x 4")


def test_values_outside_the_file_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    links = {
        "soft": lambda group: group.__setitem__("gamma:0", h5py.SoftLink("/bn/bn/gamma:0")),
        "external": lambda group: group.__setitem__("gamma:0", h5py.ExternalLink("other.h5", "/x")),
        "raw": lambda group: group.create_dataset("gamma:0", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)]),
        "chunk": lambda group: group.create_dataset("gamma:0", (4,), "f4", maxshape=(None,), chunks=(10**8,)),
    }
    for name, link in links.items():
        path = tmp_path / f"{name}.h5"
        write_h5(path, flat(filled(small())))
        with h5py.File(path, "r+") as file:
            del file["conv1/bn/conv1/bn/gamma:0"]
            link(file["conv1/bn/conv1/bn"])
        refused(path, "is a link|not stored as usual")


def test_an_archive_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_files, "ROOM", 2**20)
    write_keras(tmp_path / "x.keras", small(), extra=bytes(2**24))
    refused(tmp_path / "x.keras", r"its model\.weights\.h5 unpacks to 16,777,216 bytes, more than 1,0")


@pytest.mark.parametrize(
    "config", ["{", "[]", '{"config": {"layers": [{}]}}', "[" * 100_000, '{"config": 3}', '{"config": {}}']
)
def test_damaged_configurations(config, tmp_path):
    write_keras(tmp_path / "x.keras", small())
    with zipfile.ZipFile(tmp_path / "x.keras") as archive:
        weights = archive.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "x.keras", "w") as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights)
    if config == "[]":  # says nothing: layers go by order
        load_weights(small(), tmp_path / "x.keras")
    else:
        refused(tmp_path / "x.keras", "does not contain weights for small")


@pytest.mark.parametrize("name", ["whole.keras", "weights.h5"])
def test_keras_files_cut_anywhere(name, tmp_path):
    KERAS_2[name](tmp_path / name, filled(small()))
    data, network = (tmp_path / name).read_bytes(), small()
    for length in range(0, len(data) - 1, len(data) // 40):
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(WeightsError, match="does not contain weights for small"):
            load_weights(network, tmp_path / name)


def test_names_in_messages_are_printable(tmp_path):
    write_h5(tmp_path / "x.h5", [*flat(filled(small())), ("evil\x1b[2J", [("a\nb/kernel", np.ones((1, 1, 1, 1), np.float32))])])
    with pytest.raises(WeightsError) as raised:
        load_weights(small(), tmp_path / "x.h5")
    assert r"a\nb/kernel:0" in str(raised.value) and "\x1b" not in str(raised.value)


def test_the_repositorys_own_network():
    """Every weight of the published run, whose kernels have 16 bits."""
    saved = keras.models.load_model(ROOT / "weights" / "fracatlas" / "best.h5", compile=False)
    network = catalogue.build("efficientnet_lite0", 64, ROOT / "weights" / "fracatlas")
    assert all(np.array_equal(a, b) for a, b in zip(saved.get_weights(), network.get_weights(), strict=True))

"""Layers in Keras's weights files, of Keras 2 as of Keras 3, without building the model that a file describes.

A .h5 file of a whole model or of `save_weights` has groups by layer, with names of weights. A .keras file, and a .weights.h5,
has groups by class and number (conv2d_12) with numbered weights; a .keras file's configuration has the names of these layers.
Only hard links and ordinary data sets are read, and a data set not before its shape is known to fit.
"""

import collections
import contextlib
import io
import json
import math
import re
import zipfile
from typing import NamedTuple

import h5py

from bones.networks.stored_tensors import Stored

CONFIGURATION, WEIGHTS = "config.json", "model.weights.h5"  # parts of a .keras file
LAYERS = ("layers/", "_layer_checkpoint_dependencies/")  # beside them a file has an optimizer's and metrics' state
MAX_CONFIGURATION = 64 * 2**20  # bytes
ROOM = 64 * 2**20  # bytes that a .keras file's weights may have beside eight times the network's, for an optimizer's state
MAX_CHUNK = 2**20  # bytes of a piece of a data set that HDF5 reads as one, where the data set is smaller


class StoredLayer(NamedTuple):
    """A layer of a file that has weights."""

    name: str  # with _ for /, as Keras 3 has it; the path in the file where that has no names
    kind: str  # names of its weights or, where they have numbers, its class and their number
    weights: dict  # name or number -> Stored


@contextlib.contextmanager
def layers_of(path, size):
    """Layers with weights in a file, in the order of its configuration; they can be read while the block lasts.

    Args:
        path: HDF5 file, or .keras file.
        size: bytes of the network's weights, which bound the memory that a compressed file may take.
    """
    with contextlib.ExitStack() as stack:
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            configuration = json.loads(member(archive, CONFIGURATION, MAX_CONFIGURATION))
            content = io.BytesIO(member(archive, WEIGHTS, 8 * size + ROOM))
            file = stack.enter_context(h5py.File(content, "r"))
        else:
            file = stack.enter_context(h5py.File(path, "r"))
            configuration = json.loads(file.attrs.get("model_config", "null"))
        places = list(places_of(configuration)) if configuration else []
        group = inner(file, "model_weights") if "model_weights" in file else file
        has_names = any(name.startswith("layer_names") for name in group.attrs)
        found = named_layers(group) if has_names else numbered_layers(file, dict(places))
        order = {clean(name): place for place, (_, name) in enumerate(places)}
        yield sorted(found, key=lambda layer: order.get(layer.name, len(order)))


def member(archive, name, most):
    """Bytes of a part of a .zip file. Raises: ValueError when it would unpack to more than `most` bytes."""
    size = archive.getinfo(name).file_size
    if size > most:
        raise ValueError(f"its {name} unpacks to {size:,} bytes, more than {most:,}")
    return archive.read(name)


def places_of(configuration, above="layers"):
    """(path in a .keras file, name) of each layer of a configuration, those of nested models in their place."""
    inside, counts = configuration["config"], collections.Counter()
    for layer in inside if isinstance(inside, list) else inside["layers"]:  # a list: Sequential in early versions
        kind = snake_case(layer["class_name"])
        path = f"{above}/{kind}_{counts[kind]}" if counts[kind] else f"{above}/{kind}"
        counts[kind] += 1
        if "layers" in layer["config"] or isinstance(layer["config"], list):
            yield from places_of(layer, f"{path}/layers")
        else:
            yield path, layer["config"]["name"]


def snake_case(name):
    """A class's name as Keras's files have it: batch_normalization of BatchNormalization."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def clean(name):
    """A layer's name as Keras 3 has it: conv1_conv for conv1/conv."""
    return name.replace("/", "_")


# ---------------------------------------------------------------------------------------------------------------------
# Groups and data sets


def named_layers(group):
    """Layers of a file with names. A nested model is one group, with the weights that were trained first."""
    found = []
    for name in texts(group, "layer_names"):
        own = inner(group, name)
        weights = collections.defaultdict(dict)
        for path in texts(own, "weight_names"):
            layer, _, weight = re.sub(r":\d+$", "", path).removeprefix(f"{name}/").rpartition("/")
            weights[layer][weight] = Stored(path, inner(own, path))
        if len(weights) == 1:
            weights = {name: next(iter(weights.values()))}
        found += [StoredLayer(clean(layer), ",".join(sorted(stored)), stored) for layer, stored in weights.items()]
    return found


def numbered_layers(file, names):
    """Layers of a file with classes and numbers.

    Args:
        names: {path of a layer: its name}, where a configuration is at hand; Keras 3 has names in the file.
    """
    paths = []
    file.visit(lambda path: paths.append(path) if path.startswith(LAYERS) and path.endswith("/vars") else None)
    found = []
    for path in sorted(paths, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]):
        own, layer = inner(file, path), path.removesuffix("/vars")
        weights = {number: Stored(f"{path}/{number}", inner(own, number)) for number in sorted(own, key=int)}
        name = names.get(layer) or own.attrs.get("name", layer)
        kind = re.sub(r"_\d+$", "", layer.rpartition("/")[2])
        if weights:
            found.append(StoredLayer(clean(name), f"{kind} {len(weights)}", weights))
    return found


def texts(group, name):
    """A list of texts in a group's attributes, where Keras writes a long one as name0, name1, ..."""
    numbered = (f"{name}{number}" for number in range(len(group.attrs)))
    parts = [name] if name in group.attrs else [part for part in numbered if part in group.attrs]
    return [text.decode() if isinstance(text, bytes) else str(text) for part in parts for text in group.attrs[part]]


def inner(group, path):
    """The group or data set at a path. Raises: ValueError when it is a link, or its values are elsewhere."""
    for part in path.split("/"):
        if not isinstance(group, h5py.Group) or not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path} in it is a link, or in no group")
        group = group[part]
    if isinstance(group, h5py.Dataset):
        chunk = math.prod(group.chunks or (0,)) * group.dtype.itemsize
        if group.external or group.is_virtual or chunk > max(group.nbytes, MAX_CHUNK):
            raise ValueError(f"the values of {path} are not stored as usual")
    return group


# ---------------------------------------------------------------------------------------------------------------------
# Layers of a file for those of a network


def match(layers, stored):
    """The tensor of each weight of a network without its head: by the layer's name, or else in the order of the same kind.

    Names differ where Keras counts layers (batch_normalization_12).

    Args:
        layers: of the network, those with weights.
        stored: list of StoredLayer.
    Returns: (pairs, rest): [(keras.Variable, Stored)], and {layer: {name of weight: Stored}} of what remains.
    """
    named = {layer.name: layer for layer in stored}
    found = {
        layer.name: named[layer.name] for layer in layers if layer.name in named and named[layer.name].kind in kinds(layer)
    }
    taken = {id(layer) for layer in found.values()}
    others = collections.defaultdict(collections.deque)
    for layer in stored:
        if id(layer) not in taken:
            others[layer.kind].append(layer)
    pairs = []
    for layer in layers:
        queue = next((others[kind] for kind in kinds(layer) if others[kind]), None)
        own = found.get(layer.name) or (queue.popleft() if queue else None)
        pairs += zip(layer.weights, tensors(layer, own), strict=True)
    return pairs, {layer.name: layer.weights for queue in others.values() for layer in queue}


def kinds(layer):
    """What StoredLayer.kind may be for a layer of a network."""
    numbered = f"{snake_case(type(layer).__name__)} {len(layer.weights)}"
    return (*(",".join(sorted(names)) for names in weight_names(layer)), numbered)


def weight_names(layer):
    """Names of a layer's weights in files of Keras 2, and of Keras 3, in the layer's order."""
    names = [weight.name for weight in layer.weights]
    earlier = {"kernel": "depthwise_kernel"} if type(layer).__name__ == "DepthwiseConv2D" else {}
    return [earlier.get(name, name) for name in names], names


def tensors(layer, stored):
    """A Stored for each weight of a layer of a network, from its StoredLayer, or missing where that is None."""
    if stored is None:
        return [Stored(f"{layer.name}/{weight.name}") for weight in layer.weights]
    keys = (*weight_names(layer), list(map(str, range(len(layer.weights)))))
    return [stored.weights[key] for key in next(found for found in keys if set(found) == set(stored.weights))]

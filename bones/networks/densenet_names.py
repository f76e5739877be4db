"""The tensors of a DenseNet of torchvision or timm for the layers of keras.applications' DenseNet of the same depth.

Differences: torchvision adds 1e-5 to a variance and Keras 1.001e-5, which changes a probability by less than a millionth; and
torchvision's first pooling ignores its border where Keras's pads with zeros, which is the same after a ReLU.
"""

import re

from bones.networks.stored_tensors import Stored

MODULES = {  # layer of Keras -> module of PyTorch; b is the number of a block in Keras less one
    r"conv1_conv": "conv0",
    r"conv1_bn": "norm0",
    r"conv(?P<b>\d)_block(?P<layer>\d+)_0_bn": "denseblock{b}.denselayer{layer}.norm1",
    r"conv(?P<b>\d)_block(?P<layer>\d+)_1_bn": "denseblock{b}.denselayer{layer}.norm2",
    r"conv(?P<b>\d)_block(?P<layer>\d+)_(?P<place>[12])_conv": "denseblock{b}.denselayer{layer}.conv{place}",
    r"pool(?P<b>\d)_bn": "transition{b}.norm",
    r"pool(?P<b>\d)_conv": "transition{b}.conv",
    r"bn": "norm5",
}
WEIGHTS = {  # of Keras -> of PyTorch
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
AXES = {4: (2, 3, 1, 0), 2: (1, 0)}  # of (filters, channels, rows, columns) and (units, features), in Keras's order
FIRST = "features.conv0.weight"


def module(layer):
    """PyTorch's name of a layer of keras.applications' DenseNets; None for a layer of another network."""
    for pattern, name in MODULES.items():
        found = re.fullmatch(pattern, layer)
        if found:
            numbers = found.groupdict()
            return "features." + name.format(**numbers | {"b": int(numbers.get("b", 1)) - 1})
    return None


def match(layers, tensors):
    """The tensor of each weight of a DenseNet without its head.

    Args:
        layers: of a DenseNet of keras.applications, those with weights.
        tensors: {name: array} of a file; names may begin with module., model. or another prefix, and say norm.1 for norm1.
    Returns: (pairs, rest): [(keras.Variable, Stored)], and {module: {name of weight: Stored}} of what remains.
    """
    prefix = next((name.removesuffix(FIRST) for name in tensors if name.endswith(FIRST)), "")
    named = {re.sub(r"\b(norm|conv)\.([12])\b", r"\1\2", name.removeprefix(prefix)): name for name in tensors}
    pairs = []
    for layer in layers:
        for weight in layer.weights:
            name = f"{module(layer.name)}.{WEIGHTS[weight.name]}"
            whole = named.pop(name, None)
            pairs.append((weight, Stored(whole or prefix + name, tensors.get(whole), AXES.get(len(weight.shape), ()))))
    rest = {}
    for name, whole in named.items():
        owner, _, kind = name.rpartition(".")
        if kind != "num_batches_tracked":
            kind = "kernel" if kind == "weight" else kind
            rest.setdefault(owner, {})[kind] = Stored(whole, tensors[whole], AXES.get(tensors[whole].ndim, ()))
    return pairs, rest

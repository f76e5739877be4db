"""Weights of a network from a file of this repository, Keras 2, Keras 3 or PyTorch: all that the network needs, or none.

A file's content decides its format. A head of one unit is taken with the rest; another one is left out, with a warning.
"""

import logging
import zipfile

import h5py

from bones.networks import densenet_names, keras_files, safetensors_files, torch_files
from bones.networks.stored_tensors import as_text, assign, misfit
from bones.system.errors import WeightsError
from bones.system.files import printable

log = logging.getLogger(__name__)

PICKLE = b"\x80"  # the first byte of a file that PyTorch wrote before version 1.6
SHOWN = 3  # tensors in a message


def load(network, layers, path):
    """Fill a network from a file.

    Args:
        network: keras.Model that ends in a Dense layer of one unit, its head; filled in place.
        layers: those below the head.
        path: Path of the file.
    Raises: WeightsError when a tensor is missing or has another shape; the exceptions of h5py, zipfile, json and KeyError
        when the file is damaged.
    """
    layers, head = [layer for layer in layers if layer.weights], network.layers[-1]
    if h5py.is_hdf5(path) or keras_files.CONFIGURATION in names_in(path):
        size = 4 * network.count_params()
        with keras_files.layers_of(path, size) as stored:
            fill(network, head, path, *keras_files.match(layers, stored))
        return
    tensors = pytorch_tensors(path)
    if not all(densenet_names.module(layer.name) for layer in layers):
        raise WeightsError(
            f"{path} contains PyTorch's tensors, and {network.name} takes none. Expected a file of Keras, or a DenseNet."
        )
    fill(network, head, path, *densenet_names.match(layers, tensors))


def names_in(path):
    """Names in a .zip file; none where a file is of another kind."""
    if not zipfile.is_zipfile(path):
        return []
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def pytorch_tensors(path):
    """{name: array} of a file of torch.save or safetensors."""
    with open(path, "rb") as file:
        start = file.read(9)
    if path.suffix == ".safetensors" or start[8:] == b"{":
        return safetensors_files.read(path)
    if start[:1] == PICKLE or names_in(path) or path.suffix in (".pth", ".pt"):
        return torch_files.read(path)
    raise ValueError("it is not HDF5, a .keras file, a .safetensors file or a file of torch.save")


def fill(network, head, path, pairs, rest):
    """Give a network's weights the tensors of a file.

    Args:
        head: the network's last layer.
        pairs: [(keras.Variable, Stored)] of every weight below it.
        rest: {layer: {name of weight: Stored}} of what else the file has.
    Raises: WeightsError when they do not fit.
    """
    wrong = [fault for fault in (misfit(weight, stored) for weight, stored in pairs) if fault]
    # A head has no convolutions, so that these are of a deeper network, or of layers in front of it.
    beyond = [stored for weights in rest.values() for stored in weights.values() if len(stored.values.shape) == 4]
    if wrong:
        several = len(wrong) > 1
        title = f"{len(wrong):,} of the {len(pairs):,} tensors that it needs {'are' if several else 'is'} missing or "
        title += f"{'have' if several else 'has'} another shape or type"
        raise WeightsError(refusal(network, path, title, wrong))
    if beyond:
        extra = [f"{stored.name}: {as_text(stored.values.shape)}" for stored in beyond]
        raise WeightsError(refusal(network, path, f"it has {len(extra):,} kernels that the network lacks", extra))
    of_head = [(weight, tensor) for weight, tensor in zip(head.weights, head_tensors(rest), strict=False)]
    takes_head = len(of_head) == len(head.weights) and not any(misfit(weight, tensor) for weight, tensor in of_head)
    assign(pairs + of_head if takes_head else pairs)
    if rest and not takes_head:
        log.warning("%s: its head is left out (%s), and training begins with a random one.", path, in_words(rest))


def refusal(network, path, title, lines):
    """The message about a file that does not fit."""
    shown = "".join(f"\n  {printable(line)}" for line in lines[:SHOWN])
    more = f"\n  and {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else ""
    advice = "Pass the --network that the weights are of, or other weights."
    return f"{path} does not fit {network.name}: {title}:{shown}{more}\n{advice}"


def head_tensors(rest):
    """Kernel and bias of the only layer that remains; none where there are several."""
    if len(rest) != 1:
        return []
    (weights,) = rest.values()
    return [weights[key] for name, number in (("kernel", "0"), ("bias", "1")) for key in (name, number) if key in weights]


def in_words(rest):
    """Layers that remain, with the shapes of their weights, as text."""
    found = []
    for layer, weights in list(rest.items())[:SHOWN]:
        found.append(f"{printable(layer)}: {', '.join(as_text(stored.values.shape) for stored in weights.values())}")
    return "; ".join(found) + ("; ..." if len(rest) > SHOWN else "")

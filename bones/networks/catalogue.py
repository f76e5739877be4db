"""All networks by name, with their builders and input sizes. Builders are imported on use, so that names do not need Keras."""

import dataclasses
import importlib

from bones.system.errors import WeightsError


@dataclasses.dataclass(frozen=True)
class Entry:
    """One network."""

    builder: str  # "module:function"
    least_size: int  # side of the smallest input, pixels
    blocks: tuple = ()  # name of the last layer of each block, in order
    has_imagenet: bool = True  # whether ImageNet's weights exist for it


BYPASSED = (3, 5, 7, 8, 10, 11, 13, 14, 15)  # blocks of EfficientNet-Lite0 with a bypass
NETWORKS = {
    "densenet169": Entry(
        "bones.networks.applications:densenet169", 32, (*(f"pool{stage}_pool" for stage in (2, 3, 4)), "relu")
    ),
    "densenet169_k12": Entry(
        "bones.networks.densenet_k12:densenet169_k12",
        16,
        (*(f"transition{number}_pool" for number in (1, 2, 3)), "last_relu"),
        has_imagenet=False,
    ),
    "efficientnet_lite0": Entry(
        "bones.networks.efficientnet_lite:efficientnet_lite0",
        32,
        tuple(f"block{number:02d}_{'add' if number in BYPASSED else 'project_bn'}" for number in range(1, 17)),
    ),
    "inception_v3": Entry("bones.networks.applications:inception_v3", 75, tuple(f"mixed{number}" for number in range(11))),
}


def build(name, size, weights="none", **settings):
    """An uncompiled `keras.Model` from grey pixels of 0 to 255, (n, size, size, 1), to one float32 probability, (n, 1).

    Pixels are scaled in the network's first layer, so that inputs need no preprocessing, and every layer is Keras's, so that a
    saved network loads without this repository.

    Args:
        name: of NETWORKS.
        size: side of the square input, pixels.
        weights: "none", "imagenet", or the path of a weights file.
        settings: arguments of the builder: standardise, dropout and pooling.
    Raises: WeightsError when the size is too small, or the weights cannot be downloaded or read, or do not fit.
    """
    entry = NETWORKS[name]
    if size < entry.least_size:
        raise WeightsError(f"{name} takes views of {entry.least_size} px or more, and --size is {size}. Pass a larger --size.")
    if weights == "imagenet" and not entry.has_imagenet:
        raise WeightsError(f"no ImageNet weights exist for {name}; pass --weights none, or a weights file of this network.")
    module, function = entry.builder.split(":")
    return getattr(importlib.import_module(module), function)(size, weights, **settings)

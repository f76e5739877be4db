"""All networks by name, with their builders and input sizes. Builders are imported on use, so that names do not need Keras."""

import dataclasses
import difflib
import importlib

from bones.system.errors import WeightsError


@dataclasses.dataclass(frozen=True)
class Entry:
    """One network."""

    builder: str  # "module:function"
    least_size: int  # side of the smallest input, pixels
    blocks: tuple = ()  # name of the last layer of each block, in order
    has_imagenet: bool = True  # whether ImageNet's weights exist for it
    is_dense: bool = False  # whether it has dense blocks, which stochastic depth needs
    is_tried: bool = False  # whether .h5 is known to hold it (docs/records/networks.csv), so that no run tries first
    arguments: dict = dataclasses.field(default_factory=dict)  # more arguments of the builder


BYPASSED = (3, 5, 7, 8, 10, 11, 13, 14, 15)  # blocks of EfficientNet-Lite0 with a bypass
DENSENET_BLOCKS = (*(f"pool{stage}_pool" for stage in (2, 3, 4)), "relu")
NETWORKS = {
    "densenet169": Entry("bones.networks.applications:densenet169", 32, DENSENET_BLOCKS, is_dense=True, is_tried=True),
    "densenet169_k12": Entry(
        "bones.networks.densenet_k12:densenet169_k12",
        16,
        (*(f"transition{number}_pool" for number in (1, 2, 3)), "last_relu"),
        has_imagenet=False,
        is_dense=True,
        is_tried=True,
    ),
    "efficientnet_lite0": Entry(
        "bones.networks.efficientnet_lite:efficientnet_lite0",
        32,
        tuple(f"block{number:02d}_{'add' if number in BYPASSED else 'project_bn'}" for number in range(1, 17)),
        is_tried=True,
    ),
    "inception_v3": Entry(
        "bones.networks.applications:inception_v3", 75, tuple(f"mixed{number}" for number in range(11)), is_tried=True
    ),
}
# All networks of keras.applications by the colours that their ImageNet weights expect, as the modes of
# keras.applications.imagenet_utils.preprocess_input; "included": the network scales 0 to 255 itself;
# "torch_inside": applications.without_scaling drops that. A name that another
# version of Keras adds or removes fails tests/networks/test_catalogue.py.
APPLICATIONS = {
    "included": "EfficientNetV2S EfficientNetV2M EfficientNetV2L MobileNetV3Small MobileNetV3Large",
    "torch_inside": (
        "EfficientNetB0 EfficientNetB1 EfficientNetB2 EfficientNetB3 EfficientNetB4 EfficientNetB5 EfficientNetB6 "
        "EfficientNetB7 EfficientNetV2B0 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 "
        "ConvNeXtTiny ConvNeXtSmall ConvNeXtBase ConvNeXtLarge ConvNeXtXLarge"
    ),
    "torch": "DenseNet121 DenseNet169 DenseNet201",
    "tf": (
        "InceptionResNetV2 InceptionV3 MobileNet MobileNetV2 NASNetMobile NASNetLarge ResNet50V2 ResNet101V2 ResNet152V2 "
        "Xception"
    ),
    "caffe": "ResNet50 ResNet101 ResNet152 VGG16 VGG19",
}
LEAST_SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}  # of keras.applications; of the others 32
NETWORKS |= {
    name: Entry(
        "bones.networks.applications:application",
        LEAST_SIZES.get(name, 32),
        DENSENET_BLOCKS if name.startswith("DenseNet") else (),
        is_dense=name.startswith("DenseNet"),
        arguments={"name": name, "mode": mode},
    )
    for mode, names in APPLICATIONS.items()
    for name in sorted(names.split())
}


def named(text):
    """The name of a network, from the command line. Raises: ValueError, which proposes the nearest names."""
    if text in NETWORKS:
        return text
    spelled = {name.lower(): name for name in reversed(NETWORKS)}  # of two that differ in case alone, the first
    same = text.lower() in spelled
    near = [spelled[name] for name in ([text.lower()] if same else difflib.get_close_matches(text.lower(), spelled))]
    advice = f"Did you mean {' or '.join(near)}?" if near else f"Expected one of {', '.join(NETWORKS)}."
    raise ValueError(f"{text!r} is not a network. {advice}")


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
    return getattr(importlib.import_module(module), function)(size, weights, **settings, **entry.arguments)

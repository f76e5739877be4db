"""DenseNet-169 and EfficientNet-Lite0 in idiomatic PyTorch: the references for benchmark.py.

Same parameters, and same outputs with the same weights (tests/tools/test_benchmark.py); channels first, as usual in PyTorch.

Sources: Huang et al. 2017, arXiv 1608.06993, table 1, as torchvision's densenet169; Tan and Le 2019, arXiv 1905.11946, lite.
"""

import torch
from torch import nn

from bones.networks.applications import IMAGENET_MEAN, IMAGENET_STD
from bones.networks.efficientnet_lite import STAGES

EPSILON = 1.001e-5  # of keras.applications; torchvision has 1e-5


class DenseLayer(nn.Module):
    """Normalise, 1 x 1, normalise, 3 x 3; the 32 new channels are appended."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.BatchNorm2d(channels, EPSILON), nn.ReLU(inplace=True), nn.Conv2d(channels, 128, 1, bias=False)),
            *(nn.BatchNorm2d(128, EPSILON), nn.ReLU(inplace=True), nn.Conv2d(128, 32, 3, padding=1, bias=False)),
        )

    def forward(self, x):
        return torch.cat([x, self.layers(x)], 1)


class DenseNet169(nn.Module):
    """Grey pixels of 0 to 255, (n, 1, size, size), -> logits, (n, 1)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        channels = 64
        layers = [nn.Conv2d(3, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels, EPSILON), nn.ReLU(inplace=True)]
        layers.append(nn.MaxPool2d(3, 2, 1))
        for block, depth in enumerate((6, 12, 32, 32)):
            if block:
                layers += [nn.BatchNorm2d(channels, EPSILON), nn.ReLU(inplace=True)]
                layers += [nn.Conv2d(channels, channels // 2, 1, bias=False), nn.AvgPool2d(2)]
                channels //= 2
            layers += [DenseLayer(channels + 32 * place) for place in range(depth)]
            channels += 32 * depth
        layers += [nn.BatchNorm2d(channels, EPSILON), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, nn.Linear(channels, 1))

    def forward(self, grey):
        return self.layers((grey.expand(-1, 3, -1, -1) - self.mean) / self.std)


def padded(channels, filters, kernel, stride, groups=1):
    """[padding, convolution] as TensorFlow pads: a stride of 2 has one row and column fewer in front."""
    before = (kernel - stride) // 2
    padding = [nn.ZeroPad2d((before, kernel - stride - before) * 2)] if stride == 2 else []
    return [*padding, nn.Conv2d(channels, filters, kernel, stride, 0 if stride == 2 else kernel // 2, 1, groups, bias=False)]


def normalised(channels):
    """[batch normalisation, ReLU6]."""
    return [nn.BatchNorm2d(channels, 1e-3), nn.ReLU6(inplace=True)]


class Block(nn.Module):
    """An inverted residual block, see `efficientnet_lite.block`."""

    def __init__(self, channels, filters, kernel, stride, expansion):
        super().__init__()
        inner = channels * expansion
        expand = [nn.Conv2d(channels, inner, 1, bias=False), *normalised(inner)] if expansion > 1 else []
        depthwise = [*padded(inner, inner, kernel, stride, groups=inner), *normalised(inner)]
        project = [nn.Conv2d(inner, filters, 1, bias=False), nn.BatchNorm2d(filters, 1e-3)]
        self.layers = nn.Sequential(*expand, *depthwise, *project)
        self.has_bypass = stride == 1 and channels == filters

    def forward(self, x):
        return x + self.layers(x) if self.has_bypass else self.layers(x)


class EfficientNetLite0(nn.Module):
    """Grey pixels of 0 to 255, (n, 1, size, size) with an even size, -> logits, (n, 1)."""

    def __init__(self):
        super().__init__()
        channels, layers = 32, [*padded(3, 32, 3, 2), *normalised(32)]
        for repeats, kernel, stride, expansion, filters in STAGES:
            for place in range(repeats):
                layers.append(Block(channels, filters, kernel, stride if place == 0 else 1, expansion))
                channels = filters
        layers += [nn.Conv2d(channels, 1280, 1, bias=False), *normalised(1280), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.layers = nn.Sequential(*layers, nn.Linear(1280, 1))

    def forward(self, grey):
        return self.layers((grey.expand(-1, 3, -1, -1) - 127) / 128)


NETWORKS = {"densenet169": DenseNet169, "efficientnet_lite0": EfficientNetLite0}


def copy_weights(network, peer):
    """Copy the weights of a keras.Model of the catalogue to its peer in NETWORKS.

    Both list their layers in the same order.
    """
    kinds = ("Conv2D", "DepthwiseConv2D", "BatchNormalization", "Dense")
    ours = [layer for layer in network.layers if type(layer).__name__ in kinds]
    theirs = [module for module in peer.modules() if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.Linear))]
    for layer, module in zip(ours, theirs, strict=True):
        values = [torch.tensor(value) for value in layer.get_weights()]
        if isinstance(module, nn.BatchNorm2d):
            tensors = [module.weight, module.bias, module.running_mean, module.running_var]
        else:  # Keras kernels are (height, width, in, out), depthwise (height, width, in, 1), or (in, out)
            order = (2, 3, 0, 1) if "Depthwise" in type(layer).__name__ else (3, 2, 0, 1)
            values[0] = values[0].permute(order) if values[0].ndim == 4 else values[0].T
            tensors = [module.weight, module.bias][: len(values)]
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)

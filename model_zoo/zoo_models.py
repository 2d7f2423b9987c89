"""The architectures whose code is here: residual and plain networks for small images."""

from functools import partial
from pathlib import Path

from torch import nn

from .architecture import Architecture
from .cifar_resnet import CifarResNet
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from .small_vgg import SmallVgg

DATA = Path(__file__).parent / "data"
CIFAR = Preprocessing((3, 32, 32), IMAGENET_MEAN, IMAGENET_STD)
FASHION = Preprocessing((1, 28, 28), (0.2860,), (0.3530,))
CIFAR_DEPTHS = (20, 32, 44, 56, 110)


def _resnet(depth: int, in_channels: int, classes: int) -> nn.Module:
    return CifarResNet(depth, classes, in_channels)


def _small_vgg(in_channels: int, classes: int) -> nn.Module:
    return SmallVgg(classes, in_channels)


ZOO: dict[str, Architecture] = {
    f"resnet{depth}": Architecture(f"zoo:resnet{depth}", partial(_resnet, depth, 3), CIFAR, 10)
    for depth in CIFAR_DEPTHS
} | {
    "fashion-resnet8": Architecture(
        "zoo:fashion-resnet8", partial(_resnet, 8, 1), FASHION, 10, embedded=DATA / "fashion-resnet8.safetensors"
    ),
    "fashion-small-vgg": Architecture(
        "zoo:fashion-small-vgg", partial(_small_vgg, 1), FASHION, 10, embedded=DATA / "fashion-small-vgg.safetensors"
    ),
    "small-vgg": Architecture("zoo:small-vgg", partial(_small_vgg, 3), CIFAR, 10),
}

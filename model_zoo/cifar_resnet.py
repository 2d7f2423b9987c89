"""The small residual networks of He et al. 2016 (arXiv 1512.03385, section 4.2), with parameter-free shortcuts.

Depth is 6n + 2: n basic blocks in each of three stages of 16, 32 and 64 channels. Module names are those of the
checkpoints in circulation: conv1, bn1, layer{1,2,3}.N.{conv1,bn1,conv2,bn2}, linear.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a residual add.

    Where the shape changes, the shortcut takes every second pixel and pads the new channels with zeros, half on each
    side (option A of the paper: no parameters).
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Create a block whose first convolution has ``stride`` 1 or 2."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.new_channels = channels - in_channels

    def shortcut(self, x: Tensor) -> Tensor:
        """Subsample and zero-pad ``x`` of shape [batch, channels, height, width] to the block's output shape."""
        if self.stride != 1:
            x = x[:, :, :: self.stride, :: self.stride]
        half = self.new_channels // 2
        return F.pad(x, (0, 0, 0, 0, half, self.new_channels - half)) if self.new_channels else x

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, in_channels, height, width] to [batch, channels, height / stride, width / stride]."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class CifarResNet(nn.Module):
    """ResNet of depth 6n + 2 for small images, shape [batch, in_channels, height, width]."""

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        """Create the network; ``depth`` is 8, 14, 20, and so on."""
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_channels, channels, stride)
        return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [batch, num_classes]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits

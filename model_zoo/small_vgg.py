"""A small plain network: stacked 3x3 convolutions, average pools, a global average in front of the classes.

In the manner of Simonyan and Zisserman 2015 (arXiv 1409.1556), with batch norm, and no layers of neurons at the end.
On 28x28 images it takes 12.4 million multiply-accumulates and 157,000 weights.
"""

from torch import Tensor, nn

WIDTHS = (24, 48, 96)


class SmallVgg(nn.Module):
    """One convolution of 24 channels, two of 48, two of 96, with an average pool of 2x2 between the three widths."""

    def __init__(self, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        first, second, third = WIDTHS
        self.features = nn.Sequential(
            *_convolution(in_channels, first),
            nn.AvgPool2d(2),
            *_convolution(first, second),
            *_convolution(second, second),
            nn.AvgPool2d(2),
            *_convolution(second, third),
            *_convolution(third, third),
        )
        self.classifier = nn.Linear(third, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [batch, num_classes] of images [batch, in_channels, height, width]."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def _convolution(channels: int, out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU()

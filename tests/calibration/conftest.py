"""Small networks whose activations can be computed by hand."""

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.graph import PreparedGraph, prepare


class Net(nn.Module):
    """Two sites, of 4 and 5 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.hidden = nn.Linear(4 * 36, 5)
        self.head = nn.Linear(5, 3)

    def activations(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.conv(x).relu()
        return first, self.hidden(first.flatten(1)).relu()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.activations(x)[1])


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(20, 1, 6, 6)


@pytest.fixture
def graph(net: Net, images: Tensor) -> PreparedGraph:
    return prepare(net, images[:2])

"""Small networks and images, and neurons that run as plain torch: compiling them would take longer than all tests."""

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.fused import Fused


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Fused, "__call__", lambda self, *args: self.function(*args))


class Small(nn.Module):
    """One ReLU module called twice, an add of what time does not change, a function, pools and dropout."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.side = nn.Conv2d(1, 4, 1)
        self.c = nn.Conv2d(4, 6, 3)
        self.norms = nn.ModuleList([nn.BatchNorm2d(n) if norm else nn.Identity() for n in (4, 4, 6)])
        self.relu, self.drop = nn.ReLU(), nn.Dropout(0.5)
        self.pool, self.average = nn.MaxPool2d(2), nn.AvgPool2d(2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.norms[0](self.a(x)))
        h = self.relu(self.norms[1](self.b(h)) + self.side(x))
        h = self.norms[2](self.c(self.pool(h))).relu()
        return self.head(self.drop(self.average(h).mean((2, 3))))


def halved(net: nn.Module) -> nn.Module:
    """Return ``net`` with weights that fit in half precision."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(parameter.half())
    return net


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return halved(Small())


@pytest.fixture
def normed() -> nn.Module:
    torch.manual_seed(0)
    return Small(norm=True)


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(24, 1, 10, 10)

"""Small networks whose arithmetic is exact: weights, thresholds and inputs are multiples of small powers of two."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.graph.operations import BY_NAME, OPERATIONS


class Branches(nn.Module):
    """What time makes difficult: residual adds of unequal depth, one ReLU called thrice, pools in three places."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 6, 1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = self.relu(self.a(x))
        y = self.pool(self.relu(self.b(h)))
        y = self.relu(y + self.pool(h))
        y = self.pool(self.c(y))
        return self.head(y.view(y.size(0), -1, 4).mean(2))


def dyadic(module: nn.Module) -> nn.Module:
    """Return ``module`` in float64 with its weights rounded to multiples of 1/16."""
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_((parameter * 32).round() / 16)
    return module


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return dyadic(Branches())


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(1)
    return (torch.randn(5, 1, 8, 8).double() * 8).round() / 8


@pytest.fixture
def own_operations() -> Iterator[None]:
    """Give a test that registers activations a table of its own."""
    before, functions = dict(BY_NAME), dict(OPERATIONS)
    yield
    for table, kept in ((BY_NAME, before), (OPERATIONS, functions)):
        table.clear()  # type: ignore[attr-defined]
        table.update(kept)  # type: ignore[arg-type]

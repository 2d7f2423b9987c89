"""Small networks whose activations can be computed by hand."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration.side_by_side import Meeting, activations, correct
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Correction
from snnconvert.converter.thresholds import Thresholds


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


@pytest.fixture(scope="session")
def many() -> Tensor:
    """Return images to correct on and to hold out."""
    return torch.randn(1600, 1, 6, 6, generator=torch.Generator().manual_seed(7))


@pytest.fixture
def thresholds(graph: PreparedGraph, many: Tensor) -> Thresholds:
    """Return thresholds that cut some activations off, for a window of four steps."""
    return below_maximum(graph, many[:50], 4)


def below_maximum(graph: PreparedGraph, x: Tensor, steps: int) -> Thresholds:
    (_, seen), values = activations(graph, (x,)), {}
    for child, (_, activation) in seen.items():
        site = graph.module.get_submodule(child)
        values[site.name] = 0.7 * activation.abs().movedim(site.axis, 0).flatten(1).amax(1).clamp(min=0.1)
    return Thresholds(values, steps, "given", "channel")  # type: ignore[arg-type]


@pytest.fixture(name="below_maximum")
def _below_maximum() -> Callable[[PreparedGraph, Tensor, int], Thresholds]:
    return below_maximum


@pytest.fixture
def meetings() -> Callable[..., list[Meeting]]:
    """Return a function that gives what is seen at each site on one batch, changing nothing."""

    def see(graph: PreparedGraph, thresholds: Thresholds, x: Tensor, neuron: str) -> list[Meeting]:
        seen: list[Meeting] = []

        def keep(meeting: Meeting) -> Correction:
            seen.append(meeting)
            return meeting.correction

        correct(graph, thresholds, [x], keep, name="none", neuron=neuron)
        return seen

    return see

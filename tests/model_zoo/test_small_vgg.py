"""The small plain network: its size, as its documentation says."""

import pytest
import torch
from torch import nn

from snnconvert.converter.graph import prepare
from snnconvert.model_zoo import find_architecture
from snnconvert.model_zoo.small_vgg import SmallVgg


def test_it_has_the_size_that_it_says() -> None:
    net = SmallVgg(10, 1).eval()
    operations = []

    def count(layer: nn.Module, args: tuple[torch.Tensor], out: torch.Tensor) -> None:
        operations.append(out[0].numel() * layer.weight[0].numel())  # type: ignore[index, operator, union-attr]

    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert sum(operations) == pytest.approx(12.4e6, rel=0.005)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(157_000, rel=0.005)


@pytest.mark.parametrize(("name", "shape"), [("fashion-small-vgg", (1, 28, 28)), ("small-vgg", (3, 32, 32))])
def test_by_name(name: str, shape: tuple[int, ...]) -> None:
    known = find_architecture(name)
    assert known.name == f"zoo:{name}"
    assert known.preprocessing.size == shape
    graph = prepare(known.build(7).eval(), torch.randn(2, *shape))
    assert len(graph.sites) == 5
    assert graph.module(torch.zeros(3, *shape)).shape == (3, 7)

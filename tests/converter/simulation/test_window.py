"""Operations that are not linear, carried through time: their outputs add up to T f(mean)."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import fx

from snnconvert.converter.simulation.window import accumulated, apply


def call(function: Any, *args: Any, **kwargs: Any) -> fx.Node:
    graph = fx.Graph()
    return graph.call_function(function, (graph.placeholder("x"), *args), kwargs)


CALLS = {
    "max-pool": call(F.max_pool2d, 2),
    "max-pool with words": call(F.max_pool2d, kernel_size=3, stride=2, padding=1),
    "adaptive max-pool": call(F.adaptive_max_pool2d, (1, 3)),
    "relu": call(torch.relu),
    "clamp": call(torch.clamp, 0.0, 0.75),
}


def reference(name: str, x: torch.Tensor) -> torch.Tensor:
    """Return the function itself, written another way."""
    if name == "max-pool":
        return x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
    if name == "max-pool with words":
        return F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))
    if name == "adaptive max-pool":
        return x.amax(2, keepdim=True).unfold(3, 2, 2).amax(-1)
    return x.where(x > 0, 0) if name == "relu" else x.where(x > 0, 0).where(x < 0.75, 0.75)


@pytest.mark.parametrize("name", CALLS)
def test_an_operation_is_applied_with_its_arguments(name: str) -> None:
    x = torch.randn(3, 2, 6, 6)
    assert torch.equal(apply(CALLS[name], x), reference(name, x))


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("name", CALLS)
def test_changes_add_up_to_the_result_of_the_window(name: str, steps: int) -> None:
    train = torch.randn(steps, 3, 2, 6, 6).double()
    total, before, changes = torch.zeros_like(train[0]), torch.zeros(()).double(), []
    for t in range(steps):
        total = total + train[t]
        now = accumulated(CALLS[name], total, t + 1)
        changes.append(now - before)
        before = now
    assert torch.allclose(torch.stack(changes).sum(0), steps * reference(name, train.mean(0)))


def test_pooling_is_the_difference_of_running_maxima() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]).reshape(4, 1, 1, 1, 2)
    totals = train.cumsum(0)
    node = call(F.max_pool2d, (1, 2))
    results = [accumulated(node, total, t + 1).item() for t, total in enumerate(totals)]
    assert results == [1.0, 1.0, 2.0, 2.0]

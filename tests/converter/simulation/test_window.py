"""Operations that are not linear, carried through time: their outputs add up to T f(mean)."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconvert.converter.simulation.window import accumulated, apply


def call(function: Any, *args: Any, **kwargs: Any) -> fx.Node:
    """Return a call on a signal "x"; strings among the further arguments are nodes too."""
    graph = fx.Graph()
    nodes = {name: graph.placeholder(name) for name in ["x", *(a for a in args if isinstance(a, str))]}
    return graph.call_function(function, (nodes["x"], *(nodes.get(a, a) for a in args)), kwargs)


CALLS = {
    "max-pool": call(F.max_pool2d, 2),
    "max-pool with words": call(F.max_pool2d, kernel_size=3, stride=2, padding=1),
    "adaptive max-pool": call(F.adaptive_max_pool2d, (1, 3)),
    "relu": call(torch.relu),
    "clamp": call(torch.clamp, 0.0, 0.75),
    "softmax": call(F.softmax, 1),
    "gelu": call(F.gelu),
}


def reference(name: str, x: Tensor) -> Tensor:
    """Return the function itself, written another way."""
    match name:
        case "max-pool":
            return x.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1))
        case "max-pool with words":
            return F.pad(x, (1, 1, 1, 1), value=-torch.inf).unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))
        case "adaptive max-pool":
            return x.amax(2, keepdim=True).unfold(3, 2, 2).amax(-1)
        case "softmax":
            return x.exp() / x.exp().sum(1, keepdim=True)
        case "gelu":
            return x * torch.special.ndtr(x)
        case "relu":
            return x.where(x > 0, 0)
    return x.where(x > 0, 0).where(x < 0.75, 0.75)


def read(values: dict[str, Tensor]) -> Callable[[fx.Node], Tensor]:
    return lambda node: values[node.name]


@pytest.mark.parametrize("name", CALLS)
def test_an_operation_is_applied_with_its_arguments(name: str) -> None:
    x = torch.randn(3, 2, 6, 6)
    assert torch.allclose(apply(CALLS[name], read({"x": x})), reference(name, x), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("name", CALLS)
def test_changes_add_up_to_the_result_of_the_window(name: str, steps: int) -> None:
    train = torch.randn(steps, 3, 2, 6, 6).double()
    total, before, changes = torch.zeros_like(train[0]), torch.zeros(()).double(), []
    for t in range(steps):
        total = total + train[t]
        now = accumulated(CALLS[name], t + 1, read({"x": total}), set())
        changes.append(now - before)
        before = now
    assert torch.allclose(torch.stack(changes).sum(0), steps * reference(name, train.mean(0)))


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_two_signals_are_both_means_and_a_weight_is_itself(steps: int) -> None:
    x, y = torch.randn(2, steps, 4, 3).double()
    product = call(torch.mul, "y")
    found = accumulated(product, steps, read({"x": x.sum(0), "y": y.sum(0)}), set())
    assert torch.allclose(found, steps * x.mean(0) * y.mean(0))
    weight, bias = torch.randn(2, 3).double()
    norm = call(F.layer_norm, (3,), "weight", "bias")
    constant = {n for n in norm.all_input_nodes if n.name != "x"}
    found = accumulated(norm, steps, read({"x": x.sum(0), "weight": weight, "bias": bias}), constant)
    mean = x.mean(0)
    normal = (mean - mean.mean(1, keepdim=True)) / (mean.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(found, steps * (normal * weight + bias))


def test_pooling_is_the_difference_of_running_maxima() -> None:
    train = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]).reshape(4, 1, 1, 1, 2)
    totals = train.cumsum(0)
    node = call(F.max_pool2d, (1, 2))
    results = [accumulated(node, t + 1, read({"x": total}), set()).item() for t, total in enumerate(totals)]
    assert results == [1.0, 1.0, 2.0, 2.0]

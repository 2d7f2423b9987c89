"""What tracing cannot see is found by the proof, and its hint names it."""

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import prepare


def hook_on_a_batch_norm(m: nn.Module) -> None:
    m.norm.register_forward_hook(lambda module, given, result: result * 2)


def hook_on_the_model(m: nn.Module) -> None:
    m.register_forward_hook(lambda module, given, result: result * 2)


def own_forward(m: nn.Module) -> None:
    m.forward = types.MethodType(lambda self, x: self.head(self.conv(x)), m)


def autocast(m: nn.Module) -> None:
    def function(m: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = m.relu(m.norm(m.conv(x)))
        return m.head(h.float())

    m.function = function


def random_numbers(m: nn.Module) -> None:
    before = m.function
    m.function = lambda m, x: before(m, x + torch.rand(1))


@pytest.mark.parametrize("hide", [hook_on_a_batch_norm, hook_on_the_model, own_forward, autocast, random_numbers])
def test_what_tracing_does_not_see_is_named(network: Any, images: Tensor, hide: Callable[[nn.Module], None]) -> None:
    model = network(lambda m, x: m.head(m.relu(m.norm(m.conv(x)))), norm=nn.BatchNorm2d(4)).float()
    assert prepare(model, images.float()).proof.relative < 1e-5
    hide(model)
    expected = r"differs from the model by .*\nhint: .*hooks, random numbers or autocast, replace an instance's forward"
    with pytest.raises(ModelRefused, match=expected):
        prepare(model, images.float())

"""Every spelling of the ReLU family is a site, one for each call."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconvert.converter.errors import SnnconvertError
from snnconvert.converter.graph import Site, prepare
from snnconvert.converter.graph.sites import site_cap, site_of


class MyReLU(nn.ReLU):
    pass


class OwnForward(nn.ReLU):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=0)


def module(activation: nn.Module) -> Callable[..., Any]:
    return lambda _: activation


SPELLINGS: list[tuple[str, Callable[[Tensor], Tensor], float | None, str]] = [
    ("nn.ReLU", nn.ReLU(), None, "act"),
    ("nn.ReLU in place", nn.ReLU(inplace=True), None, "act"),
    ("subclass", MyReLU(), None, "act"),
    ("subclass with its own forward", OwnForward(), None, "act"),
    ("nn.ReLU6", nn.ReLU6(), 6, "act"),
    ("nn.ReLU6 in place", nn.ReLU6(inplace=True), 6, "act"),
    ("nn.Hardtanh(0, 2)", nn.Hardtanh(0, 2), 2, "act"),
    ("nn.Hardtanh(0, 2) in place", nn.Hardtanh(0.0, 2.0, inplace=True), 2, "act"),
    ("nn.Threshold(0, 0)", nn.Threshold(0, 0), None, "act"),
    ("F.relu", F.relu, None, "relu"),
    ("F.relu in place", lambda x: F.relu(x, inplace=True), None, "relu"),
    ("F.relu in place by position", lambda x: F.relu(x, True), None, "relu"),
    ("F.relu by name", lambda x: F.relu(input=x), None, "relu"),
    ("F.relu_", lambda x: F.relu_(x), None, "relu"),
    ("torch.relu", torch.relu, None, "relu"),
    ("torch.relu_", lambda x: torch.relu_(x), None, "relu"),
    ("x.relu", lambda x: x.relu(), None, "relu"),
    ("x.relu_", lambda x: x.relu_(), None, "relu"),
    ("F.relu6", F.relu6, 6, "relu6"),
    ("F.relu6 in place by position", lambda x: F.relu6(x, True), 6, "relu6"),
    ("F.hardtanh", lambda x: F.hardtanh(x, 0.0, 0.5), 0.5, "hardtanh"),
    ("F.hardtanh by name", lambda x: F.hardtanh(x, max_val=0.5, min_val=0), 0.5, "hardtanh"),
    ("torch.clamp", lambda x: torch.clamp(x, 0, 0.5), 0.5, "clamp"),
    ("torch.clamp by name", lambda x: torch.clamp(input=x, max=0.5, min=0), 0.5, "clamp"),
    ("torch.clip", lambda x: torch.clip(x, 0.0), None, "clip"),
    ("torch.clamp_min", lambda x: torch.clamp_min(x, 0), None, "clamp_min"),
    ("x.clamp", lambda x: x.clamp(0, 0.5), 0.5, "clamp"),
    ("x.clamp(min=0)", lambda x: x.clamp(min=0), None, "clamp"),
    ("x.clamp_", lambda x: x.clamp_(min=0.0), None, "clamp"),
    ("x.clip", lambda x: x.clip(0), None, "clip"),
    ("x.clamp_min", lambda x: x.clamp_min(0), None, "clamp_min"),
    ("F.threshold", lambda x: F.threshold(x, 0.0, 0.0), None, "threshold"),
]


@pytest.mark.parametrize(("activation", "cap", "name"), [s[1:] for s in SPELLINGS], ids=[s[0] for s in SPELLINGS])
def test_every_spelling_is_a_site(
    network: Any, images: Tensor, activation: Callable[[Tensor], Tensor], cap: float | None, name: str
) -> None:
    modules = {"act": activation} if isinstance(activation, nn.Module) else {}
    model = network(lambda m, x: m.head(activation(m.conv(x)) if not modules else m.act(m.conv(x))), **modules)
    with torch.no_grad():
        model.conv.weight.mul_(8)  # pre-activations on both sides of 6
    graph = prepare(model, images)
    assert [(s.name, s.cap, s.shape, s.channels) for s in graph.sites] == [(name, cap, (4, 8, 8), 4)]
    assert torch.allclose(graph.module(images), model(images))


OTHER: list[tuple[str, Callable[[Tensor], Tensor], str]] = [
    ("Hardtanh(-1, 1)", nn.Hardtanh(-1, 1), "Hardtanh"),
    ("F.hardtanh", F.hardtanh, "hardtanh"),
    ("clamp(-1, 1)", lambda x: x.clamp(-1, 1), "clamp"),
    ("clamp(max=1)", lambda x: x.clamp(max=1), "clamp"),
    ("clamp by tensors", lambda x: torch.clamp(x, torch.zeros(1).double(), torch.ones(1).double()), "clamp"),
    ("threshold(0, 1)", lambda x: F.threshold(x, 0, 1), "threshold"),
    ("threshold(1, 1)", lambda x: F.threshold(x, 1, 1), "threshold"),
    ("leaky relu", F.leaky_relu, "leaky_relu"),
]


@pytest.mark.parametrize(("activation", "name"), [r[1:] for r in OTHER], ids=[r[0] for r in OTHER])
def test_what_is_no_rectifier_has_a_signed_site_behind_it(
    network: Any, images: Tensor, converts: Any, activation: Callable[[Tensor], Tensor], name: str
) -> None:
    graph = converts(network(lambda m, x: m.head(activation(m.conv(x)))), images)
    assert [(s.name, s.cap, s.signed, s.spikes) for s in graph.sites] == [(name, None, True, "ternary")]


def test_a_shared_module_has_one_site_for_each_call_with_unique_names(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.relu(m.conv(x))
        for _ in range(2):
            x = m.relu(m.conv2(x)) + x.relu() + F.relu(m.block(x))
        return m.head(x)

    graph = prepare(network(forward, block=nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1))), images)
    names = [site.name for site in graph.sites]
    assert len(names) == len(set(names)) == 9
    assert {"relu", "relu#2", "block.0", "block.0#2"} <= set(names)
    assert len({id(site) for site in graph.sites}) == 9


def test_resnet18_has_17_sites() -> None:
    from snnconvert.model_zoo.libraries import torchvision

    try:
        models = torchvision().models
    except SnnconvertError as error:
        pytest.skip(str(error))
    model = models.resnet18().eval()
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == 9
    graph = prepare(model, torch.randn(1, 3, 32, 32))
    assert len(graph.sites) == len({s.name for s in graph.sites}) == 17
    assert graph.depth == 17
    assert [s.name for s in graph.sites][:3] == ["relu", "layer1.0.relu", "layer1.0.relu#2"]


def test_an_activation_of_weights_is_no_site(network: Any, images: Tensor, converts: Any) -> None:
    graph = converts(network(lambda m, x: m.head(m.relu(m.conv(x)) * F.relu(m.scale))), images)
    assert [s.name for s in graph.sites] == ["relu"]


def test_site_cap_by_hand() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    caps = {
        graph.call_function(torch.relu, (x,)): math.inf,
        graph.call_function(F.hardtanh, (x, 0, 3)): 3.0,
        graph.call_function(F.hardtanh, (x, 0, 0)): None,
        graph.call_method("clamp", (x,), {"max": 1}): None,
        graph.call_function(torch.sigmoid, (x,)): None,
        graph.call_module("relu", (x,)): None,
        x: None,
    }
    assert {node: site_cap(node) for node in caps} == caps
    assert site_of(x) is None


@pytest.mark.parametrize(("cap", "expected"), [(None, [0.0, 0.0, 2.0, 9.0]), (6.0, [0.0, 0.0, 2.0, 6.0])])
def test_a_site_computes_the_activation(cap: float | None, expected: list[float]) -> None:
    site = Site("a", cap, (4,))
    assert site(torch.tensor([-1.0, 0.0, 2.0, 9.0])).tolist() == expected
    assert "a" in repr(site)
    assert ("cap=6.0" in repr(site)) == (cap == 6.0)
    assert "binary" in repr(site)


def test_a_signed_site_is_the_identity() -> None:
    site, x = Site("a", None, (4, 3), signed=True), torch.randn(2, 4, 3)
    assert torch.equal(site(x), x)
    assert "ternary" in repr(site)
    assert (site.axis, site.channels) == (1, 4)
    site.axis = 2
    assert site.channels == 3

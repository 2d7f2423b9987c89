"""Networks with analog operations and signed sites: the executors against each other, the model, and equations."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.simulation import SpikingModel, spiking_model
from snnconvert.converter.thresholds import Thresholds


class Made(nn.Module):
    """Layers by name, and a forward pass that is a function of them and the inputs."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def conv(inputs: int, outputs: int, size: int = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **options)


def squeeze_excite(net: Any, x: Tensor) -> Tensor:
    h = F.silu(net.a(x))
    gate = net.up(F.silu(net.down(h.mean((2, 3), keepdim=True)))).sigmoid()
    return net.head(net.b(h * gate).mean((2, 3)))


def pools(net: Any, x: Tensor) -> Tensor:
    h = F.max_pool2d(F.gelu(net.a(x)), 2)
    h = F.max_pool2d(h + 3 * net.b(h), 2, stride=1)  # of both signs, after a residual add
    return net.head(net.c(h).relu().mean((2, 3)))


def tokens(net: Any, x: Tensor) -> Tensor:
    return net.patch(x).flatten(2).transpose(1, 2)


def mixer(net: Any, x: Tensor) -> Tensor:
    h = tokens(net, x)
    h = h + net.out(F.gelu(net.hidden(net.norm(h))))
    return net.head(net.last(h).mean(1))


def transformer(net: Any, x: Tensor) -> Tensor:
    h = tokens(net, x)
    n = net.norm(h)
    h = h + net.attention(n, n, n, need_weights=False)[0]
    h = h + net.out(F.gelu(net.hidden(net.last(h))))
    return net.head(h[:, 0])


def sequence_first(net: Any, x: Tensor) -> Tensor:
    """Attend with the images in the second dimension; add a train and what never changes to what comes back."""
    steady = net.patch(x).flatten(2).permute(2, 0, 1)
    h = net.patch(x).relu().flatten(2).permute(2, 0, 1)
    h = h + net.attention(h, h, h, need_weights=False)[0] + steady
    return net.head(net.out(net.hidden(net.norm(h)).transpose(0, 1).relu()).mean(1))


def windows(net: Any, x: Tensor) -> Tensor:
    """Attend within four shifted windows, which lie in the first dimension with the images, two of them masked."""
    h = net.norm(net.patch(x).permute(0, 2, 3, 1))
    h = torch.roll(h, (-1, -1), (1, 2))
    b, height, width, c = h.shape
    w = h.view(b, height // 2, 2, width // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
    q, k, v = net.qkv(w).reshape(w.shape[0], 4, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
    scores = (q * (c // 2) ** -0.5) @ k.transpose(-2, -1)
    scores = scores.view(b, 4, 2, 4, 4) + net.mask.weight.view(1, 4, 1, 4, 4)
    w = net.project((scores.view(-1, 2, 4, 4).softmax(-1) @ v).transpose(1, 2).reshape(w.shape))
    w = w.view(b, height // 2, width // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(b, height, width, c)
    return net.head(torch.roll(w, (1, 1), (1, 2)).mean((1, 2)))


def softmax(net: Any, x: Tensor) -> Tensor:
    h = net.b(net.a(x).softmax(1)).relu()
    return net.head((h * h).mean((2, 3)))  # one signal twice


def two_inputs(net: Any, x: Tensor, y: Tensor) -> dict[str, Any]:
    h, k = F.gelu(net.a(x)), net.b(y).tanh()
    mixed = net.c(h) * net.d(k)
    return {"logits": net.head(mixed.mean((2, 3))), "more": [net.e(mixed).flatten(1), (h.sum((1, 2, 3)),)]}


def patched(**modules: nn.Module) -> dict[str, nn.Module]:
    """Return a patch layer that makes 4 x 4 tokens of 6 channels, and what stands around in every transformer."""
    return {"patch": nn.Conv2d(2, 6, 2, stride=2), "norm": nn.LayerNorm(6), "head": nn.Linear(6, 3)} | modules


def mlp() -> dict[str, nn.Module]:
    return {"hidden": nn.Linear(6, 12), "out": nn.Linear(12, 6), "last": nn.LayerNorm(6)}


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "conv and gelu": lambda: nn.Sequential(
        conv(2, 4), nn.GELU(), conv(4, 4), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    ),
    "squeeze-excite": lambda: Made(
        squeeze_excite, a=conv(2, 4), down=conv(4, 8, 1), up=conv(8, 4, 1), b=conv(4, 4), head=nn.Linear(4, 3)
    ),
    "max-pools": lambda: Made(pools, a=conv(2, 4), b=conv(4, 4), c=conv(4, 4, 1), head=nn.Linear(4, 3)),
    "layer norm": lambda: Made(mixer, **patched(**mlp())),
    "attention": lambda: Made(transformer, **patched(**mlp(), attention=nn.MultiheadAttention(6, 2, batch_first=True))),
    "attention, sequence first": lambda: Made(
        sequence_first, **patched(**mlp(), attention=nn.MultiheadAttention(6, 2))
    ),
    "window attention": lambda: Made(
        windows, **patched(qkv=nn.Linear(6, 18), project=nn.Linear(6, 6), mask=nn.Linear(16, 4))
    ),
    "softmax": lambda: Made(softmax, a=conv(2, 4), b=conv(4, 4), head=nn.Linear(4, 3)),
    "two inputs": lambda: Made(
        two_inputs, a=conv(2, 4), b=conv(1, 4), c=conv(4, 4, 1), d=conv(4, 4, 1), e=conv(4, 2), head=nn.Linear(4, 3)
    ),
}

ROWS = {"window attention": 4}
"""How many rows of the first dimension one image has at the sites, where that is not one."""


def built(name: str, count: int = 5) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return a network in float64 with weights large enough that all sites fire, and images."""
    torch.manual_seed(2)
    model = NETWORKS[name]().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(count, 2, 8, 8).double()
    return model, (images, torch.randn(count, 1, 8, 8).double()) if name == "two inputs" else (images,)


def thresholds(graph: PreparedGraph, low: float = 0.4, high: float = 0.9) -> Thresholds:
    values = {s.name: torch.linspace(low, high, s.channels).double() for s in graph.sites}
    return Thresholds(values, None, "given", "channel")


def spiking(name: str, neuron: str, steps: int = 5, **options: Any) -> tuple[SpikingModel, tuple[Tensor, ...]]:
    model, images = built(name)
    graph = prepare(model, tuple(x[:2] for x in images))
    return convert(graph, thresholds(graph), neuron=neuron, steps=steps, **options), images


def difference(found: Any, expected: Any) -> float:
    return max(float((f - e).abs().max()) for f, e in zip(tree_leaves(found), tree_leaves(expected), strict=True))


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_counts_layers_and_steps_agree(name: str, steps: int) -> None:
    model, images = spiking(name, "two-phase", steps)
    reference, activity = model(*images, executor="steps"), model.activity(*images, executor="steps")
    assert all(leaf.std(0).min() > 0 for leaf in tree_leaves(reference))
    for executor in ("counts", "layers"):
        found = model.activity(*images, executor=executor)
        assert all(torch.equal(found[site], activity[site]) for site in activity)
        assert difference(model(*images, executor=executor), reference) < 1e-12


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
@pytest.mark.parametrize("name", NETWORKS)
def test_activity_is_that_of_every_site_and_of_both_signs(name: str, neuron: str) -> None:
    model, images = spiking(name, neuron)
    for executor in model.executors:
        activity = model.activity(*images, executor=executor)
        assert set(activity) == {site.name for site in model.graph.sites}
        for site in model.graph.sites:
            counts = activity[site.name]
            assert counts.shape == (5 * ROWS.get(name, 1), *site.shape)
            assert torch.equal(counts, counts.round())
            assert counts.max() > 0
            assert (-5 <= counts.min() < 0) if site.signed else (counts.min() == 0)
            assert counts.max() <= 5
    signed = any(site.signed for site in model.graph.sites)
    assert signed != (name == "softmax")
    assert model.levels == (11 if signed else 6)


@pytest.mark.parametrize("shuffle", ["none", "per-neuron"])
@pytest.mark.parametrize("name", NETWORKS)
def test_tpp_draws_the_same_spikes_in_layers_and_steps(name: str, shuffle: str) -> None:
    model, images = spiking(name, "tpp", seed=3, shuffle=shuffle)
    index = torch.tensor([4, 0, 9, 2, 7])
    reference = model.activity(*images, index=index, executor="steps")
    found = model.activity(*images, index=index, executor="layers")
    assert all(torch.equal(found[site], reference[site]) for site in reference)
    answers = [model(*images, index=index, executor=executor) for executor in ("layers", "steps")]
    assert difference(*answers) < 1e-12
    model.seed = 4
    assert difference(model(*images, index=index, executor="layers"), answers[0]) > 1e-6


@pytest.mark.parametrize("name", NETWORKS)
def test_tpp_counts_agree_in_distribution(name: str) -> None:
    model, images = spiking(name, "tpp", 3)
    many = tuple(x[:1].expand(1500, *x.shape[1:]) for x in images)
    fast, slow = (tree_leaves(model(*many, executor=executor)) for executor in ("counts", "layers"))
    for f, s in zip(fast, slow, strict=True):
        error = (f.var(0) + s.var(0)).div(1500).sqrt()
        assert ((f.mean(0) - s.mean(0)).abs() < 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_do_not_depend_on_the_split_or_the_memory(
    name: str, neuron: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = spiking(name, neuron)
    index = torch.tensor([3, 1, 4, 1, 5])
    for executor in model.executors:
        whole = model(*images, index=index, executor=executor)
        split = [
            model(*(x[i : i + 2] for x in images), index=index[i : i + 2], executor=executor) for i in range(0, 5, 2)
        ]
        assert difference(tree_map(lambda *parts: torch.cat(parts), *split), whole) < 1e-12
    monkeypatch.setattr(spiking_model, "FEW", 0)
    monkeypatch.setattr(spiking_model, "MEMORY", 1)
    answers = [model(*images, index=index, executor=executor) for executor in ("layers", "steps")]
    assert difference(*answers) < 1e-12


@pytest.mark.parametrize("name", NETWORKS)
def test_many_levels_approach_the_model(name: str) -> None:
    model, images = built(name)
    graph = prepare(model, tuple(x[:2] for x in images))
    wide = convert(graph, thresholds(graph, 40, 60), neuron="two-phase", steps=2**16)
    with torch.no_grad():
        assert difference(wide(*images), model(*images)) < 0.02


def rounded(z: Tensor, theta: Tensor, steps: int) -> Tensor:
    """Return theta / T clip(floor(T z / theta + 1/2), -T, T)."""
    return theta / steps * (z * steps / theta + 0.5).floor().clamp(-steps, steps)


@pytest.mark.parametrize("executor", ["counts", "layers", "steps"])
def test_a_transformer_block_is_rounding_before_every_layer(executor: str) -> None:
    model, (images,) = built("layer norm")
    graph = prepare(model, images[:2])
    snn = convert(graph, thresholds(graph), neuron="two-phase", steps=5)
    assert [site.shape for site in graph.sites] == [(16, 6), (16, 12), (16, 6)]
    (narrow, wide, last), net = (thresholds(graph).values[site.name] for site in graph.sites), model
    with torch.no_grad():
        h = tokens(net, images)
        hidden = rounded(F.gelu(net.hidden(rounded(net.norm(h), narrow, 5))), wide, 5)  # type: ignore[operator]
        out = net.last(h + net.out(hidden))  # type: ignore[operator]
        expected = net.head(rounded(out, last, 5).mean(1))  # type: ignore[operator]
    assert difference(snn(images, executor=executor), expected) < 1e-12

"""Errors by site against scalar loops over neurons and steps, and causes put there on purpose found again."""

import gc
import json
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration import observe
from snnconvert.calibration.attribution import OWN, PARTS, Attribution, attribute
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused, DataRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Correction
from snnconvert.converter.thresholds import Thresholds

STEPS = 4
CAP = 1.2
KINDS = ("none", "bias", "bias by step", "potential by neuron", "height", "everything")


@pytest.fixture
def model() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Hardtanh(0.0, CAP), nn.Linear(4, 2)
    nn.init.normal_(layers[2].weight)
    return nn.Sequential(*layers).double().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(12, 3, generator=torch.Generator().manual_seed(1)).double() * 2


def given(graph: PreparedGraph, kind: str = "none") -> Thresholds:
    generator = torch.Generator().manual_seed(2)
    values, corrections = {}, {}
    for site in graph.sites:
        values[site.name] = theta = 0.8 * (0.75 + 0.5 * torch.rand(site.channels, generator=generator).double())
        shapes = (site.channels,), (STEPS, site.channels), site.shape, (site.channels,)
        bias, by_step, start, height = (torch.randn(*s, generator=generator).double() / 8 for s in shapes)
        corrections[site.name] = {
            "none": Correction(),
            "bias": Correction(bias=bias),
            "bias by step": Correction(bias=by_step),
            "potential by neuron": Correction(potential=4 * start),
            "height": Correction(height=theta * (1 + height)),
            "everything": Correction(by_step, 4 * start, theta * (1 + height)),
        }[kind]
    return Thresholds(values, STEPS, "given", "channel", corrections=corrections)


def mean_of_tpp(v: float, steps: int) -> float:
    left = {0: 1.0}
    for step in range(steps):
        after: dict[int, float] = {}
        for count, probability in left.items():
            p = min(max((v - count) / (steps - step), 0.0), 1.0)
            for spike, share in ((0, 1 - p), (1, p)):
                after[count + spike] = after.get(count + spike, 0.0) + probability * share
        left = after
    return sum(count * probability for count, probability in left.items())


class Plain:
    """A spiking network of two layers, one neuron and one step after the other."""

    def __init__(self, model: nn.Sequential, graph: PreparedGraph, thresholds: Thresholds, neuron: str) -> None:
        self.layers = [(layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in (model[0], model[2])]
        self.names = [site.name for site in graph.sites]
        self.thresholds, self.neuron = thresholds, neuron

    def of(self, level: int, unit: int, currents: list[float], cap: float) -> tuple[dict[str, float], list[float]]:
        """Return the steps from f(mean) to the output of one neuron, and its spikes in units of the activation."""
        theta = float(self.thresholds.values[self.names[level]][unit])
        bias, start, height = self.thresholds.corrections[self.names[level]]
        h = theta if height is None else float(height[unit])
        biases = [0.0 if bias is None else float(bias[t, unit] if bias.ndim == 2 else bias[unit]) for t in range(STEPS)]
        v0 = 0.0 if start is None else float(start[unit])
        mean = sum(currents) / STEPS
        ideal = min(max(mean, 0.0), cap)
        total = (mean * STEPS + sum(biases)) / theta + v0
        level_of = min(max(math.floor(total + 0.5), 0), STEPS) * h / STEPS
        steps = {"ideal": ideal, "clipped": min(ideal, h), "quantisation": level_of}
        if self.neuron == "tpp":
            expected = mean_of_tpp(total, STEPS)
            p = expected - math.floor(expected)
            steps["stochastic"] = (h / STEPS) ** 2 * p * (1 - p) + (h / STEPS * expected - level_of) ** 2
            return steps, []
        spikes, v = [], theta * (0.5 + v0)
        for t in range(STEPS):
            v += currents[t] + biases[t] if self.neuron == "if" else 0.0
            if self.neuron == "two-phase" and t == 0:
                v += mean * STEPS + sum(biases)
            spikes.append(h if v >= theta else 0.0)
            v -= theta if v >= theta else 0.0
        return steps | {"output": sum(spikes) / STEPS}, spikes

    def errors(self, x: np.ndarray, levels: int) -> list[dict[str, float]]:
        sums = [dict.fromkeys(("power", "total", *PARTS), 0.0) for _ in range(levels)]
        for image in x:
            ann, trains = image, [image] * STEPS
            for level, (weight, bias) in enumerate(self.layers[:levels]):
                cap = CAP if level else math.inf
                currents = [weight @ train + bias for train in trains]
                ann = np.clip(weight @ ann + bias, 0, cap)
                fired = []
                for unit, a in enumerate(ann):
                    steps, spikes = self.of(level, unit, [float(current[unit]) for current in currents], cap)
                    fired.append(spikes)
                    into = sums[level]
                    into["power"] += a**2
                    into["inherited"] += (steps["ideal"] - a) ** 2
                    into["clipped"] += (steps["clipped"] - steps["ideal"]) ** 2
                    into["quantisation"] += (steps["quantisation"] - steps["clipped"]) ** 2
                    into["stochastic"] += steps.get("stochastic", 0.0)
                    if "output" in steps:
                        into["total"] += (steps["output"] - a) ** 2
                        into["temporal"] += (steps["output"] - steps["quantisation"]) ** 2
                trains = list(np.array(fired).T)
        return [{k: v / site["power"] for k, v in site.items()} for site in sums]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("neuron", ["if", "two-phase", "tpp"])
def test_every_part_is_that_of_a_plain_loop(model: nn.Sequential, x: Tensor, neuron: str, kind: str) -> None:
    graph = prepare(model, x)
    thresholds = given(graph, kind)
    found = attribute(graph, thresholds, x.split(5), neuron=neuron)
    levels = 1 if neuron == "tpp" else 2  # the second site gets random numbers
    truth = Plain(model, graph, thresholds, neuron).errors(x.numpy(), levels)
    for entry, expected in zip(found.sites[:levels], truth, strict=True):
        assert dict(entry.parts) == pytest.approx({k: expected[k] for k in PARTS}, rel=1e-3, abs=1e-12)
        assert entry.own == pytest.approx(sum(expected[k] for k in OWN), rel=1e-3)
        if neuron != "tpp":
            assert entry.total == pytest.approx(expected["total"])
    assert (found.sites[1].parts["temporal"] > 0) == (neuron == "if") or kind != "none"
    assert (found.neuron, found.steps, found.images) == (neuron, STEPS, 12)
    assert [entry.site for entry in found.sites] == [site.name for site in graph.sites]


@pytest.mark.parametrize("options", [{"shift": True}, {"initial_potential": 0.0}, {"initial_potential": 0.25}])
def test_the_start_of_streaming_neurons_is_part_of_the_rounding(
    model: nn.Sequential, x: Tensor, options: dict[str, Any]
) -> None:
    graph = prepare(model, x)
    thresholds = given(graph)
    first = attribute(graph, thresholds, [x], neuron="if", **options).sites[0]
    assert first.parts["temporal"] == 0  # a steady input
    z = model[0](x).detach().numpy()
    theta, start = thresholds.values[graph.sites[0].name].numpy(), options.get("initial_potential", 0.5)
    output = np.clip(np.floor(z * STEPS / theta + start), 0, STEPS) * theta / STEPS
    expected = np.square(output - np.clip(z, 0, theta)).sum() / np.square(z.clip(0)).sum()
    assert first.parts["quantisation"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("neuron", "options"),
    [("if", {}), ("if", {"shuffle": "per-neuron", "seed": 3}), ("two-phase", {}), ("tpp", {"seed": 5})],
)
def test_the_total_is_what_the_spiking_network_says(
    model: nn.Sequential, x: Tensor, neuron: str, options: dict[str, Any]
) -> None:
    graph = prepare(model, x)
    thresholds = given(graph, "height")
    found = attribute(graph, thresholds, x.split(5), neuron=neuron, **options)
    counts = convert(graph, thresholds, neuron=neuron, steps=STEPS, **options).activity(x)
    with torch.no_grad():
        activations = [model[:2](x), model[:4](x)]
    for entry, activation in zip(found.sites, activations, strict=True):
        height = thresholds.corrections[entry.site].height
        assert height is not None
        error = (counts[entry.site] * height / STEPS - activation).square().mean()
        assert entry.total == pytest.approx(float(error / activation.square().mean()))


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
def test_signed_sites_are_clipped_and_rounded_on_both_sides(neuron: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double().eval()
    x = torch.randn(40, 6).double() * 2
    graph = prepare(model, x)
    assert graph.sites[0].signed
    thresholds = Thresholds({s.name: torch.full((1,), 0.6).double() for s in graph.sites}, STEPS, "given", "layer")
    found = attribute(graph, thresholds, x.split(7), neuron=neuron).sites[0]
    value = model[:2](x).detach().numpy().ravel()
    clipped = np.clip(value, -0.6, 0.6)
    rounded = np.clip(np.floor(value * STEPS / 0.6 + 0.5), -STEPS, STEPS)
    power = np.square(value).sum()
    assert (value < -0.6).any()
    assert found.parts["inherited"] == 0
    assert found.parts["clipped"] == pytest.approx(np.square(value - clipped).sum() / power)
    assert found.parts["quantisation"] == pytest.approx(np.square(rounded * 0.6 / STEPS - clipped).sum() / power)
    stochastic = 0.0
    for v, n in zip(value * STEPS / 0.6, rounded, strict=True):
        mean = mean_of_tpp(abs(v), STEPS)
        p = mean - math.floor(mean)
        stochastic += p * (1 - p) + (math.copysign(mean, v) - n) ** 2
    expected = stochastic * (0.6 / STEPS) ** 2 / power if neuron == "tpp" else 0
    assert found.parts["stochastic"] == pytest.approx(expected, rel=1e-3)


def test_the_stochastic_part_is_the_mean_over_seeds(model: nn.Sequential, x: Tensor) -> None:
    graph = prepare(model, x)
    thresholds = given(graph)
    theta = thresholds.values[(name := graph.sites[0].name)]
    part = attribute(graph, thresholds, [x], neuron="tpp").sites[0].parts["stochastic"]
    with torch.no_grad():
        z = model[0](x)
    rounded, trials = (z * STEPS / theta + 0.5).floor().clamp(0, STEPS), 400
    squares = torch.zeros(trials)
    for seed in range(trials):
        counts = convert(graph, thresholds, neuron="tpp", steps=STEPS, seed=seed).activity(x)[name]
        squares[seed] = ((counts - rounded) * theta / STEPS).square().sum() / z.clamp(min=0).square().sum()
    assert abs(float(squares.mean()) - part) < 4 * float(squares.std()) / trials**0.5


def cause(found: Attribution) -> tuple[str, str]:
    """Return the site that adds most, and the part that is largest there."""
    worst = found.ranked()[0]
    return worst.site, max(OWN, key=lambda name: worst.parts[name])


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("neuron", ["if", "two-phase", "tpp"])
def test_a_cause_put_at_a_site_is_found_there(net: Any, images: Tensor, neuron: str, place: int) -> None:
    graph = prepare(net, images)
    good = observe(graph, [images]).thresholds(graph, steps=1, rule="max")
    name = graph.sites[place].name
    low = replace(good, values=good.values | {name: good.values[name] / 10})
    assert cause(attribute(graph, low, [images], neuron=neuron, steps=64)) == (name, "clipped")
    if neuron != "if":  # where coarse spikes make the next site uneven
        high = replace(good, values=good.values | {name: good.values[name] * 30})
        part = "quantisation" if neuron == "two-phase" else "stochastic"
        assert cause(attribute(graph, high, [images], neuron=neuron, steps=64)) == (name, part)
    fine = attribute(graph, good, [images], neuron=neuron, steps=1024)
    assert max(entry.total for entry in fine.sites) < 1e-3
    ranks = [entry.own for entry in fine.ranked()]
    assert ranks == sorted(ranks, reverse=True)


def test_batches_change_nothing_and_are_let_go(net: Any, images: Tensor) -> None:
    graph = prepare(net, images)
    thresholds = observe(graph, [images]).thresholds(graph, steps=STEPS)
    alive: list[weakref.ref[Tensor]] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for part in images.split(3):
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1
            batch = part.clone()
            alive.append(weakref.ref(batch))
            yield batch, torch.zeros(len(batch))
            del batch

    whole = attribute(graph, thresholds, [images], neuron="tpp", seed=4)
    split = attribute(graph, thresholds, batches(), neuron="tpp", seed=4)
    for one, other in zip(whole.sites, split.sites, strict=True):
        assert dict(one.parts) == pytest.approx(dict(other.parts), rel=1e-3)
        assert one.total == pytest.approx(other.total, rel=1e-2)
    assert len(alive) == 7


def test_the_document_is_json_even_where_nothing_is_active() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double().eval()
    nn.init.constant_(model[0].weight, 0.0)
    nn.init.constant_(model[0].bias, -1.0)
    x = torch.rand(4, 2).double()
    graph = prepare(model, x)
    name, theta = graph.sites[0].name, torch.ones(2).double()
    silent = Thresholds({name: theta}, STEPS, "given", "channel")
    noisy = replace(silent, corrections={name: Correction(bias=2 * theta)})
    for thresholds, error in ((silent, 0.0), (noisy, None)):
        found = attribute(graph, thresholds, [x], neuron="two-phase")
        document = json.loads(json.dumps(found.to_json(), allow_nan=False))
        assert document["sites"] == [
            {"site": name, "total": error, "own": error, "quantisation": error}
            | dict.fromkeys(("inherited", "clipped", "temporal", "stochastic"), 0.0)
        ]
        assert (document["neuron"], document["steps"], document["images"]) == ("two-phase", STEPS, 4)


def test_what_is_refused(model: nn.Sequential, x: Tensor) -> None:
    graph = prepare(model, x)
    thresholds = given(graph)
    with pytest.raises(CalibrationRefused, match="hold no image"):
        attribute(graph, thresholds, [], neuron="if")
    with pytest.raises(CalibrationRefused, match="errors are for one\nhint: give steps=T"):
        attribute(graph, replace(thresholds, steps=None), [x], neuron="if")
    with pytest.raises(CalibrationRefused, match="computed for T=4, got T=8"):
        attribute(graph, thresholds, [x], neuron="if", steps=8)
    with pytest.raises(DataRefused, match="takes images of shape 3, got 2"):
        attribute(graph, thresholds, [x[:, :2]], neuron="if")

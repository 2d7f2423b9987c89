"""Halves and drifts against numpy and scipy on the raw activations, and against what many draws of images do."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch import Tensor, nn

from snnconvert.calibration import Calibration, observe
from snnconvert.calibration.adequacy import SETTLED, Adequacy, merged, observe_halves, split_half
from snnconvert.calibration.drift import DRIFTED, drift
from snnconvert.calibration.histogram import Histogram
from snnconvert.converter.errors import CalibrationRefused, DataRefused
from snnconvert.converter.graph import PreparedGraph, prepare


def draw(number: int, seed: int, scale: float = 1.0) -> Tensor:
    return torch.randn(number, 1, 6, 6, generator=torch.Generator().manual_seed(seed)) * scale


def of_values(*channels: list[float] | np.ndarray, images: int = 1000) -> Calibration:
    """Return the calibration of one site with these activations."""
    histogram = Histogram.empty(len(channels))
    histogram.add(torch.stack([torch.as_tensor(np.asarray(values, np.float32)) for values in channels], 1))
    return Calibration({"site": histogram}, images, "")


def same(one: Calibration, other: Calibration) -> bool:
    pairs = ((one.histograms[name], other.histograms[name]) for name in one.histograms)
    return all(torch.equal(a, b) for p in pairs for a, b in zip(*(vars(h).values() for h in p), strict=True))


def test_one_pass_gives_each_half_and_the_whole(graph: PreparedGraph, images: Tensor) -> None:
    images = images * torch.linspace(0.1, 20, 20)[:, None, None, None]  # bins grow at other times in each half
    batches = images.split(3)
    first, second, whole = observe_halves(
        graph, ((part, torch.zeros(len(part))) for part in batches), about={"data": "noise"}
    )
    pairs = [
        (first, observe(graph, batches[0::2])),
        (second, observe(graph, batches[1::2])),
        (whole, observe(graph, batches)),
    ]
    for found, expected in pairs:
        assert same(found, expected)
        assert (found.images, found.weights, found.about) == (expected.images, expected.weights, {"data": "noise"})
        for name, moments in found.moments.items():
            for one, other in zip(vars(moments).values(), vars(expected.moments[name]).values(), strict=True):
                assert np.allclose(one, other)
    assert whole.sha256 == pairs[2][1].sha256
    assert first.sha256 == second.sha256 == ""


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(2, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (self.a(x) + self.b(y)).relu().sum(1, keepdim=True) * 2


def test_two_inputs_make_one_hash() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(10, 3), torch.randn(10, 2)
    graph = prepare(TwoInputs().eval(), (x, y))
    whole = observe_halves(graph, zip(x.split(3), y.split(3), strict=True))[2]
    assert whole.sha256 == observe(graph, [(x, y)]).sha256


values = st.lists(st.builds(lambda m, k: m * 2.0**k, st.integers(0, 2**12), st.integers(-30, 30)), min_size=1)


@given(values, values)
def test_histograms_of_any_ranges_add_up(one: list[float], other: list[float]) -> None:
    whole = of_values(one + other)
    assert same(merged(of_values(one), of_values(other)), whole)
    assert same(merged(of_values(other), of_values(one)), whole)


@pytest.mark.parametrize("per", ["channel", "layer"])
@pytest.mark.parametrize("rule", ["mse", "percentile", "gaussian"])
def test_agreement_is_that_of_thresholds_computed_apart(
    graph: PreparedGraph, images: Tensor, rule: str, per: str
) -> None:
    first, second = observe(graph, [images[:8]]), observe(graph, [images[8:]])
    found = split_half(first, second, graph, steps=4, rule=rule, per=per)
    assert (found.images, found.rule, found.per, found.steps) == (20, rule, per, 4)
    for site, entry in zip(graph.sites, found.sites, strict=True):
        a, b = (
            c.thresholds(graph, steps=4, rule=rule, per=per).values[site.name].double().numpy() for c in (first, second)
        )
        apart = np.abs(a - b) / ((a + b) / 2)
        assert entry.site == site.name
        assert entry.median == pytest.approx(np.median(apart))
        assert entry.upper == pytest.approx(np.percentile(apart, 90))
        assert entry.expected == pytest.approx(np.median(apart) * math.sqrt(8 * 12) / 20)
    worst = max(found.sites, key=lambda entry: entry.median)
    assert found.worst == worst.site
    assert found.needed == math.ceil(20 * (worst.median / SETTLED) ** 2)
    assert not found.settled
    assert found.verdict.startswith("not settled")
    assert f"{found.needed} images" in found.verdict
    assert worst.site in found.verdict


def test_the_expected_difference_is_that_from_the_truth(graph: PreparedGraph) -> None:
    def thresholds(calibration: Calibration) -> Tensor:
        return calibration.thresholds(graph, steps=8, rule="gaussian").values[name].double()

    name = graph.sites[1].name
    truth = thresholds(observe(graph, draw(30_000, 99).split(1000)))
    expected, real = [], []
    for seed in range(40):
        first, second, whole = observe_halves(graph, draw(200, seed).split(50))
        apart = (thresholds(first) - thresholds(second)).abs() / 2
        expected.append(float((apart / truth).mean()))
        real.append(float(((thresholds(whole) - truth).abs() / truth).mean()))
    assert np.mean(expected) == pytest.approx(np.mean(real), rel=0.2)


def halves_of(graph: PreparedGraph, number: int, seed: int) -> Adequacy:
    first, second, _ = observe_halves(graph, draw(number, seed).split(number // 8))
    return split_half(first, second, graph, steps=8, rule="gaussian")


def test_four_times_the_images_halve_the_difference_and_enough_of_them_settle_it(graph: PreparedGraph) -> None:
    medians = [np.mean([halves_of(graph, n, seed).sites[1].median for seed in range(40)]) for n in (64, 256)]
    assert medians[0] / medians[1] == pytest.approx(2, rel=0.25)
    few = halves_of(graph, 64, 0)
    assert not few.settled
    assert 64 < few.needed < 40_000
    many = halves_of(graph, 20_000, 0)
    assert many.settled
    assert many.needed < 20_000
    assert many.verdict.startswith("settled")
    assert many.worst in many.verdict


@pytest.mark.parametrize("rule", ["mse", "gaussian", "percentile"])
def test_halves_that_differ_in_kind_are_not_settled_and_have_drifted(graph: PreparedGraph, rule: str) -> None:
    first, second, bright = (observe(graph, draw(2000, *a).split(500)) for a in ((1,), (2,), (3, 1.4)))
    assert not split_half(first, bright, graph, steps=8, rule=rule).settled
    assert split_half(first, first, graph, steps=8, rule=rule).settled
    assert drift(first, bright).drifted
    assert drift(bright, first).drifted
    assert not drift(first, second).drifted


def test_chance_alone_is_no_drift_however_few_images(graph: PreparedGraph) -> None:
    for number in (6, 20, 80, 400):
        found = [drift(observe(graph, [draw(number, s)]), observe(graph, [draw(number, s + 50)])) for s in range(15)]
        assert not any(entry.drifted for entry in found)
    distances, chances = ([getattr(entry.sites[1], k) for entry in found] for k in ("distance", "chance"))
    assert np.mean(distances) == pytest.approx(np.mean(chances), rel=0.15)  # one value a channel and image


@pytest.mark.parametrize("scale", [1e-3, 0.3, 1.0, 1.7, 50.0])
def test_the_distance_is_that_of_scipy_within_a_bin(scale: float) -> None:
    generator = np.random.default_rng(0)
    one = [np.maximum(generator.normal(m, s, 700), 0).astype(np.float32) for m, s in ((0, 1), (2, 9), (-1, 0.2))]
    two = [(np.maximum(generator.normal(m, s, 900), 0) * scale).astype(np.float32) for m, s in ((0, 1), (1, 9), (0, 1))]
    first, second = of_values(*one), of_values(*two)
    found = drift(first, second).sites[0]
    widths = torch.maximum(first.histograms["site"].width, second.histograms["site"].width).numpy()
    expected = np.mean([wasserstein_distance(a, b) for a, b in zip(one, two, strict=True)])
    mean = np.mean(np.stack(one))
    assert abs(found.distance * mean - expected) < 1.01 * widths.mean() + widths.mean() / 2 * found.distance
    assert drift(second, first).sites[0].beyond <= 1
    share = np.mean([np.mean(b > a.max()) for a, b in zip(one, two, strict=True)])
    close = np.mean([np.mean(np.abs(b - a.max()) <= w) for a, b, w in zip(one, two, widths, strict=True)])
    assert abs(found.beyond - share) <= close + 1e-12


def test_the_distance_is_exactly_that_of_scipy_in_the_middle_of_bins() -> None:
    generator = np.random.default_rng(0)
    one, two = ((generator.integers(0, 1024, 300) + 0.5) / 1024 * (generator.random(300) < p) for p in (0.9, 0.5))
    found = drift(of_values(one), of_values(two)).sites[0]
    assert found.distance == pytest.approx(wasserstein_distance(one, two) / one.mean(), rel=1e-6)


def test_what_lies_beyond_within_one_bin_is_told_where_it_is_evenly_spread() -> None:
    bin_ = np.linspace(1000, 1000.75, 301)[1:] / 1024
    found = drift(of_values([0.1, 1000.25 / 1024]), of_values(np.append(bin_, [0.1] * 100))).sites[0]
    assert found.beyond == pytest.approx(np.mean(bin_ > 1000.25 / 1024) * 300 / 400)


def test_channels_that_change_places_have_drifted() -> None:
    low, high = np.linspace(0, 1, 400), np.linspace(0, 3, 400)
    found = drift(of_values(low, high), of_values(high, low))
    assert found.drifted
    assert found.sites[0].distance == pytest.approx(1.0, rel=0.01)
    assert found.sites[0].beyond == pytest.approx(np.mean(high > 1) / 2, abs=1e-3)


def test_a_few_large_activations_are_drift_though_the_rest_is_alike() -> None:
    values = np.linspace(0, 1, 1000)
    outliers = np.where(np.arange(1000) % 50 == 0, 1.2, values)
    found = drift(of_values(values), of_values(outliers))
    assert found.sites[0].distance < DRIFTED
    assert found.sites[0].beyond == pytest.approx(0.02)
    assert found.drifted
    assert not drift(of_values(values), of_values(np.where(np.arange(1000) % 500 == 0, 1.2, values))).drifted
    assert drift(of_values(values), of_values(values)).sites[0].beyond == 0


@pytest.mark.parametrize(("other", "distance"), [(0.0, 0.0), (1.0, None)])
def test_documents_are_json_even_of_silent_sites(other: float, distance: float | None) -> None:
    found = drift(of_values([0.0] * 4), of_values([other] * 4))
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert document["sites"][0]["distance"] == distance
    assert document["drifted"] == found.drifted == bool(other)
    assert (document["verdict"], document["images"]) == (found.verdict, [1000, 1000])


def test_the_document_of_halves_is_json(graph: PreparedGraph, images: Tensor) -> None:
    first, second, _ = observe_halves(graph, images.split(5))
    found = split_half(first, second, graph, steps=4)
    document = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert [entry["site"] for entry in document["sites"]] == [site.name for site in graph.sites]
    assert [entry["median"] for entry in document["sites"]] == [entry.median for entry in found.sites]
    assert (document["settled"], document["needed"], document["rule"]) == (False, found.needed, "mse")


def test_what_is_refused(graph: PreparedGraph, net: Any, images: Tensor) -> None:
    whole = observe(graph, [images])
    for batches in ([], [images]):
        with pytest.raises(CalibrationRefused, match="holds no image\nhint: use two batches"):
            observe_halves(graph, batches)
    with pytest.raises(DataRefused, match="takes images of shape 1x6x6"):
        observe_halves(graph, [images[..., :5]])
    with pytest.raises(CalibrationRefused, match="NaN or infinite"):
        observe_halves(graph, [images, images * math.nan])
    with pytest.raises(CalibrationRefused, match="holds no image"):
        split_half(whole, replace(whole, images=0), graph, steps=4)
    with torch.no_grad():
        net.conv.weight.mul_(1.01)
    changed = observe(prepare(net, images), [images])
    others = changed, of_values([1.0])
    for other in others:
        for refused in (merged, drift, lambda a, b: split_half(a, b, graph, steps=4)):
            with pytest.raises(CalibrationRefused, match="different networks"):
                refused(whole, other)
    with torch.no_grad():
        net.conv.bias.fill_(-100.0)
        dead = prepare(net, images)
    with pytest.raises(CalibrationRefused, match="no activation above zero"):
        observe_halves(dead, images.split(5))

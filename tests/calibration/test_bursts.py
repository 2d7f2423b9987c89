"""Which sites get bursts: against every choice there is, a greedy written out, and what networks then do."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from snnconvert.calibration import observe
from snnconvert.calibration.attribution import attribute
from snnconvert.calibration.bursts import LONGEST, share_out, with_bursts
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE
from snnconvert.converter.thresholds import Thresholds

STEPS = 8
CHOICES = (1, 2, 4, 8, 16)


def drawn(seed: int, sites: int) -> tuple[np.ndarray, np.ndarray]:
    """Return errors and spikes that differ by orders of magnitude, so that no two choices are equally good."""
    generator = np.random.default_rng(seed)
    return np.exp(generator.normal(0, 2, sites)), np.exp(generator.normal(0, 1, sites))


def double_the_best(errors: np.ndarray, spikes: np.ndarray, bursts: np.ndarray, allowed: float) -> bool:
    """Double the burst that takes away most error per spike, of those that may be; say whether there was one."""
    added = spikes * bursts
    gain = errors / bursts**2 * 3 / 4 / added
    gain[((spikes * bursts).sum() + added > allowed) | (2 * bursts > LONGEST) | (errors == 0)] = -1
    if gain.max() > 0:
        bursts[gain.argmax()] *= 2
    return bool(gain.max() > 0)


def shared(errors: np.ndarray, spikes: np.ndarray, budget: float) -> np.ndarray:
    """Return the burst of each site, 1 where `share_out` gives none."""
    names = [f"site {i}" for i in range(len(errors))]
    found = share_out(dict(zip(names, errors, strict=True)), dict(zip(names, spikes, strict=True)), budget)
    assert all(burst > 1 for burst in found.values())
    return np.array([found.get(name, 1) for name in names])


@given(st.integers(0, 10_000), st.integers(1, 7), st.floats(1, 20))
def test_it_is_the_greedy_of_the_equation(seed: int, sites: int, budget: float) -> None:
    errors, spikes = drawn(seed, sites)
    expected = np.ones(sites, int)
    while double_the_best(errors, spikes, expected, budget * spikes.sum()):
        pass
    assert shared(errors, spikes, budget).tolist() == expected.tolist()


@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 12))
def test_a_budget_that_is_used_up_is_shared_out_as_well_as_can_be(seed: int, sites: int, doublings: int) -> None:
    # Each doubling is worth less than the one before it, so what greed buys with all its money is the best there is.
    errors, spikes = drawn(seed, sites)
    along = np.ones(sites, int)
    for _ in range(doublings):
        double_the_best(errors, spikes, along, np.inf)
    budget = (spikes * along).sum() / spikes.sum() * (1 + 1e-12)
    every = np.array(list(product(CHOICES, repeat=sites)))
    affordable = every[every @ spikes <= budget * spikes.sum() * (1 + 1e-12)]
    best = (errors / affordable**2).sum(1).min()
    assert (errors / shared(errors, spikes, budget) ** 2).sum() == pytest.approx(best)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 40)), min_size=1, max_size=6).filter(
        lambda sites: any(spikes for _, spikes in sites)
    ),
    st.floats(1, 20),
)
def test_the_budget_is_kept_and_used_up(sites: list[tuple[int, int]], budget: float) -> None:
    errors, spikes = np.array(sites, float).T
    bursts = shared(errors, spikes, budget)
    after, allowed = (spikes * bursts).sum(), budget * spikes.sum()
    assert after <= allowed * (1 + 1e-9)
    assert (bursts[errors == 0] == 1).all()
    assert set(bursts.tolist()) <= set(CHOICES)
    more = (errors > 0) & (bursts < LONGEST)
    assert (after + (spikes * bursts)[more] > allowed * (1 - 1e-9)).all()  # no other doubling fits


def test_small_cases_by_hand() -> None:
    errors, spikes = {"a": 1.0, "b": 0.2, "c": 0.0}, {"a": 10.0, "b": 10.0, "c": 20.0}
    assert share_out(errors, spikes, 1.0) == {}
    assert share_out(errors, spikes, 1.2) == {}  # 8 spikes more, and each doubling needs 10
    assert share_out(errors, spikes, 1.25) == {"a": 2}
    assert share_out(errors, spikes, 1.5) == {"a": 2, "b": 2}  # a: 1/4 for 20, b: 1/5 for 10
    assert share_out(errors, spikes, 1.75) == {"a": 2, "b": 2}
    assert share_out(errors, spikes, 2.0) == {"a": 4, "b": 2}
    assert share_out(errors, spikes, 1e9) == {"a": LONGEST, "b": LONGEST}
    assert share_out({"a": np.inf, "b": 1.0}, {"a": 1.0, "b": 1.0}, 1.5) == {"a": 2}
    assert share_out({}, {}, 2.0) == {}


@pytest.mark.parametrize("budget", [0.99, 0.0, -1.0, np.nan])
def test_a_budget_below_what_there_is_is_refused(budget: float, graph: PreparedGraph, many: Tensor) -> None:
    message = "mixed steps are allowed so many times the spikes, 1 or more, got"
    with pytest.raises(UsageError, match=f"{message} {budget}"):
        share_out({"a": 1.0}, {"a": 1.0}, budget)
    plain = observe(graph, [many[:10]]).thresholds(graph, steps=STEPS)
    with pytest.raises(UsageError, match=message):
        with_bursts(graph, plain, [many[:10]], lambda window: plain, neuron="if", budget=budget)
    with pytest.raises(CalibrationRefused, match="hold no image"):
        with_bursts(graph, plain, [], lambda window: plain, neuron="if", budget=2.0)


@pytest.fixture(scope="module")
def deep() -> PreparedGraph:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width in (1, 4, 6, 6):
        layers += [nn.Conv2d(width, 4 if width == 1 else 6, 3, padding=1), nn.ReLU()]
    return prepare(nn.Sequential(*layers, nn.Flatten(), nn.Linear(6 * 36, 5)).eval(), torch.randn(2, 1, 6, 6))


Planned = tuple[Thresholds, Thresholds, Callable[[int], Thresholds]]
Plan = Callable[..., Planned]


@pytest.fixture(scope="module")
def plan(deep: PreparedGraph, many: Tensor) -> Plan:
    """Return a function that gives thresholds, the same with bursts, and where both come from."""
    observed = observe(deep, [many[:200]])

    def plan(neuron: str, budget: float, rule: str = "mse") -> Planned:
        def plain(window: int) -> Thresholds:
            return replace(observed.thresholds(deep, steps=window, rule=rule), steps=window)

        few = [many[:60], many[60:100]]
        return plain(STEPS), with_bursts(deep, plain(STEPS), few, plain, neuron=neuron, budget=budget), plain

    return plan


def spikes(graph: PreparedGraph, thresholds: Thresholds, neuron: str, x: Tensor) -> dict[str, float]:
    """Return the spikes of each site for one image."""
    counts = convert(graph, thresholds, neuron=neuron, steps=STEPS).activity(x)
    return {name: float(count.sum()) / len(x) for name, count in counts.items()}


@pytest.mark.parametrize("neuron", CONVERTIBLE)
@pytest.mark.parametrize("budget", [1.5, 2.5])
@pytest.mark.parametrize("rule", ["max", "mse"])
def test_a_network_fires_as_much_as_was_planned_and_errs_less(
    deep: PreparedGraph, many: Tensor, plan: Plan, neuron: str, budget: float, rule: str
) -> None:
    (plain, found, _), x = plan(neuron, budget, rule), many[200:800]
    account = found.source["mixed_steps"]
    assert (account["budget"], account["images"], account["bursts"]) == (budget, 100, found.bursts)
    assert found.bursts
    before, after = (spikes(deep, given, neuron, x) for given in (plain, found))
    expected = sum(count * found.bursts.get(name, 1) for name, count in before.items())
    assert account["times_the_spikes"] == pytest.approx(sum(after.values()) / sum(before.values()), rel=0.05)
    assert sum(after.values()) < 1.02 * budget * sum(before.values())
    # the maximum is the same for every window; by "mse" more levels mean a higher threshold, and so fewer spikes
    assert sum(after.values()) / expected == (
        pytest.approx(1, abs=0.1) if rule == "max" else pytest.approx(0.9, abs=0.1)
    )
    with torch.no_grad():
        ann = deep.module(x)
    errors = [
        float((convert(deep, given, neuron=neuron, steps=STEPS)(x) - ann).square().mean()) for given in (plain, found)
    ]
    assert errors[1] < (0.85 if budget == 1.5 else 0.4) * errors[0]


@pytest.mark.parametrize("neuron", ["if", "two-phase"])
def test_sites_with_bursts_get_the_thresholds_of_their_levels(plan: Plan, neuron: str) -> None:
    before, found, plain = plan(neuron, 2.5)
    assert found.steps == STEPS
    assert found.bursts.keys() <= found.values.keys() == before.values.keys()
    for name, theta in found.values.items():
        assert torch.equal(theta, plain(STEPS * found.bursts.get(name, 1)).values[name])
    assert any(not torch.equal(found.values[name], before.values[name]) for name in found.bursts)
    assert replace(found, values=before.values, bursts={}, source=before.source) == before


def test_batches_that_can_be_read_once_do(deep: PreparedGraph, many: Tensor) -> None:
    observed = observe(deep, [many[:200]])
    plain = replace(observed.thresholds(deep, steps=STEPS), steps=STEPS)
    found, again = (
        with_bursts(deep, plain, few, lambda t: observed.thresholds(deep, steps=t), neuron="two-phase", budget=2.0)
        for few in ([many[:50]], iter([many[:50]]))
    )
    assert found.bursts == again.bursts != {}
    with pytest.raises(CalibrationRefused, match="thresholds are for any T, bursts for one"):
        with_bursts(deep, replace(plain, steps=None), [many], lambda t: plain, neuron="if", budget=2.0)


def test_a_budget_of_one_changes_nothing(plan: Plan) -> None:
    before, found, _ = plan("two-phase", 1.0)
    account = found.source["mixed_steps"]
    assert found.bursts == account["bursts"] == {}
    assert account["times_the_spikes"] == 1
    assert all(torch.equal(found.values[name], theta) for name, theta in before.values.items())


def test_the_site_that_errs_most_is_the_first(deep: PreparedGraph, many: Tensor) -> None:
    observed = observe(deep, [many[:200]])
    for site in deep.sites:
        fine = observed.thresholds(deep, steps=64)
        coarse = replace(fine, values=fine.values | {site.name: 32 * fine.values[site.name]})
        found = with_bursts(deep, coarse, [many[:50]], lambda window, t=coarse: t, neuron="two-phase", budget=2.0)
        assert found.bursts[site.name] == max(found.bursts.values()) == LONGEST
        before, after = (
            {entry.site: entry.own for entry in attribute(deep, given, [many[:50]], neuron="two-phase").sites}
            for given in (coarse, found)
        )
        assert after[site.name] < before[site.name] / 32

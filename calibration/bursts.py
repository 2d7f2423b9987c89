"""Mixed steps: the sites that add most error fire bursts, for a stated number of spikes more.

A neuron that may fire m spikes of size theta / m in a step has T m + 1 levels in its window, as if that were m times
longer, while every other site keeps its own; so quantisation errs by 1 / m^2 of what it did, and about m times as many
spikes are fired. Sites are given bursts one after the other, each time the one where doubling m takes away most error
per spike that it adds,

    (e_s / m_s^2) (3 / 4) / (n_s m_s),   e_s the own error of the site (`attribution`), n_s its spikes for one image,

as long as sum_s n_s m_s <= budget sum_s n_s. Thresholds of more levels are larger, so fewer spikes come than that.

Sources: burst spikes, Park et al. 2019 (DAC, "Fast and efficient information transmission with burst spikes") and Li
and Zeng 2022 (arXiv 2204.13271), who let every neuron fire them; a budget over sites is that of mixed-precision
quantisation, as in Dong et al. 2019 (arXiv 1905.03696), with measured errors in the place of curvature.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused, UsageError
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import tpp
from snnconvert.converter.thresholds import Thresholds

from .attribution import attribute
from .batches import first_inputs

LONGEST = 16
"""The most spikes that a neuron is ever allowed in one step."""


def share_out(errors: Mapping[str, float], spikes: Mapping[str, float], budget: float) -> dict[str, int]:
    """Return the burst m of each site that gets more than one spike a step, the equation on top.

    Args:
        errors: own error of each site.
        spikes: of each site.
        budget: the most spikes, as a multiple of what there are.

    Raises:
        UsageError: the budget is below what there is.
    """
    if not budget >= 1:
        raise UsageError(f"mixed steps are allowed so many times the spikes, 1 or more, got {budget}")
    bursts = dict.fromkeys(errors, 1)
    left = (budget - 1) * sum(spikes.values())

    def worth(site: str) -> float:
        return errors[site] / (bursts[site] ** 3 * max(spikes[site], 1e-12))

    while True:
        possible = [s for s in bursts if errors[s] > 0 and 2 * bursts[s] <= LONGEST and spikes[s] * bursts[s] <= left]
        if not possible:
            return {site: burst for site, burst in bursts.items() if burst > 1}
        best = max(possible, key=worth)
        left -= spikes[best] * bursts[best]
        bursts[best] *= 2


def with_bursts(
    graph: PreparedGraph,
    thresholds: Thresholds,
    batches: Iterable[Any],
    thresholds_for: Callable[[int], Thresholds],
    *,
    neuron: str,
    budget: float,
    **options: Any,
) -> Thresholds:
    """Return ``thresholds`` with bursts, and at the sites that got them thresholds for that many levels.

    Args:
        thresholds: for one window, without corrections.
        batches: some training images, on which errors and spikes are measured.
        thresholds_for: gives the thresholds for a window of so many steps.
        neuron: the neuron model.
        budget: the most spikes, as a multiple of those without bursts.
        options: further arguments of `convert`.

    Raises:
        UsageError: the budget is below 1.
        CalibrationRefused: thresholds without a window, or as for `attribute`.
    """
    batches, steps = list(batches), thresholds.steps
    if steps is None:
        raise CalibrationRefused(f"{thresholds.rule} thresholds are for any T, bursts for one", "compute them for T")

    def spikes(settled: Thresholds) -> dict[str, float]:
        model = convert(graph, settled, neuron=neuron, **options | {"steps": steps})
        total = dict.fromkeys(settled.values, 0.0)
        for batch in batches:
            for name, counts in model.activity(*first_inputs(graph, batch)).items():
                total[name] += float(counts.abs().sum()) / found.images
        return total

    found = attribute(graph, thresholds, batches, neuron=neuron, **options)
    before = spikes(thresholds)
    bursts = share_out({entry.site: entry.own for entry in found.sites}, before, budget)
    if neuron == "tpp":
        bursts = {site: m for site, burst in bursts.items() if (m := min(burst, tpp.LONGEST // steps)) > 1}
    values: dict[str, Tensor] = dict(thresholds.values)
    for burst in set(bursts.values()):
        longer = thresholds_for(steps * burst).values
        values |= {name: longer[name] for name, m in bursts.items() if m == burst}
    mixed = replace(thresholds, values=values, bursts=bursts)
    times = sum(spikes(mixed).values()) / max(sum(before.values()), 1e-12)
    account = {"budget": budget, "images": found.images, "times_the_spikes": times, "bursts": bursts}
    return replace(mixed, source=thresholds.source | {"mixed_steps": account})

"""What calibration finds: thresholds, and corrections to neurons and weights, with a record of where they come from."""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torch import Tensor

from .errors import CalibrationRefused
from .graph import PreparedGraph, Site
from .graph.canonical import attribute
from .neurons import Correction

LONGEST_BURST = 256
"""The most spikes that a neuron may ever fire in one step."""


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a network, and what else calibration changed.

    Args:
        values: site name to theta, [channels] or [1], in units of the site's activation.
        steps: the window T they were computed for, or None where the rule does not depend on T.
        rule: how they were computed ("mse").
        per: "channel" or "layer".
        source: what from, JSON-able (number of images, hash, or batch-norm statistics).
        warnings: what a user should know, one sentence each.
        neuron: the neuron model that the corrections are for; None for any.
        corrections: site name to what calibration added to its neurons.
        weights: name of a constant of the graph to its value in the spiking network, where that is another.
        network: the norm of each constant of the graph that they were found for, to tell it from another; () for any.
        bursts: site name to the most spikes that one of its neurons may fire in a step, where that is more than one.
    """

    values: dict[str, Tensor]
    steps: int | None
    rule: str
    per: str
    source: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    neuron: str | None = None
    corrections: dict[str, Correction] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    bursts: dict[str, int] = field(default_factory=dict)
    network: tuple[float, ...] = ()

    def check(self, graph: PreparedGraph, steps: int, neuron: str) -> None:
        """Check that they belong to ``graph``, to a window of ``steps`` and to ``neuron``.

        Raises:
            CalibrationRefused: a site without a threshold, a threshold without a site, another number of channels, a
                threshold that is not a positive number or that lies above the site's cap, another window or neuron,
                or a correction that does not fit.
        """
        if self.neuron not in (None, neuron):
            raise CalibrationRefused(
                f"these thresholds come with corrections for {self.neuron!r} neurons, got {neuron!r}",
                "correct them again for these neurons",
            )
        if self.steps not in (None, steps):
            raise CalibrationRefused(
                f"these {self.rule} thresholds were computed for T={self.steps}, got T={steps}",
                "compute them again for this T, from the same calibration",
            )
        expected, given = {site.name for site in graph.sites}, set(self.values)
        if expected != given:
            raise CalibrationRefused(
                f"the thresholds are of another network: {len(expected - given)} of {len(expected)} sites have none "
                f"({', '.join(sorted(expected - given)[:3]) or '-'}), {len(given - expected)} have no site "
                f"({', '.join(sorted(given - expected)[:3]) or '-'})",
                "calibrate this network",
            )
        for site in graph.sites:
            theta = self.values[site.name]
            if theta.shape not in ((1,), (site.channels,)):
                raise CalibrationRefused(
                    f"{site.name} has {site.channels} channels, its thresholds have shape {list(theta.shape)}",
                    "calibrate this network",
                )
            if not bool((theta.isfinite() & (theta > 0)).all()):
                raise CalibrationRefused(
                    f"{site.name}: a threshold must be a positive number, got {float(theta[~(theta > 0)][:1].sum())}"
                    if bool(theta.isfinite().all())
                    else f"{site.name}: a threshold is NaN or infinite",
                    "calibrate with more images",
                )

            if site.cap is not None and bool((theta > site.cap).any()):
                raise CalibrationRefused(
                    f"{site.name} passes at most {site.cap:g}, but a threshold is {float(theta.max()):g}, "
                    "so its neurons could say more",
                    f"use thresholds of at most {site.cap:g} there",
                )
        if self.network and not alike(self.network, norms(graph)):
            raise CalibrationRefused(
                "these thresholds were found for a network with the same sites but other weights",
                "calibrate this network",
            )
        self._check_corrections(graph, steps)

    def _check_corrections(self, graph: PreparedGraph, steps: int) -> None:
        sites = {site.name: site for site in graph.sites}
        for name, correction in self.corrections.items():
            if name not in sites:
                raise CalibrationRefused(f"a correction of {name}, which is no site of this network", _AGAIN)
            for kind, value in correction._asdict().items():
                if value is None:
                    continue
                allowed = _shapes(sites[name], steps)[kind]
                if value.shape not in allowed or not bool(value.isfinite().all()):
                    raise CalibrationRefused(
                        f"{name}: expected a finite {kind} of shape {' or '.join(str(list(s)) for s in allowed)}, "
                        f"got {'NaN or infinity' if value.shape in allowed else f'shape {list(value.shape)}'}",
                        _AGAIN,
                    )
        for name, burst in self.bursts.items():
            if name not in sites or type(burst) is not int or not 1 <= burst <= LONGEST_BURST:
                raise CalibrationRefused(
                    f"bursts of {burst!r} spikes at {name}: no site, or no whole number from 1 to {LONGEST_BURST}",
                    _AGAIN,
                )
        constants = {str(node.target) for node in graph.module.graph.nodes if node.op == "get_attr"}
        for name, value in self.weights.items():
            if name not in constants or attribute(graph.module, name).shape != value.shape:
                raise CalibrationRefused(f"changed weights {name!r} that do not fit this network", _AGAIN)
            if not bool(value.isfinite().all()):
                raise CalibrationRefused(f"changed weights {name!r} that are NaN or infinite", _AGAIN)

    def to(self, graph: PreparedGraph) -> "Thresholds":
        """Return them in the type of number of ``graph``'s weights, and on their device."""
        like = graph.weight
        return replace(
            self,
            values={name: theta.to(like) for name, theta in self.values.items()},
            corrections={
                name: Correction(*(None if value is None else value.to(like) for value in correction))
                for name, correction in self.corrections.items()
            },
            weights={name: value.to(like) for name, value in self.weights.items()},
        )


_AGAIN = "calibrate this network again"


def norms(graph: PreparedGraph) -> tuple[float, ...]:
    """Return the norm of each constant of ``graph``."""
    nodes = [node for node in graph.module.graph.nodes if node.op == "get_attr"]
    return tuple(float(attribute(graph.module, str(node.target)).double().norm()) for node in nodes)


def alike(expected: tuple[float, ...], found: tuple[float, ...]) -> bool:
    """Return whether norms agree but for what another machine's arithmetic makes of them."""
    return len(expected) == len(found) and all(map(partial(math.isclose, rel_tol=1e-4), expected, found))


def _shapes(site: Site, steps: int) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Return the shapes that each kind of correction may have."""
    channels = (site.channels,)
    return {
        "bias": (channels, (steps, *channels)),
        "potential": (channels, tuple(site.shape)),
        "height": ((1,), channels),
    }

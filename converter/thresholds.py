"""Thresholds: one or one per channel for each site, with a record of where they come from."""

from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from .errors import CalibrationRefused
from .graph import PreparedGraph


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of a network.

    Args:
        values: site name to theta, [channels] or [1], in units of the site's activation.
        steps: the window T they were computed for, or None where the rule does not depend on T.
        rule: how they were computed ("mse").
        per: "channel" or "layer".
        source: what from, JSON-able (number of images, hash, or batch-norm statistics).
        warnings: what a user should know, one sentence each.
    """

    values: dict[str, Tensor]
    steps: int | None
    rule: str
    per: str
    source: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def check(self, graph: PreparedGraph, steps: int) -> None:
        """Check that they belong to ``graph`` and to a window of ``steps``.

        Raises:
            CalibrationRefused: a site without a threshold, a threshold without a site, another number of channels, a
                threshold that is not a positive number or that lies above the site's cap, or another window.
        """
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

    def to(self, graph: PreparedGraph) -> "Thresholds":
        """Return them in the type of number of ``graph``'s weights, and on their device."""
        return replace(self, values={name: theta.to(graph.weight) for name, theta in self.values.items()})

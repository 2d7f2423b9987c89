"""Calibration: what was seen of a network's activations, from which thresholds for any T are computed."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter.errors import ArtefactRefused, CalibrationRefused, UsageError, check_steps, choice, listed
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.tensor_file import read_tensors, write_tensors
from snnconvert.converter.thresholds import Thresholds, alike, norms

from .gaussian import Moments
from .histogram import Histogram
from .rules import DEPENDS_ON_STEPS, DOUBTS, PER, PERCENTILE, RULES, answer

FORMAT = 1
"""The version of the .calib format; a file with a larger one is refused."""

_KEY = "snnconvert.calibration"

_SILENT = "were never active; they take the threshold of their whole layer"


@dataclass
class Calibration:
    """The distribution of each site's activations, and of what they are made from.

    Args:
        histograms: by site name.
        images: how many images were seen; 0 where the distributions come from batch-norm statistics.
        sha256: hash of those images, as the network saw them.
        about: what the caller wants remembered (name of the data set), JSON-able.
        warnings: what a user should know, one sentence each.
        weights: the norm of each constant of the network, by which another one is told; empty where there is no saying.
        moments: of each site's pre-activations, by site name; empty in a file of an earlier version.
    """

    histograms: dict[str, Histogram]
    images: int
    sha256: str
    about: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    moments: dict[str, Moments] = field(default_factory=dict)

    def thresholds(
        self,
        graph: PreparedGraph,
        *,
        steps: int,
        rule: str = "mse",
        per: str = "channel",
        percent: float = PERCENTILE,
    ) -> Thresholds:
        """Return thresholds for ``graph`` and a window of T = ``steps``.

        Args:
            rule: "mse", "max", "percentile", "gaussian", "ltb" or "kl".
            per: "channel" or "layer".
            percent: of the percentile rule.

        Raises:
            UsageError: an unknown rule, T below 1, or a percentage outside of (0, 100].
            CalibrationRefused: the calibration is of another network, a site was always zero, or the rule is "gaussian"
                and there are no moments.
        """
        choice("rule", rule, tuple(RULES))
        choice("granularity", per, PER)
        check_steps(steps)
        if not 0 < percent <= 100:
            raise UsageError(f"a percentile lies between 0 and 100, got {percent}")
        self._check(graph)
        values, silent, doubtful = {}, {}, {}
        for site in graph.sites:
            used, moments = self._of(site.name, per)
            theta, doubts = answer(rule, steps, used, moments, percent)
            if bool(used.dead.any()):
                alive = site.opposite if site.opposite and bool(used.dead.all()) else site.name
                whole, _ = answer(rule, steps, *self._of(alive, "layer"), percent)
                theta = torch.where(used.dead, whole, theta)
            values[site.name] = theta.clamp(max=math.inf if site.cap is None else site.cap)
            silent[site.name], doubtful[site.name] = int(used.dead.sum()), int(doubts.sum())
        source = {"images": self.images, **({"sha256": self.sha256} if self.sha256 else {}), **self.about}
        window = steps if rule in DEPENDS_ON_STEPS else None
        said = *_describe(silent, per, values, _SILENT), *_describe(doubtful, per, values, DOUBTS.get(rule, ""))
        warnings = (*self.warnings, *said)
        return Thresholds(values, window, rule, per, source, warnings, network=self.weights).to(graph)

    def _of(self, name: str, per: str) -> tuple[Histogram, Moments | None]:
        """Return what is known of a site's channels, or of all of them together."""
        histogram, moments = self.histograms[name], self.moments.get(name)
        if per == "channel":
            return histogram, moments
        return histogram.merged(), None if moments is None else moments.merged()

    def _check(self, graph: PreparedGraph) -> None:
        channels = {site.name: site.channels for site in graph.sites}
        found = {name: len(histogram.maximum) for name, histogram in self.histograms.items()}
        different = [n for n in channels if channels[n] != found.get(n)] or [n for n in found if n not in channels]
        if different:
            raise CalibrationRefused(
                f"the calibration is of another network: {len(found)} sites against {len(channels)}, "
                f"the first difference at {different[0]}",
                "run snnconvert calibrate on this model",
            )
        if self.weights and not alike(self.weights, norms(graph)):
            raise CalibrationRefused(
                "the calibration is of a network with the same sites but other weights",
                "run snnconvert calibrate on this model",
            )
        refuse_dead(self.histograms, graph)

    def save(self, path: Path | str) -> None:
        """Write histograms and moments to ``path`` (a .calib file), all or nothing.

        Raises:
            ArtefactRefused: the file cannot be written.
        """
        tensors = {}
        for number, (name, histogram) in enumerate(self.histograms.items()):
            small = not histogram.counts.is_floating_point() and int(histogram.counts.max()) < 2**31
            tensors[f"{number}.counts"] = histogram.counts.int() if small else histogram.counts
            tensors[f"{number}.exponent"] = histogram.exponent.contiguous()
            tensors[f"{number}.maximum"] = histogram.maximum.contiguous()
            if name in self.moments:
                moments = self.moments[name]
                tensors[f"{number}.moments"] = torch.stack([moments.count, moments.mean, moments.squares])
        document = {
            "format": FORMAT,
            "sites": list(self.histograms),
            "signed": [name for name, moments in self.moments.items() if moments.signed],
            "images": self.images,
            "sha256": self.sha256,
            "about": self.about,
            "warnings": list(self.warnings),
            "weights": list(self.weights),
        }
        write_tensors(path, tensors, _KEY, document)

    @classmethod
    def load(cls, path: Path | str) -> "Calibration":
        """Return the calibration in ``path``.

        Raises:
            ArtefactRefused: the file is missing, truncated, foreign, damaged, or from a later version.
        """
        tensors, document = read_tensors(path, _KEY, FORMAT, ".calib")
        try:
            histograms, moments = {}, {}
            signed = frozenset(document.get("signed", ()))
            for number, name in enumerate(document["sites"]):
                counts = tensors[f"{number}.counts"]
                counts = counts if counts.is_floating_point() else counts.long()
                histograms[name] = Histogram(counts, tensors[f"{number}.exponent"], tensors[f"{number}.maximum"])
                histograms[name].check()
                if f"{number}.moments" in tensors:
                    count, mean, squares = tensors[f"{number}.moments"]
                    moments[name] = Moments(count, mean, squares, name in signed)
                    moments[name].check(len(counts))
            return cls(
                histograms,
                int(document["images"]),
                str(document["sha256"]),
                dict(document["about"]),
                tuple(document["warnings"]),
                tuple(document["weights"]),
                moments,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtefactRefused(f"{path} is a damaged .calib file ({error})", "calibrate again") from error


def same_network(first: Calibration, second: Calibration, seen: bool = False) -> None:
    """Check that both are of one network; with ``seen``, that both saw images.

    Raises:
        CalibrationRefused: they are not, or did not.
    """
    sites = [{name: len(h.maximum) for name, h in c.histograms.items()} for c in (first, second)]
    if sites[0] != sites[1] or (first.weights and second.weights and not alike(first.weights, second.weights)):
        raise CalibrationRefused(
            f"the two calibrations are of different networks: {len(sites[0])} sites against {len(sites[1])}"
            + ", with other weights" * (sites[0] == sites[1]),
            "calibrate one network with both",
        )
    if seen and not (first.images and second.images):
        raise CalibrationRefused("one part of the calibration holds no image", "use two batches of images or more")


def refuse_dead(histograms: dict[str, Histogram], graph: PreparedGraph) -> None:
    """Check that each site was active, or the one that carries the other sign of its value.

    Raises:
        CalibrationRefused: names the sites where every activation was zero.
    """
    dead = [site.name for site in graph.sites if bool(histograms[site.name].dead.all())]
    other = {site.name: site.opposite for site in graph.sites}
    dead = [name for name in dead if other[name] is None or other[name] in dead]
    if dead:
        raise CalibrationRefused(
            f"no activation above zero, and so no threshold, at {listed(dead)}",
            "calibrate with more images, or check the weights and the preprocessing",
        )


def _describe(counts: dict[str, int], per: str, values: dict[str, Tensor], what: str) -> tuple[str, ...]:
    """Return a sentence that says of how many thresholds, and at which sites, ``what`` holds; none where of none."""
    names = [name for name, count in counts.items() if count]
    total = sum(len(theta) for theta in values.values())
    sentence = (
        f"{sum(counts.values())} of {total} {per}s, at {len(names)} of {len(values)} sites ({listed(names)}), {what}"
    )
    return (sentence,) if names else ()

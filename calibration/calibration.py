"""Calibration: what was seen of a network's activations, from which thresholds for any T are computed."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from snnconvert.converter.artifact import read_tensors, write_tensors
from snnconvert.converter.errors import ArtefactRefused, CalibrationRefused, UsageError, choice
from snnconvert.converter.graph import PreparedGraph, Site
from snnconvert.converter.thresholds import Thresholds

from .histogram import Histogram
from .rules import DEPENDS_ON_STEPS, PER, PERCENTILE, RULES, percentile

FORMAT = 1
"""The version of the .calib format; a file with a larger one is refused."""

_KEY = "snnconvert.calibration"


@dataclass
class Calibration:
    """The distribution of each site's activations.

    Args:
        histograms: by site name.
        images: how many images were seen; 0 where the distributions come from batch-norm statistics.
        sha256: hash of those images, as the network saw them.
        about: what the caller wants remembered (name of the data set), JSON-able.
        warnings: what a user should know, one sentence each.
    """

    histograms: dict[str, Histogram]
    images: int
    sha256: str
    about: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

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
            rule: "mse", "max" or "percentile".
            per: "channel" or "layer".
            percent: of the percentile rule.

        Raises:
            UsageError: an unknown rule, T below 1, or a percentage outside of (0, 100].
            CalibrationRefused: the calibration is of another network, or a site was zero for every image.
        """
        choice("rule", rule, tuple(RULES))
        choice("granularity", per, PER)
        if steps < 1:
            raise UsageError(f"the number of steps T must be at least 1, got {steps}")
        if not 0 < percent <= 100:
            raise UsageError(f"a percentile lies between 0 and 100, got {percent}")
        self._check(graph)
        values, warnings = {}, list(self.warnings)
        dtype = _dtype(graph)
        for site in graph.sites:
            histogram = self.histograms[site.name]
            whole = histogram.merged()
            if bool(whole.dead):
                raise CalibrationRefused(
                    f"{site.name} was zero for every image, so it has no threshold",
                    "calibrate with more images, or check the weights and the preprocessing",
                )
            used = whole if per == "layer" else histogram
            theta = percentile(used, steps, percent) if rule == "percentile" else RULES[rule](used, steps)
            if bool(used.dead.any()):
                spare = percentile(whole, steps, percent) if rule == "percentile" else RULES[rule](whole, steps)
                theta = torch.where(used.dead, spare, theta)
                warnings.append(
                    f"{site.name}: {int(used.dead.sum())} of {len(theta)} channels were never active; "
                    "they take the threshold of the whole layer"
                )
            values[site.name] = theta.to(dtype)
        source = {"images": self.images, "sha256": self.sha256, **self.about}
        window = steps if rule in DEPENDS_ON_STEPS else None
        return Thresholds(values, window, rule, per, source, tuple(warnings))

    def _check(self, graph: PreparedGraph) -> None:
        channels = {site.name: site.channels for site in graph.sites}
        found = {name: len(histogram.maximum) for name, histogram in self.histograms.items()}
        if channels != found:
            different = [n for n in channels if channels[n] != found.get(n)] or [n for n in found if n not in channels]
            raise CalibrationRefused(
                f"the calibration is of another network: {len(found)} sites against {len(channels)}, "
                f"the first difference at {different[0]}",
                "run snnconvert calibrate on this model",
            )

    def save(self, path: Path) -> None:
        """Write the histograms to ``path`` (a .calib file), all or nothing.

        Raises:
            ArtefactRefused: the file cannot be written.
        """
        tensors = {}
        for number, histogram in enumerate(self.histograms.values()):
            small = not histogram.counts.is_floating_point() and int(histogram.counts.max()) < 2**31
            tensors[f"{number}.counts"] = histogram.counts.int() if small else histogram.counts
            tensors[f"{number}.exponent"] = histogram.exponent.contiguous()
            tensors[f"{number}.maximum"] = histogram.maximum.contiguous()
        document = {
            "format": FORMAT,
            "sites": list(self.histograms),
            "images": self.images,
            "sha256": self.sha256,
            "about": self.about,
            "warnings": list(self.warnings),
        }
        write_tensors(path, tensors, _KEY, document)

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        """Return the calibration in ``path``.

        Raises:
            ArtefactRefused: the file is missing, truncated, foreign, damaged, or from a later version.
        """
        tensors, document = read_tensors(path, _KEY, FORMAT, ".calib")
        try:
            histograms = {
                name: Histogram(
                    counts if (counts := tensors[f"{i}.counts"]).is_floating_point() else counts.long(),
                    tensors[f"{i}.exponent"],
                    tensors[f"{i}.maximum"],
                )
                for i, name in enumerate(document["sites"])
            }
            return cls(
                histograms,
                document["images"],
                document["sha256"],
                document["about"],
                tuple(document["warnings"]),
            )
        except (KeyError, TypeError) as error:
            raise ArtefactRefused(f"{path} is a damaged .calib file ({error})", "calibrate again") from error


class _Watch(fx.Interpreter):
    """Runs a prepared graph and counts what each site puts out."""

    def __init__(self, graph: PreparedGraph) -> None:
        super().__init__(graph.module)
        self.extra_traceback = False  # it would rewrite the messages of our errors
        self.histograms = {site.name: Histogram.empty(site.channels) for site in graph.sites}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the activation of a site, and add it to its histogram."""
        activation = super().call_module(target, args, kwargs)
        site = self.fetch_attr(target)
        assert isinstance(site, Site)
        if not bool(activation.sum().isfinite()) and not bool(activation.isfinite().all()):
            raise CalibrationRefused(
                f"{site.name}: an activation is NaN or infinite",
                "check the images, their preprocessing and the weights",
            )
        self.histograms[site.name].add(activation)
        return activation


def observe(
    graph: PreparedGraph,
    batches: Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]],
    *,
    images: int | None = None,
    about: dict[str, Any] | None = None,
) -> Calibration:
    """Return the distribution of each site's activations over ``batches``, in one pass.

    Args:
        batches: image batches [batch, channels, ...] as the network takes them; of a tuple, as a data loader yields
        it, the
            first tensors are taken, one for each input.
        images: stop after so many; all by default.
        about: what to remember of the data, JSON-able.

    Raises:
        CalibrationRefused: no image, images of another shape, or an activation that is NaN or infinite (the site is
        named).
    """
    watch, digest, seen = _Watch(graph), hashlib.sha256(), 0
    for batch in batches:
        if images is not None and seen >= images:
            break
        inputs = (batch,) if isinstance(batch, Tensor) else tuple(batch)[: len(graph.input_shapes)]
        inputs = tuple(x[: None if images is None else images - seen] for x in inputs)
        shapes = tuple(tuple(x.shape[1:]) for x in inputs)
        if shapes != graph.input_shapes:
            raise CalibrationRefused(
                f"the network takes images of shape {graph.input_shapes}, got {shapes}",
                "check the image size and the number of channels",
            )
        for x in inputs:
            digest.update(x.detach().cpu().contiguous().numpy().tobytes())
        with torch.no_grad():
            watch.run(*inputs)
        seen += len(inputs[0])
    if seen == 0:
        raise CalibrationRefused("the calibration data hold no image", "give at least one batch")
    warnings = () if images is None or seen >= images else (f"asked for {images} calibration images, got {seen}",)
    return Calibration(watch.histograms, seen, digest.hexdigest(), dict(about or {}), warnings)


def calibrate(
    graph: PreparedGraph,
    batches: Iterable[Tensor | tuple[Tensor, ...] | list[Tensor]],
    *,
    steps: int,
    rule: str = "mse",
    per: str = "channel",
    images: int | None = None,
) -> Thresholds:
    """Return thresholds for a window of T = ``steps`` from the activations over ``batches``.

    `observe`, then `Calibration.thresholds`; keep the `Calibration` to compute thresholds for several T from one pass.

    Raises:
        UsageError: an unknown rule, or T below 1.
        CalibrationRefused: no image, images of another shape, an activation that is not finite, or a site that is
        always zero.
    """
    return observe(graph, batches, images=images).thresholds(graph, steps=steps, rule=rule, per=per)


def _dtype(graph: PreparedGraph) -> torch.dtype:
    return next((b.dtype for b in graph.module.buffers() if b.dtype.is_floating_point), torch.float32)

"""Thresholds without data, from what batch norm remembers of the training set.

Batch norm gives its output mean beta and deviation |gamma| in each channel. Taking pre-activations as Gaussian and
summands as independent, and pooling as changing neither, means and variances go through adds, concats, paddings and
activations, and each site gets a distribution from which the usual rules compute thresholds. A network without batch
norm whose activations all have a largest value, as one trained with clipped activations, takes that for theta.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from snnconvert.converter.errors import CalibrationRefused, listed
from snnconvert.converter.graph import PreparedGraph, Site
from snnconvert.converter.graph.canonical import arguments_of
from snnconvert.converter.graph.operations import BY_NAME
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.thresholds import Thresholds

from .calibration import Calibration
from .gaussian import Moments
from .histogram import Histogram

_Moments = tuple[Tensor, Tensor]  # mean and variance of each channel

_KEEPS_CHANNELS: frozenset[Any] = frozenset(
    operation.function for name, operation in BY_NAME.items() if "_pool" in name or name == "interpolate"
)


def thresholds_from_batch_norm(
    graph: PreparedGraph, *, steps: int, rule: str = "mse", per: str = "channel"
) -> Thresholds:
    """Return thresholds for a window of T = ``steps`` from batch-norm statistics alone.

    Raises:
        CalibrationRefused: a site is fed by something whose distribution is not known (all are named).
    """
    moments = _propagate(graph.module.graph)
    histograms, gaussians, unknown = {}, {}, []
    for node in graph.module.graph.nodes:
        site = site_of(node)
        if site is None:
            continue
        found = moments[node.all_input_nodes[0]]
        if found is None or len(found[0]) != site.channels:
            unknown.append(site.name)
        else:
            histograms[site.name] = Histogram.gaussian(found[0], found[1].sqrt(), site.cap)
            gaussians[site.name] = Moments(torch.ones_like(found[0]), *found, site.signed)
    if unknown and all(site.cap is not None for site in graph.sites):
        caps = {site.name: torch.tensor([site.cap]) for site in graph.sites}
        return Thresholds(caps, None, "cap", "layer", {"data": "the activations' largest values"}).to(graph)
    if unknown:
        raise CalibrationRefused(
            f"no batch norm tells the distribution at {listed(unknown)}",
            "calibrate on images: give --data, or call calibrate",
        )
    calibration = Calibration(histograms, 0, "", {"data": "batch-norm statistics"}, moments=gaussians)
    return calibration.thresholds(graph, steps=steps, rule=rule, per=per)


def _propagate(graph: fx.Graph) -> dict[fx.Node, _Moments | None]:
    found: dict[fx.Node, _Moments | None] = {}
    for node in graph.nodes:
        if "gaussian" in node.meta:
            mean, deviation = node.meta["gaussian"]
            found[node] = mean.cpu().double(), deviation.cpu().double() ** 2
        else:
            found[node] = _moments(node, found)
    return found


def _moments(node: fx.Node, found: dict[fx.Node, _Moments | None]) -> _Moments | None:
    inputs = [found[n] for n in node.all_input_nodes]
    known = [m for m in inputs if m is not None]
    if not inputs or len(known) < len(inputs):
        return None
    site = site_of(node)
    if site is not None:
        return rectified(*known[0], site)
    if node.target is torch.neg:
        return -known[0][0], known[0][1]
    alike = len({len(mean) for mean, _ in known}) == 1
    if node.target in (torch.add, torch.sub) and len(known) == 2 and alike and not node.kwargs:
        sign = 1 if node.target is torch.add else -1
        return known[0][0] + sign * known[1][0], known[0][1] + known[1][1]
    if node.target is torch.cat and (node.args[1:] or (node.kwargs.get("dim"),)) == (1,):
        return torch.cat([m for m, _ in known]), torch.cat([v for _, v in known])
    if node.target in _KEEPS_CHANNELS or _slices_within_channels(node):
        return known[0]
    return _padded(node, *known[0]) if node.target is F.pad else None


def _padded(node: fx.Node, mean: Tensor, variance: Tensor) -> _Moments | None:
    """Return moments with those of the channels that a padding adds; a border of the image does not count."""
    call = arguments_of(node, F.pad)
    channels = 2 * (len(node.meta["shape"]) - 2)  # where the channels' padding stands: the last dimension comes first
    around = tuple(call["pad"][channels : channels + 2])
    if not around:
        return mean, variance
    if call["mode"] != "constant":
        return None
    return F.pad(mean, around, value=call["value"] or 0.0), F.pad(variance, around)


def _slices_within_channels(node: fx.Node) -> bool:
    index = node.args[1] if len(node.args) > 1 else None
    return node.target is BY_NAME["getitem"].function and isinstance(index, tuple) and index[1:2] == (slice(None),)


def rectified(mean: Tensor, variance: Tensor, site: Site) -> _Moments:
    """Return mean and variance of a = min(max(z, 0), cap) for z ~ N(mean, variance), [channels].

    With s the deviation, P the normal distribution function and p its density,
    E[max(z - c, 0)] = (m - c) P((m - c) / s) + s p((m - c) / s), and E[max(z - c, 0)^2] likewise;
    the cap subtracts the part above it.
    """
    deviation = variance.sqrt().clamp(min=1e-12)

    def tail(c: float) -> _Moments:
        u = (mean - c) / deviation
        density = torch.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
        first = deviation * (u * torch.special.ndtr(u) + density)
        second = deviation**2 * ((u**2 + 1) * torch.special.ndtr(u) + u * density)
        return first, second

    first, second = tail(0.0)
    if site.cap is not None:
        above, above_squared = tail(site.cap)
        first, second = first - above, second - above_squared - 2 * site.cap * above
    return first, (second - first**2).clamp(min=0)

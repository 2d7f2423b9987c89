"""Where the error of a spiking network comes from, site by site.

At each site the output o of the neurons differs from the activation a of the network by four steps, which add up:

    a = f(z_ann)  ->  f(z)  ->  clip(f(z), h)  ->  r = h N / T  ->  o
         inherited    clipped         quantisation    temporal or stochastic

z is the mean over the window of what comes in, f the activation, h what a neuron says that fires as often as it can:
theta, unless corrected. N is the rounded count of a mean that comes in evenly,

    N = clip(floor((sum_t (z + b[t]) + v0) / theta + 1/2), 0, T),   -T instead of 0 where the site is signed

(with bursts of m spikes T m in the place of T, and theta / m in that of theta)
with the bias b and the initial potential v0 of calibration, so that what a correction does counts as quantisation;
streaming neurons have their own initial potential and shift in the place of 1/2. Streaming neurons then miss N by the
unevenness of what comes in, o - r. The count of TPP neurons is floor(E) or floor(E) + 1, with E its mean and p the
fractional part of |E|, so that the mean square of o - r, given z, is

    (h / T)^2 (p (1 - p) + (E - N)^2)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused
from snnconvert.converter.graph import PreparedGraph, Site
from snnconvert.converter.neurons import Neuron, Noise
from snnconvert.converter.neurons.two_phase import rounded_count
from snnconvert.converter.thresholds import Thresholds

from .batches import Batches, first_inputs
from .side_by_side import activations, run_watched

OWN = ("clipped", "quantisation", "temporal", "stochastic")
"""The parts that a site adds itself."""

PARTS = ("inherited", *OWN)
"""The parts of an error, in the order in which they arise."""


@dataclass(frozen=True)
class SiteError:
    """The error of one site, in units of the mean square of its activation.

    Where nothing was active an error is infinite, and no error zero.

    Args:
        site: its name.
        total: the mean square of o - a, as measured. The parts are squares of steps that correlate, and so need not
            add up to it.
        parts: the mean square of each step, by its name in `PARTS`; zero for a step that these neurons do not take.
    """

    site: str
    total: float
    parts: Mapping[str, float]

    @property
    def own(self) -> float:
        """The sum of all parts but the inherited one."""
        return sum(self.parts[name] for name in OWN)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types; what is infinite is None."""
        numbers = {"total": self.total, "own": self.own, **self.parts}
        return {"site": self.site, **{k: v if math.isfinite(v) else None for k, v in numbers.items()}}


@dataclass(frozen=True)
class Attribution:
    """The errors of a spiking network.

    Args:
        neuron: the neuron model.
        steps: T.
        images: how many were seen.
        sites: one entry each, in the order in which they run.
    """

    neuron: str
    steps: int
    images: int
    sites: tuple[SiteError, ...]

    def ranked(self) -> tuple[SiteError, ...]:
        """The sites, the one that adds most of its own first."""
        return tuple(sorted(self.sites, key=lambda entry: -entry.own))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {
            "neuron": self.neuron,
            "steps": self.steps,
            "images": self.images,
            "sites": [entry.to_json() for entry in self.sites],
        }


def attribute(
    graph: PreparedGraph, thresholds: Thresholds, batches: Batches, *, neuron: str, **options: Any
) -> Attribution:
    """Return what each site adds to the error of the spiking network, the equations on top.

    Network and spiking network run side by side. The parts are mean squares over images, channels and positions,
    divided by the mean square of the activation; they correlate, and need not add up to the total. What changed weights
    do is inherited. Memory does not depend on the number of images.

    Args:
        thresholds: with the corrections to look at, if any.
        batches: images [batch, channels, ...] as the network takes them; of a tuple the first tensors are taken.
        neuron: the neuron model.
        options: further arguments of `convert`; ``steps`` is needed where the thresholds are for any T.

    Raises:
        CalibrationRefused: no image, no T, or thresholds of another network, T or neuron.
        DataRefused: images that the network does not take.
    """
    steps = options.get("steps", thresholds.steps)
    if steps is None:
        raise CalibrationRefused(f"{thresholds.rule} thresholds are for any T, errors are for one", "give steps=T")
    model = convert(graph, thresholds, neuron=neuron, **options | {"steps": steps})
    sites = {child: module for child, module in graph.module.named_children() if isinstance(module, Site)}
    sums = {site.name: dict.fromkeys(("activation", "total", *PARTS), 0.0) for site in graph.sites}
    images = 0
    for batch in batches:
        inputs = first_inputs(graph, batch)
        watched = activations(graph, inputs)[1]
        noise = Noise(model.seed, torch.arange(images, images + len(inputs[0]), device=inputs[0].device))

        def add(
            child: str,
            current: Tensor,
            watched: dict[str, tuple[Tensor, Tensor]] = watched,
            noise: Noise = noise,
        ) -> None:
            site, (_, activation) = sites[child], watched.pop(child)
            found = squares(site, model.network.neurons[child], current, activation, noise)
            for name, values in {"activation": activation.square(), **found}.items():
                sums[site.name][name] += float(values.double().sum())

        run_watched(model, inputs, add, images)
        images += len(inputs[0])
    if not images:
        raise CalibrationRefused("the data hold no image to find errors on", "give at least one batch")
    return Attribution(neuron, model.steps, images, tuple(_relative(name, sums[name]) for name in sums))


def squares(site: Site, neuron: Neuron, current: Tensor, activation: Tensor, noise: Noise) -> dict[str, Tensor]:
    """Return the square of the error of each neuron, as "total", and of each of its `PARTS`.

    Args:
        current: what comes into ``neuron``: the mean over its window [batch, channels, ...], or where it is streaming
            each step of it, [steps, batch, channels, ...].
        activation: that of the network, [batch, channels, ...].
        noise: the random numbers of the pass.
    """
    mean = current.mean(0) if neuron.streaming else current
    level, most = neuron.height / neuron.steps, (neuron.height * neuron.burst).expand_as(mean)
    ideal = site(mean)
    clipped = torch.minimum(torch.maximum(ideal, -most), most)
    count, rounded = fired(neuron, current, noise), even_count(neuron, mean)
    found = {
        "total": count * level - activation,
        "inherited": ideal - activation,
        "clipped": clipped - ideal,
        "quantisation": rounded * level - clipped,
        "temporal": (count - rounded) * level if neuron.streaming else torch.zeros_like(mean),
    }
    random = torch.zeros_like(mean)
    if neuron.stochastic and not neuron.streaming:
        expected = neuron.expected_count(mean * neuron.steps)
        p = expected.abs().frac()
        random = level.square() * (p * (1 - p) + (expected - rounded).square())
    return {name: step.square() for name, step in found.items()} | {"stochastic": random}


def fired(neuron: Neuron, current: Tensor, noise: Noise) -> Tensor:
    """Return the number of spikes of each neuron in a window, [batch, channels, ...], for ``current`` of `squares`."""
    if not neuron.streaming:
        return neuron.count(current * neuron.steps, noise)
    potential, count = neuron.start(current[0]), torch.zeros_like(current[0])
    for step in range(neuron.steps):
        spikes, potential = neuron.fire(neuron.integrate(potential, current[step], step), step, noise)
        count += spikes
    return count


def even_count(neuron: Neuron, mean: Tensor) -> Tensor:
    """Return N on top, the rounded count where ``mean`` [batch, channels, ...] comes in at every step."""
    if not neuron.streaming:
        total = mean * neuron.steps
        total = total if neuron.offset is None else total + neuron.offset
        return rounded_count(total / neuron.threshold, neuron.most, neuron.signed)
    potential = neuron.start(mean)
    for step in range(neuron.steps):
        potential = neuron.integrate(potential, mean, step)
    return (potential / neuron.threshold).floor().clamp(-neuron.most if neuron.signed else 0, neuron.most)


def _relative(name: str, sums: dict[str, float]) -> SiteError:
    power = sums["activation"]

    def share(error: float) -> float:
        return error / power if power else math.inf if error else 0.0

    return SiteError(name, share(sums["total"]), {part: share(sums[part]) for part in PARTS})

"""Follow a recipe: from images to thresholds, corrections and weights."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from snnconvert.converter.errors import CalibrationRefused, UsageError, choice
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import CONVERTIBLE
from snnconvert.converter.thresholds import Thresholds

from .augment import augmented
from .batches import Batches, first, first_inputs
from .bursts import with_bursts
from .calibration import Calibration
from .observer import observe
from .recipes import CORRECTIONS, Recipe, find_recipe
from .reconstruction import Progress, reconstruct
from .side_by_side import correct

_PRIME = 1_000_003

_LOOKED_AT = 100
"""Images on which errors and spikes are measured before bursts are given."""

Images = Callable[[int], Iterable[Any]]
"""The number of an epoch -> batches of the same images."""


def follow(
    recipe: Recipe,
    graph: PreparedGraph,
    observed: Calibration,
    images: Images,
    *,
    neuron: str,
    steps: int,
    seed: int = 0,
    checkpoint: Path | str | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
    **options: Any,
) -> Thresholds:
    """Return what ``recipe`` makes of calibration images, for ``neuron`` and a window of T = ``steps``.

    Args:
        observed: the activations on these images.
        images: gives batches of them.
        seed: of what is random in learning.
        checkpoint, report: as for `reconstruct`.
        options: further arguments of `convert`.

    Raises:
        UsageError, CalibrationRefused, ArtefactRefused: as for the steps of the recipe.
    """
    recipe.check()
    choice("neuron", neuron, CONVERTIBLE)

    def plain(window: int) -> Thresholds:
        return observed.thresholds(graph, steps=window, rule=recipe.rule, per=recipe.per, percent=recipe.percent)

    found = plain(steps)
    if recipe.needs_images:
        found = replace(found, steps=steps)
    if recipe.mixed_steps > 1:
        few = list(first(images(0), _LOOKED_AT))
        found = with_bursts(graph, found, few, plain, neuron=neuron, budget=recipe.mixed_steps, **options)
    for name in recipe.corrections:
        kind = CORRECTIONS[name]
        if neuron in kind.neurons:
            seen = first(images(0), recipe.correction_images)
            found = correct(graph, found, seen, kind.rule, name=name, neuron=neuron, **options)
    if recipe.reconstruction is None:
        return found

    def changed(epoch: int) -> Iterable[tuple[Tensor, ...]]:
        for number, batch in enumerate(images(epoch)):
            key = ((seed * _PRIME + epoch) * _PRIME + number) % 2**63
            yield tuple(augmented(x, recipe.augment, key) for x in first_inputs(graph, batch))

    return reconstruct(
        graph,
        found,
        changed,
        neuron=neuron,
        settings=recipe.reconstruction,
        seed=seed,
        checkpoint=checkpoint,
        report=report,
        **options,
    )


def calibrate(
    graph: PreparedGraph,
    batches: Batches | Images,
    *,
    steps: int,
    recipe: str | Recipe = "thresholds",
    neuron: str | None = None,
    rule: str | None = None,
    per: str | None = None,
    images: int | None = None,
    **options: Any,
) -> Thresholds:
    """Return thresholds for a window of T = ``steps``, and the corrections and weights of ``recipe``.

    `observe`, then `Calibration.thresholds` or `follow`; keep the `Calibration` to compute thresholds for several T
    from one pass.

    Args:
        batches: unlabelled training images as the network takes them; something that can be read several times, or a
            function of the epoch, where the recipe does more than thresholds.
        recipe: its name, a TOML file, or the recipe itself.
        neuron: the neuron model that corrections are for.
        rule, per: instead of the recipe's.
        images: stop after so many; all by default.
        options: further arguments of `follow`.

    Raises:
        UsageError: an unknown name, T below 1, or no neuron where the recipe corrects.
        DataRefused, CalibrationRefused: as for `observe`, or ``batches`` can be read only once.
    """
    chosen = recipe if isinstance(recipe, Recipe) else find_recipe(str(recipe))
    chosen = replace(chosen, rule=rule or chosen.rule, per=per or chosen.per)
    chosen.check()
    if neuron is not None:
        choice("neuron", neuron, CONVERTIBLE)
    read: Images = batches if callable(batches) else lambda epoch: batches
    if not chosen.needs_images:
        observed = observe(graph, read(0), images=images, sample=chosen.sample)
        return observed.thresholds(graph, steps=steps, rule=chosen.rule, per=chosen.per, percent=chosen.percent)
    if neuron is None:
        raise UsageError(f"recipe {chosen.name!r} corrects neurons", f"name them: neuron={' or '.join(CONVERTIBLE)}")
    if not callable(batches) and iter(batches) is batches:
        raise CalibrationRefused(
            f"recipe {chosen.name!r} reads the images several times, and these can be read once",
            "give a list, a data loader, or a function of the epoch",
        )
    observed = observe(graph, read(0), images=images, sample=chosen.sample)
    limited: Images = read if images is None else lambda epoch: first(read(epoch), images)
    return follow(chosen, graph, observed, limited, neuron=neuron, steps=steps, **options)

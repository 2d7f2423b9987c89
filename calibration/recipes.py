"""Recipes: named ways from images to thresholds, corrections and weights, which can be written and read as TOML."""

import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w
from torch import Tensor

from snnconvert.converter.errors import CalibrationRefused, UsageError, choice
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import NEURONS
from snnconvert.converter.thresholds import Thresholds

from .augment import AUGMENTATIONS, augmented
from .bias import bias
from .calibration import Calibration
from .da_qcfs import da_qcfs
from .ftbc import ftbc
from .observer import first_inputs, observe
from .potential import potential
from .reconstruction import Progress, reconstruct
from .rules import PER, PERCENTILE, RULES
from .side_by_side import Batches, Rule, correct
from .student import Settings


class Kind(NamedTuple):
    """A correction: its rule, and the neurons it is for."""

    rule: Rule
    neurons: tuple[str, ...]


CORRECTIONS = {
    "bias": Kind(bias, tuple(NEURONS)),
    "potential": Kind(potential, tuple(NEURONS)),
    "ftbc": Kind(ftbc, ("if",)),
    "da-qcfs": Kind(da_qcfs, ("two-phase",)),
}
"""The corrections, by the name that recipes use."""


@dataclass(frozen=True)
class Recipe:
    """How thresholds, corrections and weights come from images.

    Args:
        name: of the recipe.
        rule: of the thresholds, one of `RULES`.
        per: "channel" or "layer".
        percentile: of the rule of that name.
        images: training images to use, where there are so many.
        sample: observe one in so many activations, as in `observe`.
        corrections: of `CORRECTIONS`, one after the other; each is applied if it is for the neurons at hand.
        correction_images: how many of the images the corrections see.
        reconstruction: how to learn, None for not at all.
        augment: changes to the images that learning sees, of `AUGMENTATIONS`.
    """

    name: str = "thresholds"
    rule: str = "mse"
    per: str = "channel"
    percentile: float | None = None
    images: int = 1000
    sample: int = 1
    corrections: tuple[str, ...] = ()
    correction_images: int = 1000
    reconstruction: Settings | None = None
    augment: tuple[str, ...] = ()

    @property
    def needs_images(self) -> bool:
        """Whether the distribution of activations is not enough."""
        return bool(self.corrections or self.reconstruction)

    def check(self) -> None:
        """Check every name and number.

        Raises:
            UsageError: one that does not exist, or is out of range.
        """
        choice("rule", self.rule, tuple(RULES))
        choice("granularity", self.per, PER)
        for name in self.corrections:
            choice("correction", name, tuple(CORRECTIONS))
        for name in self.augment:
            choice("augmentation", name, tuple(AUGMENTATIONS))
        if self.reconstruction is not None:
            self.reconstruction.check()
        for name in ("images", "sample", "correction_images"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(f"the recipe's {name} must be a whole number above 0, got {value!r}")


_MEAN = ("bias", "ftbc")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(),
        Recipe("fast", sample=7, corrections=_MEAN, correction_images=100),
        Recipe("balanced", images=5000, corrections=_MEAN, reconstruction=Settings(iterations=300)),
        Recipe(
            "best",
            images=10000,
            corrections=_MEAN,
            reconstruction=Settings(iterations=1500),
            augment=("flip", "shift"),
        ),
    )
}
"""The recipes that have a name: thresholds alone; seconds; minutes for a small network; a quarter of an hour."""


def find_recipe(reference: str) -> Recipe:
    """Return the recipe called ``reference``, or that in the TOML file of that name.

    Raises:
        UsageError: there is no such recipe or file, or the file holds what no recipe has.
    """
    if Path(reference).suffix != ".toml":
        return RECIPES[choice("recipe", reference, tuple(RECIPES))]
    try:
        document = tomllib.loads(Path(reference).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read the recipe {reference}: {reason}", "see `snnconvert recipe fast`") from error
    return from_document(document, reference)


def from_document(document: dict[str, Any], where: str) -> Recipe:
    """Return the recipe that ``document`` describes, as TOML and JSON have it.

    Raises:
        UsageError: it holds what no recipe has; ``where`` is named.
    """
    try:
        learning = document.get("reconstruction")
        settings = None if learning is None else _build(Settings, learning)
        found: Recipe = _build(Recipe, document | {"reconstruction": settings})
        found.check()
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", error.hint) from error
    return found


def _build(kind: type[Any], given: Any) -> Any:
    if not isinstance(given, dict):
        raise UsageError(f"expected a table of {', '.join(f.name for f in fields(kind))}, got {given!r}")
    usual = kind()
    for name, value in given.items():
        choice("entry", name, tuple(f.name for f in fields(kind)))
        expected = getattr(usual, name)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        right = {
            str: isinstance(value, str),
            int: isinstance(value, int) and number,
            float: number,
            tuple: isinstance(value, list | tuple) and all(isinstance(v, str) for v in value),
        }
        if type(expected) in right and not right[type(expected)]:
            raise UsageError(f"{name} is a {type(expected).__name__} such as {expected!r}, got {value!r}")
        if name == "percentile" and value is not None and not number:
            raise UsageError(f"percentile is a number such as {PERCENTILE}, got {value!r}")
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in given.items()})


def to_document(recipe: Recipe) -> dict[str, Any]:
    """Return ``recipe`` as TOML and JSON have it, without what is not there."""

    def plain(values: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in values.items() if value is not None}
        return {n: plain(v) if isinstance(v, dict) else list(v) if isinstance(v, tuple) else v for n, v in kept.items()}

    return plain(asdict(recipe))


def to_toml(recipe: Recipe) -> str:
    """Return ``recipe`` as the text of a TOML file."""
    return tomli_w.dumps(to_document(recipe))


_PRIME = 1_000_003
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
    checkpoint: Path | None = None,
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
    choice("neuron", neuron, tuple(NEURONS))
    percent = PERCENTILE if recipe.percentile is None else recipe.percentile
    found = observed.thresholds(graph, steps=steps, rule=recipe.rule, per=recipe.per, percent=percent)
    if recipe.needs_images:
        found = replace(found, steps=steps)
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

    settings = replace(recipe.reconstruction, seed=seed)
    return reconstruct(
        graph, found, changed, neuron=neuron, settings=settings, checkpoint=checkpoint, report=report, **options
    )


def first(batches: Batches, count: int) -> Iterable[Any]:
    """Yield ``batches`` until ``count`` images have come; the last batch is cut."""
    for batch in batches:
        parts = (batch,) if isinstance(batch, Tensor) else tuple(batch)
        yield tuple(part[:count] for part in parts)
        count -= len(parts[0])
        if count <= 0:
            return


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
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    chosen = replace(chosen, rule=rule or chosen.rule, per=per or chosen.per)
    read: Images = batches if callable(batches) else lambda epoch: batches
    observed = observe(graph, read(0), images=images, sample=chosen.sample)
    if not chosen.needs_images:
        percent = PERCENTILE if chosen.percentile is None else chosen.percentile
        return observed.thresholds(graph, steps=steps, rule=chosen.rule, per=chosen.per, percent=percent)
    if neuron is None:
        raise UsageError(f"recipe {chosen.name!r} corrects neurons", f"name them: neuron={' or '.join(NEURONS)}")
    if not callable(batches) and iter(batches) is batches:
        raise CalibrationRefused(
            f"recipe {chosen.name!r} reads the images several times, and these can be read once",
            "give a list, a data loader, or a function of the epoch",
        )
    limited: Images = read if images is None else lambda epoch: first(read(epoch), images)
    return follow(chosen, graph, observed, limited, neuron=neuron, steps=steps, **options)

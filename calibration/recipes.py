"""Recipes: named ways from images to thresholds, corrections and weights, which can be written and read as TOML."""

import math
import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from snnconvert.converter.errors import UsageError, choice
from snnconvert.converter.neurons import CONVERTIBLE

from .augment import AUGMENTATIONS
from .bias import bias
from .da_qcfs import da_qcfs
from .ftbc import ftbc
from .potential import potential
from .rules import PER, PERCENTILE, RULES
from .settings import Settings
from .side_by_side import Rule


class Kind(NamedTuple):
    """A correction: its rule, and the neurons it is for."""

    rule: Rule
    neurons: tuple[str, ...]


CORRECTIONS = {
    "bias": Kind(bias, CONVERTIBLE),
    "potential": Kind(potential, CONVERTIBLE),
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
        mixed_steps: let the worst sites fire bursts, for at most so many times the spikes (see `bursts`); 1 for none.
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
    mixed_steps: float = 1.0
    images: int = 1000
    sample: int = 1
    corrections: tuple[str, ...] = ()
    correction_images: int = 1000
    reconstruction: Settings | None = None
    augment: tuple[str, ...] = ()

    @property
    def needs_images(self) -> bool:
        """Whether the distribution of activations is not enough."""
        return bool(self.corrections or self.reconstruction or self.mixed_steps > 1)

    @property
    def percent(self) -> float:
        """The percentile, stated or usual."""
        return PERCENTILE if self.percentile is None else self.percentile

    def check(self) -> None:
        """Check every name and number.

        Raises:
            UsageError: one that does not exist, or is out of range.
        """
        choice("rule", self.rule, tuple(RULES))
        choice("granularity", self.per, PER)
        if self.percentile is not None and self.rule != "percentile":
            raise UsageError(f"percentile is for rule 'percentile', got rule {self.rule!r}", "leave one of them out")
        for name in self.corrections:
            choice("correction", name, tuple(CORRECTIONS))
        for name in self.augment:
            choice("augmentation", name, tuple(AUGMENTATIONS))
        if self.reconstruction is not None:
            self.reconstruction.check()
        if not 1 <= self.mixed_steps < math.inf:
            raise UsageError(f"mixed steps are allowed so many times the spikes, 1 or more, got {self.mixed_steps}")
        if not 0 < self.percent <= 100:
            raise UsageError(f"a percentile lies between 0 and 100, got {self.percent}")
        for name in ("images", "sample", "correction_images"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise UsageError(f"the recipe's {name} must be a whole number above 0, got {value!r}")


_MEAN = ("bias", "ftbc")

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(),
        Recipe("fast", sample=16, corrections=_MEAN, correction_images=50),
        Recipe("balanced", images=5000, corrections=_MEAN, reconstruction=Settings(iterations=300)),
        Recipe(
            "best",
            images=10000,
            corrections=_MEAN,
            reconstruction=Settings(iterations=2500, weight_rate=6e-3, threshold_rate=2e-3, temperature=2.0),
            augment=("flip", "shift", "mixup"),
        ),
    )
}
"""The recipes that have a name: thresholds alone; seconds; minutes for a small network; a quarter of an hour."""


def find_recipe(reference: str) -> Recipe:
    """Return the recipe called ``reference``, or that in the TOML file of that name.

    Raises:
        UsageError: there is no such recipe or file, or the file holds what no recipe has.
    """
    if Path(reference).suffix.lower() != ".toml":
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
        raise UsageError(f"{where}: {error.message}", error.hint or "`snnconvert recipe best` shows one") from error
    return found


_WORDS = {str: "a text", bool: "true or false,", int: "a whole number", float: "a number", tuple: "a list of names"}


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
            bool: isinstance(value, bool),
            int: isinstance(value, int) and number,
            float: number,
            tuple: isinstance(value, list | tuple) and all(isinstance(v, str) for v in value),
        }
        if type(expected) in right and not right[type(expected)]:
            usual_value = list(expected) if isinstance(expected, tuple) else expected
            raise UsageError(f"{name} is {_WORDS[type(expected)]} such as {usual_value!r}, got {value!r}")
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

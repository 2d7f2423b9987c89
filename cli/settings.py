"""What decides a spiking network besides the model and the data, settled from flags before any work begins."""

from dataclasses import dataclass
from typing import Any

from snnconvert.converter.errors import UsageError

OPTIMAL: dict[str, Any] = {"neuron": "if", "rule": "max", "initial_potential": 0.0, "shift": True}
"""Optimal conversion of Deng and Gu (ICLR 2021): maximum thresholds, each step shifted by theta / (2T)."""


@dataclass(frozen=True)
class Request:
    """Neuron, recipe and randomness; the arguments of `convert`, and what is stated instead of the recipe's.

    ``recipe`` is its name or file, None where it follows from the data.
    """

    neuron: str = "tpp"
    steps: int = 8
    recipe: str | None = None
    rule: str | None = None
    per: str | None = None
    percentile: float | None = None
    mixed_steps: float | None = None
    initial_potential: float | None = None
    shift: bool = False
    shuffle: str = "none"
    seed: int = 0


def settle(
    *,
    named: str | None,
    neuron: str | None,
    steps: int,
    rule: str | None,
    per: str | None,
    percentile: float | None,
    mixed_steps: float | None,
    initial_potential: float | None,
    shuffle: str,
    seed: int,
) -> Request:
    """Return the recipe that the flags describe; None is a flag not given.

    Raises:
        UsageError: two flags contradict each other.
    """
    stated: dict[str, Any] = {"neuron": neuron, "rule": rule, "initial_potential": initial_potential}
    chosen = {name: value for name, value in stated.items() if value is not None}
    if named == "optimal":
        for name, value in chosen.items():
            if value != OPTIMAL[name]:
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"--recipe {named} means {flag} {OPTIMAL[name]}, but {flag} {value} was given", f"drop {flag}"
                )
        chosen |= OPTIMAL
    recipe = Request(
        **chosen,
        steps=steps,
        recipe=named,
        per=per,
        percentile=percentile,
        mixed_steps=mixed_steps,
        shuffle=shuffle,
        seed=seed,
    )
    if percentile is not None and recipe.rule not in (None, "percentile"):
        raise UsageError(f"--percentile has no meaning with --rule {recipe.rule}", "add --rule percentile")
    if initial_potential is not None and recipe.neuron != "if":
        raise UsageError(
            f"--initial-potential is a choice of --neuron if, but the neuron is {recipe.neuron}: it starts from 0"
        )
    return recipe

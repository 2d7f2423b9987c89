from typing import Any

import pytest

from snnconvert.cli.settings import Request, settle
from snnconvert.converter.errors import UsageError

SILENT: dict[str, Any] = {
    "named": None,
    "neuron": None,
    "steps": 8,
    "rule": None,
    "per": None,
    "percentile": None,
    "mixed_steps": None,
    "initial_potential": None,
    "shuffle": "none",
    "seed": 0,
}


def test_no_flag_is_the_default_recipe() -> None:
    assert settle(**SILENT) == Request()


def test_optimal_is_deng_and_gus() -> None:
    assert settle(**SILENT | {"named": "optimal", "steps": 32}) == Request(
        neuron="if", steps=32, recipe="optimal", rule="max", initial_potential=0.0, shift=True
    )


@pytest.mark.parametrize("agreeing", [{"neuron": "if"}, {"rule": "max"}, {"initial_potential": 0.0}])
def test_optimal_takes_flags_that_agree(agreeing: dict[str, Any]) -> None:
    assert settle(**SILENT | {"named": "optimal"} | agreeing).shift


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"named": "optimal", "neuron": "tpp"}, "--recipe optimal means --neuron if, but --neuron tpp was given"),
        ({"named": "optimal", "rule": "mse"}, "means --rule max, but --rule mse"),
        ({"named": "optimal", "initial_potential": 0.5}, "means --initial-potential 0.0, but --initial-potential 0.5"),
        ({"percentile": 99.0, "rule": "max"}, "--percentile has no meaning with --rule max"),
        ({"initial_potential": 0.5}, "--initial-potential is a choice of --neuron if, but the neuron is tpp"),
    ],
)
def test_contradictions(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        settle(**SILENT | flags)


@pytest.mark.parametrize("flags", [{"mixed_steps": 1.5}, {"mixed_steps": 1.0, "shuffle": "shared"}])
def test_mixed_steps_are_remembered(flags: dict[str, Any]) -> None:
    assert settle(**SILENT | flags) == Request(**flags)

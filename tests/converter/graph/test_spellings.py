"""Every synonym against its function in float64, and the sets of calls that a canonical graph does without."""

import operator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_leaves

from snnconvert.converter.graph import functions
from snnconvert.converter.graph.operations import OPERATIONS
from snnconvert.converter.graph.spellings import (
    ASSERTIONS,
    IDENTITIES,
    IN_PLACE,
    PAIRS,
    RESHAPES,
    SPREAD_ARGUMENTS,
    STRUCTURE,
    SYNONYMS,
    UNPACKED,
)

from .operation_cases import CASES, name_of, weight


def same(found: Any, expected: Any) -> bool:
    found, expected = tree_leaves(found), tree_leaves(expected)
    return len(found) == len(expected) and all(
        f.shape == e.shape and torch.allclose(f.double(), e.double(), rtol=1e-9, atol=1e-9)
        for f, e in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(
    "synonym", [s for s in SYNONYMS if s != "expand_as"], ids=name_of
)  # takes a tensor for a shape
def test_synonyms_compute_the_same(synonym: Any) -> None:
    function = SYNONYMS[synonym]
    fitting = 0
    for shape, call in CASES[OPERATIONS[function].name]:
        x = weight(3, *shape)

        def spelled(first: Any, *args: Any, **kwargs: Any) -> Any:
            target = getattr(first, synonym) if isinstance(synonym, str) else synonym
            given = args if isinstance(synonym, str) else (first, *args)
            return target(*given, **kwargs)

        try:
            found = call(spelled, x.clone())
        except (TypeError, RuntimeError):  # operators and methods take fewer forms than the function
            continue
        assert same(found, call(function, x))
        fitting += 1
    assert fitting, f"no case fits {synonym}"


def test_sets_of_functions_are_of_the_table() -> None:
    assert set(OPERATIONS) >= SPREAD_ARGUMENTS
    assert all(f in OPERATIONS for f in SYNONYMS.values())
    assert not (IDENTITIES | ASSERTIONS | STRUCTURE | UNPACKED | set(PAIRS)) & set(OPERATIONS)
    assert not (IDENTITIES | ASSERTIONS | STRUCTURE | UNPACKED | set(PAIRS)) & set(SYNONYMS)
    assert all(f in OPERATIONS for pair in PAIRS.values() for f in pair)
    assert torch.reshape in RESHAPES


def test_functions_that_overwrite_return_what_they_overwrote() -> None:
    for function in IN_PLACE - {functions.assign}:
        x = weight(3)
        assert function(x, 2.0) is x
        assert function in SYNONYMS
    x = weight(3)
    assert functions.assign(x, 0, 2.0) is not x  # in the graph it is a new tensor, in the model's code the old one


@pytest.mark.parametrize("identity", sorted(IDENTITIES - {"cuda"}, key=name_of), ids=name_of)
def test_identities_do_nothing(identity: Any) -> None:
    x = weight(2, 3, 4, 4)
    if identity == "float":
        assert torch.equal(x.float().float(), x.float())
    elif isinstance(identity, str):
        arguments: dict[str, tuple[Any, ...]] = {"to": (torch.float64,), "type": (torch.float64,), "type_as": (x,)}
        assert torch.equal(getattr(x, identity)(*arguments.get(identity, ())), x)
    elif "dropout" in identity.__name__:
        x = x[:, :, 0] if identity is F.dropout1d else x[None] if identity is F.dropout3d else x
        assert torch.equal(identity(x, 0.5, False), x)
    else:
        assert torch.equal(identity(x), x)


@pytest.mark.parametrize("several", sorted(UNPACKED, key=name_of), ids=name_of)
def test_what_is_unpacked_gives_several_tensors(several: Any) -> None:
    x = weight(2, 4, 3)
    function = getattr(torch.Tensor, several) if isinstance(several, str) else several
    found = function(x) if "unbind" in function.__name__ else function(x, 2)
    assert isinstance(found, tuple | list)
    assert all(isinstance(part, Tensor) for part in found)


@pytest.mark.parametrize("pair", sorted(PAIRS, key=name_of), ids=name_of)
def test_pairs_are_what_two_functions_return(pair: Any) -> None:
    x = weight(2, 4, 3)
    function = getattr(torch.Tensor, pair) if isinstance(pair, str) else pair
    assert same(function(x, 1), [f(x, 1) for f in PAIRS[pair]])


def test_operator_names_are_told_from_tensor_names() -> None:
    assert SYNONYMS[operator.add] is SYNONYMS["add"] is torch.add
    assert SYNONYMS["view"] is torch.reshape
    assert SYNONYMS["unfold"] is functions.windows
    assert OPERATIONS[F.unfold].name == "unfold"
    assert "where" not in SYNONYMS  # Tensor.where takes its condition second

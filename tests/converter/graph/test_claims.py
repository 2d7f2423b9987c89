"""Calls that compute what the model computes, and would still be wrong in time, are refused."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import prepare
from snnconvert.converter.graph.claims import check_claims

MIXES = "mixes the images of a batch"
NOT_LINEAR = "is not linear, or mixes images, with these arguments"
NOT_FIRST = "does not have the images in its first dimension"

WRONG: dict[str, tuple[Any, str, str]] = {
    "the mean of a batch": (lambda m, a: m.head(a - a.mean(0, keepdim=True)), "mean", MIXES),
    "the mean of everything": (lambda m, a: a.mean(), "mean", MIXES),
    "the sum of a batch": (lambda m, a: m.head(a).sum(0), "sum", MIXES),
    "a batch in reverse": (lambda m, a: m.head(a.flip(0)), "flip", NOT_LINEAR),
    "concat of batches": (lambda m, a: m.head(torch.cat([a, a])), "cat", MIXES),
    "concat of batches, cut": (lambda m, a: m.head(torch.cat([a, a], dim=0)[:2]), "cat", MIXES),
    "the first image": (lambda m, a: m.head(a)[0], "getitem", MIXES),
    "the first image as a batch": (lambda m, a: m.head(a[:1]), "getitem", MIXES),
    "the last image": (lambda m, a: m.head(a) - m.head(a)[-1:], "getitem", MIXES),
    "two images in other order": (lambda m, a: m.head(a[[1, 0]]), "getitem", MIXES),
    "the second image": (lambda m, a: m.head(a[1:2]), "getitem", MIXES),
    "halves of a batch": (lambda m, a: m.head(a.chunk(2, 0)[0]), "chunk", MIXES),
    "half of each image": (lambda m, a: m.head(a.view(-1, 2, 2, 8, 8).view(-1, 4, 4, 8)), "reshape", MIXES),
    "an odd flatten": (lambda m, a: torch.flatten(a, 0, 1).mean((1, 2)), "flatten", MIXES),
    "rounding down": (lambda m, a: m.head(torch.div(a, 0.1, rounding_mode="floor")), "div", NOT_LINEAR),
    "truncating": (lambda m, a: m.head(a.div(0.1, rounding_mode="trunc")), "div", NOT_LINEAR),
    "a weight before the batch": (lambda m, a: m.head(a) + m.weight[:, None, :1], "add", NOT_FIRST),
    "an activation of other order": (
        lambda m, a: m.head(F.relu(a.permute(1, 0, 2, 3) - 1).permute(1, 0, 2, 3)),
        "activation",
        NOT_FIRST,
    ),
    "a pool of other order": (
        lambda m, a: m.head(m.pool(m.conv2(a).permute(1, 0, 2, 3)).permute(1, 0, 2, 3)),
        "max_pool2d",
        NOT_FIRST,
    ),
    "an activation without channels": (lambda m, a: F.relu(m.head(a).mean(1)) * 2, "activation", "has no channels"),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("forward", "name", "fault"), WRONG.values(), ids=WRONG)
def test_what_time_would_break_is_refused(
    network: Any, images: Tensor, forward: Any, name: str, fault: str, count: int
) -> None:
    model = network(lambda m, x: forward(m, m.relu(m.conv(x))))
    expected = rf"these operations cannot be simulated in time:\n  (\(top level\)|pool): {name} at .*\.py:\d+ {fault}"
    with pytest.raises(ModelRefused, match=expected):
        prepare(model, images[:count])


def test_all_faults_are_named_and_their_consequences_are_not(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.relu(m.conv(x))
        return m.head(a.flip(0) + torch.div(a, 0.1, rounding_mode="floor"))

    with pytest.raises(ModelRefused) as refused:
        prepare(network(forward), images)
    assert [line.split()[2] for line in str(refused.value).splitlines() if line.startswith("  ")] == ["flip", "div"]


def test_an_image_before_all_sites_must_lie_in_the_first_dimension_where_trains_meet_it(
    network: Any, images: Tensor
) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        steady = torch.stack([m.conv(x), m.conv2(m.conv(x))])
        return m.head((steady + m.relu(m.conv(x))).sum(0))

    with pytest.raises(ModelRefused, match=NOT_FIRST):
        prepare(network(forward), images)


def test_the_global_random_state_is_left_alone(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: m.head(m.relu(m.conv(x))))
    before = torch.get_rng_state()
    prepare(model, images)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_graph_by_hand() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    half = graph.call_function(torch.div, (x, 2))
    floor = graph.call_function(torch.div, (half, 2), {"rounding_mode": "floor"})
    graph.output(floor)
    module = fx.GraphModule(nn.Module(), graph)
    with pytest.raises(ModelRefused, match=r"\(top level\): div at None is not linear"):
        check_claims(module, (torch.randn(2, 3),))
    floor.kwargs = {}
    module.recompile()
    check_claims(module, (torch.randn(2, 3),))

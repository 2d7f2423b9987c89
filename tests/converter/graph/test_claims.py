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
OUTPUT = "is an output that does not have the images in its first dimension"
SITE = "is an activation whose images are not in the first dimension, or that has no channels"

WRONG: dict[str, tuple[Any, str, str]] = {
    "the mean of a batch": (lambda m, a: m.head(a - a.mean(0, keepdim=True)), "mean", MIXES),
    "the mean of everything": (lambda m, a: a.mean(), "mean", MIXES),
    "the sum of a batch": (lambda m, a: m.head(a).sum(0), "sum", MIXES),
    "a batch in reverse": (lambda m, a: m.head(a.flip(0)), "flip", NOT_LINEAR),
    "concat of batches": (lambda m, a: m.head(torch.cat([a, a])), "linear", OUTPUT),
    "concat of batches, cut": (lambda m, a: m.head(torch.cat([a, a], dim=0)[:2]), "getitem", MIXES),
    "concat of batches, taken apart": (
        lambda m, a: m.head(torch.cat([a, -a]).reshape(2, -1, 4, 8, 8).sum(0)),
        "cat",
        NOT_LINEAR,
    ),
    "the first image": (lambda m, a: m.head(a)[0], "getitem", MIXES),
    "the first image as a batch": (lambda m, a: m.head(a[:1]), "getitem", MIXES),
    "the last image": (lambda m, a: m.head(a) - m.head(a)[-1:], "getitem", MIXES),
    "two images in other order": (lambda m, a: m.head(a[[1, 0]]), "getitem", MIXES),
    "the second image": (lambda m, a: m.head(a[1:2]), "getitem", MIXES),
    "half of each image": (lambda m, a: m.head(a.view(-1, 2, 2, 8, 8).view(-1, 4, 4, 8)), "linear", OUTPUT),
    "an odd flatten": (lambda m, a: torch.flatten(a, 0, 1).mean((1, 2)), "mean", OUTPUT),
    "a softmax over the batch": (lambda m, a: m.head(a).softmax(0), "softmax", MIXES),
    "a norm over the batch": (lambda m, a: F.normalize(m.head(a), dim=0), "normalize", MIXES),
    "attention between images": (lambda m, a: (y := m.head(a)) @ y.transpose(0, 1) @ y, "matmul", MIXES),
    "rounding down": (lambda m, a: m.head(torch.div(a, 0.1, rounding_mode="floor")), "div", NOT_LINEAR),
    "truncating": (lambda m, a: m.head(a.div(0.1, rounding_mode="trunc")), "div", NOT_LINEAR),
    "a weight before the batch": (lambda m, a: m.head(a) + m.weight[:, None, :1], "add", OUTPUT),
    "an activation without channels": (lambda m, a: F.relu(m.head(a).mean(1)) * 2, "activation", SITE),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("forward", "name", "fault"), WRONG.values(), ids=WRONG)
def test_what_time_would_break_is_refused(
    network: Any, images: Tensor, forward: Any, name: str, fault: str, count: int
) -> None:
    model = network(lambda m, x: forward(m, m.relu(m.conv(x))))
    expected = (
        rf"these operations cannot be simulated in time:\n  (\(top level\)|pool|fc): {name} at .*\.py:\d+ {fault}"
    )
    with pytest.raises(ModelRefused, match=expected):
        prepare(model, images[:count])


def test_all_faults_are_named_and_their_consequences_are_not(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.relu(m.conv(x))
        return m.head(a.flip(0) + torch.div(a, 0.1, rounding_mode="floor"))

    with pytest.raises(ModelRefused) as refused:
        prepare(network(forward), images)
    assert [line.split()[2] for line in str(refused.value).splitlines() if line.startswith("  ")] == ["flip", "div"]


def test_halves_of_a_batch_are_refused(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: m.head(m.relu(m.conv(x)).chunk(2, 0)[0]))
    with pytest.raises(ModelRefused, match=r"the model uses the batch size in chunk.* \(.*test_claims.py:\d+\)"):
        prepare(model, images)


ELSEWHERE: dict[str, Any] = {
    "a pool": lambda m, x: m.pool(m.conv2(m.relu(m.conv(x))).permute(1, 0, 2, 3)).permute(1, 0, 2, 3),
    "an image that stays, and a train": lambda m, x: (
        torch.stack([m.conv(x), m.conv2(m.conv(x))]) + m.relu(x[:, :1])
    ).sum(0),
    "a train, and an image that stays": lambda m, x: (m.relu(m.conv(x)) + torch.stack([m.conv(x), m.conv(x) - 1])).mean(
        0
    ),
    "an analog operation": lambda m, x: F.softmax(m.relu(m.conv(x)).permute(1, 0, 2, 3), 0).transpose(0, 1),
    "several rows an image": lambda m, x: F.gelu(m.relu(m.conv(x)).reshape(-1, 2, 8, 8)).reshape(-1, 4, 8, 8),
    "rows of weights": lambda m, x: m.relu(m.conv(x)).permute(2, 3, 0, 1) @ m.conv2.weight[:, :, 0, 0].T,
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_images_may_lie_in_another_dimension(network: Any, images: Tensor, converts: Any, name: str) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = ELSEWHERE[name](m, x)
        return m.head(y.permute(2, 3, 0, 1) if name == "rows of weights" else y)

    converts(network(forward), images)


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
    for node in (x, half, floor):
        node.meta |= {"batch": 0, "shape": (1, 3)}
    module = fx.GraphModule(nn.Module(), graph)
    with pytest.raises(ModelRefused, match=r"\(top level\): div at None is not linear"):
        check_claims(module, (torch.randn(2, 3),))
    floor.kwargs = {}
    module.recompile()
    check_claims(module, (torch.randn(2, 3),))

"""Where the images and the channels lie in each tensor, against shapes counted by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconvert.converter.graph import prepare
from snnconvert.converter.graph.on_shapes import OnShapes
from snnconvert.converter.graph.shapes import record_shapes, rows_of


class Model(nn.Module):
    def __init__(self, forward: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.function = forward
        self.kernel = nn.Parameter(torch.randn(6, 4, 3, 3))
        self.matrix = nn.Parameter(torch.randn(7, 4))

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def output_of(forward: Callable[[Any, Tensor], Any], *shape: int) -> fx.Node:
    module = fx.symbolic_trace(Model(forward))
    record_shapes(module, (shape,), torch.float32, OnShapes())
    node: fx.Node = next(n for n in module.graph.nodes if n.op == "output").args[0]
    return node


def windows(m: Any, x: Tensor) -> Tensor:
    """Four windows of 4x4 of an image of 8x8, as rows of the batch: [batch 4, 16, channels]."""
    x = torch.reshape(torch.permute(x, (0, 2, 3, 1)), (-1, 2, 4, 2, 4, 5))
    return torch.reshape(torch.permute(x, (0, 1, 3, 2, 4, 5)), (-1, 16, 5))


PLANES, TOKENS, VECTOR = (4, 6, 8), (5, 4), (4,)
CASES: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], int, int]] = {
    "an image": (lambda m, x: x, PLANES, (1, 4, 6, 8), 0, 1),
    "tokens": (lambda m, x: x, TOKENS, (1, 5, 4), 0, 2),
    "a vector": (lambda m, x: x, VECTOR, (1, 4), 0, 1),
    "a convolution": (lambda m, x: F.conv2d(x, m.kernel), PLANES, (1, 6, 4, 6), 0, 1),
    "a linear layer": (lambda m, x: F.linear(x, m.matrix), TOKENS, (1, 5, 7), 0, 2),
    "a linear layer on channels last": (
        lambda m, x: F.linear(torch.permute(x, (0, 2, 3, 1)), m.matrix),
        PLANES,
        (1, 6, 8, 7),
        0,
        3,
    ),
    "permute": (lambda m, x: torch.permute(x, (0, 2, 3, 1)), PLANES, (1, 6, 8, 4), 0, 3),
    "permute from the back": (lambda m, x: torch.permute(x, (0, -2, -1, 1)), PLANES, (1, 6, 8, 4), 0, 3),
    "permute by name": (lambda m, x: torch.permute(x, dims=(0, 3, 1, 2)), PLANES, (1, 8, 4, 6), 0, 2),
    "permute and back": (
        lambda m, x: torch.permute(torch.permute(x, (0, 2, 3, 1)), (0, 3, 1, 2)),
        PLANES,
        (1, 4, 6, 8),
        0,
        1,
    ),
    "transpose": (lambda m, x: torch.transpose(x, 1, -1), PLANES, (1, 8, 6, 4), 0, 3),
    "transpose by name": (lambda m, x: torch.transpose(x, dim0=3, dim1=1), PLANES, (1, 8, 6, 4), 0, 3),
    "transpose of others": (lambda m, x: torch.transpose(x, 2, 3), PLANES, (1, 4, 8, 6), 0, 1),
    "flatten to tokens": (lambda m, x: torch.transpose(torch.flatten(x, 2), 1, 2), PLANES, (1, 48, 4), 0, 2),
    "flatten of planes": (lambda m, x: torch.flatten(x, 2), PLANES, (1, 4, 48), 0, 1),
    "tokens to an image": (
        lambda m, x: torch.reshape(torch.transpose(torch.flatten(x, 2), 1, 2), (-1, 6, 8, 4)),
        PLANES,
        (1, 6, 8, 4),
        0,
        3,
    ),
    "channels in groups": (lambda m, x: torch.reshape(x, (-1, 2, 2, 6, 8)), PLANES, (1, 2, 2, 6, 8), 0, 1),
    "all in one": (lambda m, x: torch.flatten(x, 1), PLANES, (1, 192), 0, 1),
    "windows": (windows, (5, 8, 8), (4, 16, 5), 0, 2),
    "elementwise": (lambda m, x: F.gelu(torch.permute(x, (0, 2, 3, 1))) * 2, PLANES, (1, 6, 8, 4), 0, 3),
    "batch in second place": (lambda m, x: torch.stack([x, x]), PLANES, (2, 1, 4, 6, 8), 1, 4),
    "batch at the back": (lambda m, x: torch.permute(x, (1, 2, 3, 0)), PLANES, (4, 6, 8, 1), 3, 0),
    "matrices": (lambda m, x: torch.matmul(x, torch.transpose(x, 1, 2)), TOKENS, (1, 5, 5), 0, 2),
    "group norm": (lambda m, x: F.group_norm(x, 2), PLANES, (1, 4, 6, 8), 0, 1),
    "layer norm": (lambda m, x: F.layer_norm(x, (8,)), PLANES, (1, 4, 6, 8), 0, 3),
}


@pytest.mark.parametrize(("forward", "image", "shape", "batch", "axis"), CASES.values(), ids=CASES)
def test_shape_batch_and_channels(
    forward: Any, image: tuple[int, ...], shape: tuple[int, ...], batch: int, axis: int
) -> None:
    node = output_of(forward, *image)
    assert (node.meta["shape"], node.meta["batch"], node.meta["axis"]) == (shape, batch, axis)
    assert rows_of(node) == shape[batch]


MIXED: dict[str, Any] = {
    "the mean of the batch": lambda m, x: x.mean(0),
    "the mean of everything": lambda m, x: x.mean(),
    "one image": lambda m, x: x[:1],
    "all but one": lambda m, x: x[1:],
    "images by images": lambda m, x: torch.flatten(x, 1) @ torch.flatten(x, 1).T,
    "one more": lambda m, x: torch.cat([x, x[:1]]),
}


@pytest.mark.parametrize("forward", MIXED.values(), ids=MIXED)
def test_there_is_no_batch_dimension_where_none_follows_the_images(forward: Any) -> None:
    assert output_of(forward, *PLANES).meta["batch"] is None


def test_weights_have_a_shape_and_no_batch() -> None:
    node = output_of(lambda m, x: F.conv2d(x, m.kernel), *PLANES).args[1]
    assert isinstance(node, fx.Node)
    assert (node.meta["shape"], node.meta["batch"]) == ((6, 4, 3, 3), None)


def test_sites_know_their_shape_and_channels(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.relu(m.conv(x)).permute(0, 2, 3, 1)
        y = F.relu(m.mix(y))
        y = y.reshape(-1, 2, 4, 2, 4, 6).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 6)
        y = F.gelu(m.mix2(y))  # four windows an image, in the batch
        return m.fc(m.last(y.reshape(-1, 4 * 16, 7)).mean(1))

    modules = {"mix": nn.Linear(4, 6), "mix2": nn.Linear(6, 7), "last": nn.Linear(7, 4)}
    graph = converts(network(forward, **modules), images)
    found = [(s.name, s.shape, s.axis, s.channels) for s in graph.sites]
    assert found[:2] == [("relu", (4, 8, 8), 1, 4), ("relu#2", (8, 8, 6), 3, 6)]
    assert found[2][0] == "gelu"
    assert found[2][3] == 7


def test_rows_of_windows_are_those_of_one_image(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.relu(m.conv(x)).reshape(-1, 2, 8, 8)  # two rows an image
        return m.head((y * 2).reshape(-1, 4, 8, 8))

    nodes = prepare(network(forward), images).module.graph.nodes
    assert [rows_of(n) for n in nodes if n.target in (torch.reshape, torch.mul)] == [2, 2, 1]

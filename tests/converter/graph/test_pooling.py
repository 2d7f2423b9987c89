"""Max-pools move before the activation wherever that changes nothing, and nowhere else."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.graph.operations import MAX_POOLS, OPERATIONS
from snnconvert.converter.graph.sites import site_of

from .operation_cases import name_of


def order(graph: PreparedGraph) -> list[str]:
    """Return sites as "site" and functions by name, in the order in which they run."""
    nodes = graph.module.graph.nodes
    return [
        "site" if site_of(n) is not None else OPERATIONS[n.target].name
        for n in nodes
        if n.op in ("call_function", "call_module")
    ]


MOVES: dict[str, tuple[Any, list[str]]] = {
    "after a relu": (lambda m, x: m.pool(m.relu(m.conv(x))), ["conv2d", "max_pool2d", "site"]),
    "padded, strided, rounded up": (
        lambda m, x: F.max_pool2d(m.relu(m.conv(x)), 3, stride=2, padding=1, ceil_mode=True),
        ["conv2d", "max_pool2d", "site"],
    ),
    "torch.max_pool2d": (lambda m, x: torch.max_pool2d(m.relu(m.conv(x)), 2), ["conv2d", "max_pool2d", "site"]),
    "after relu6": (lambda m, x: m.pool(F.relu6(m.conv(x))), ["conv2d", "max_pool2d", "site"]),
    "adaptive": (
        lambda m, x: F.adaptive_max_pool2d(m.relu(m.conv(x)), 2),
        ["conv2d", "adaptive_max_pool2d", "site"],
    ),
    "through dropout": (
        lambda m, x: m.pool(F.dropout(m.relu(m.conv(x)), training=False)),
        ["conv2d", "max_pool2d", "site"],
    ),
    "a pool of a pool": (
        lambda m, x: m.pool(m.pool(m.relu(m.conv(x)))),
        ["conv2d", "max_pool2d", "max_pool2d", "site"],
    ),
    "through concat": (
        lambda m, x: m.pool(torch.cat([m.relu(m.conv(x)), F.relu(m.conv2(m.conv(x)))], 1))[:, 2:6],
        ["conv2d", "conv2d", "conv2d", "max_pool2d", "site", "max_pool2d", "site", "cat", "getitem"],
    ),
    "through concat counted from the back": (
        lambda m, x: m.pool(torch.cat([m.relu(m.conv(x)), m.relu(m.conv(x))], dim=-3))[:, 2:6],
        ["conv2d", "conv2d", "max_pool2d", "site", "max_pool2d", "site", "cat", "getitem"],
    ),
}
STAYS: dict[str, Any] = {
    "before a relu": lambda m, x: m.relu(m.pool(m.conv(x))),
    "after an average pool": lambda m, x: m.pool(F.avg_pool2d(m.relu(m.conv(x)), 2)),
    "after a convolution": lambda m, x: m.pool(m.conv2(m.relu(m.conv(x)))),
    "after an add": lambda m, x: m.pool(m.relu(m.conv(x)) + m.relu(m.conv2(m.conv(x)))),
    "after a concat of rows": lambda m, x: m.pool(torch.cat([m.relu(m.conv(x)), m.relu(m.conv(x))], 2)),
    "after a concat of which one part is no site": lambda m, x: m.pool(
        torch.cat([m.relu(m.conv(x))[:, :2], m.conv(x)[:, 2:]], 1)
    ),
    "a maximum of everything": lambda m, x: (a := m.relu(m.conv(x))) * a.amax((1, 2, 3))[:, None, None, None],
    "a maximum of everything, to divide by": lambda m, x: (
        (a := m.relu(m.conv(x))) / (a.amax((1, 2, 3)).view(-1, 1, 1, 1) + 1)
    ),
    "a maximum of all values of a function": lambda m, x: (
        (a := torch.sigmoid(m.conv(x))) * a.amax((1, 2, 3))[:, None, None, None]
    ),
}


@pytest.mark.parametrize(("forward", "expected"), MOVES.values(), ids=MOVES)
def test_it_moves_before_the_activation(
    network: Any, images: Tensor, converts: Any, forward: Any, expected: list[str]
) -> None:
    graph = converts(network(lambda m, x: m.head(forward(m, x))), images)
    found = order(graph)[:-2]
    assert found == expected or sorted(found) == sorted(expected)
    count = sum(name.endswith("max_pool2d") for name in expected)
    assert f"{count} max-pool{'s' * (count > 1)} moved before the activation" in graph.notes
    for node in graph.module.graph.nodes:
        if node.target in MAX_POOLS:
            assert site_of(node.all_input_nodes[0]) is None
            assert len(node.users) == 1


@pytest.mark.parametrize("forward", STAYS.values(), ids=STAYS)
def test_it_stays(network: Any, images: Tensor, converts: Any, forward: Any) -> None:
    graph = converts(network(lambda m, x: m.head(forward(m, x))), images)
    assert not any("max-pool" in note for note in graph.notes)


def test_thresholds_belong_where_the_site_ends_up(network: Any, images: Tensor) -> None:
    graph = prepare(network(lambda m, x: m.head(m.pool(m.relu(m.conv(x))))), images)
    assert [(s.name, s.shape) for s in graph.sites] == [("relu", (4, 4, 4))]


def test_a_site_with_other_readers_is_split(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.relu(m.conv(x))
        return m.fc(m.pool(h).mean((2, 3)) + h.mean((2, 3)) + F.max_pool2d(h, 4).mean((2, 3)))

    graph = converts(network(forward), images)
    names = {s.name: s.shape for s in graph.sites}
    assert names == {"relu": (4, 8, 8), "relu.pooled": (4, 4, 4), "relu.pooled.pooled": (4, 2, 2)}
    assert "2 max-pools moved before the activation" in graph.notes
    assert any(note.startswith("2 activations split") for note in graph.notes)


def test_a_site_that_is_concatenated_with_itself(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.relu(m.conv(x))
        return m.head(m.pool(torch.cat([h, h], 1))[:, 2:6])

    graph = converts(network(forward), images)
    assert len({s.name for s in graph.sites}) == len(graph.sites)


def test_a_concat_with_other_readers_is_split(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = torch.cat([m.relu(m.conv(x)), m.relu(m.conv(x) - 1)], 1)
        return m.fc((m.pool(h).mean((2, 3)) + h.mean((2, 3)))[:, 2:6])

    graph = converts(network(forward), images)
    assert {s.name: s.shape for s in graph.sites} == {
        "relu": (4, 8, 8),
        "relu#2": (4, 8, 8),
        "relu.pooled": (4, 4, 4),
        "relu#2.pooled": (4, 4, 4),
    }
    assert set(graph.notes) == {
        "2 max-pools moved before the activation",
        "2 activations split, because something besides the max-pool reads them",
    }


NON_DECREASING: list[Any] = [
    F.leaky_relu,
    torch.sigmoid,
    torch.tanh,
    F.elu,
    F.celu,
    F.selu,
    F.softplus,
    F.hardsigmoid,
    F.softsign,
    F.logsigmoid,
    F.hardtanh,
    lambda x: F.leaky_relu(x, 0.5),
    lambda x: F.hardtanh(x, -0.5, 0.25),
]
OTHER: list[Any] = [F.gelu, F.silu, F.mish, F.hardswish, torch.square, torch.cos, lambda x: F.leaky_relu(x, -0.5)]


@pytest.mark.parametrize("activation", NON_DECREASING, ids=name_of)
def test_it_moves_before_what_never_falls(network: Any, images: Tensor, converts: Any, activation: Any) -> None:
    graph = converts(network(lambda m, x: m.head(m.conv2(m.pool(activation(m.conv(x)))))), images)
    assert graph.notes == ("1 max-pool moved before the activation",)
    assert order(graph)[:2] == ["conv2d", "max_pool2d"]
    assert [s.shape for s in graph.sites] == [(4, 4, 4)]


@pytest.mark.parametrize("activation", OTHER, ids=name_of)
def test_it_stays_behind_what_falls_somewhere(network: Any, images: Tensor, converts: Any, activation: Any) -> None:
    graph = converts(network(lambda m, x: m.head(m.conv2(m.pool(activation(m.conv(x)))))), images)
    assert not any("moved" in note for note in graph.notes)
    found = order(graph)
    assert found.index("max_pool2d") > 1
    assert graph.sites[0].shape == (4, 8, 8)


def test_padding_with_the_lowest_number_moves_with_its_pool(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = F.pad(m.relu(m.conv(x)), (0, 1, 0, 1), value=float("-inf"))
        return m.head(m.conv2(F.max_pool2d(y, 3, 2)))

    assert order(converts(network(forward), images))[:4] == ["conv2d", "pad_lowest", "max_pool2d", "site"]


@pytest.mark.parametrize(("pool", "shape"), [(nn.MaxPool1d(2), (3, 8)), (nn.MaxPool3d(2), (3, 4, 4, 4))])
def test_other_dimensions(converts: Any, pool: nn.Module, shape: tuple[int, ...]) -> None:
    conv = nn.Conv1d if len(shape) == 2 else nn.Conv3d
    model = nn.Sequential(conv(3, 4, 1), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(2)).double()
    x = torch.randn(3, *shape).double()
    model(x)
    assert converts(model, x).notes == ("1 max-pool moved before the activation",)


def test_the_statistics_of_batch_norm_move_with_it(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: m.head(m.pool(m.relu(m.norm(m.conv(x))))), norm=nn.BatchNorm2d(4))
    graph = prepare(model, images).module.graph
    site = next(n for n in graph.nodes if site_of(n) is not None)
    mean, _ = site.all_input_nodes[0].meta["gaussian"]
    assert torch.equal(mean, model.norm.bias)

"""Windows, levels and memory of graphs that are small enough to count by hand."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.graph import prepare
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.simulation.schedule import Schedule

IMAGE = torch.randn(2, 1, 8, 8)


def chain(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers).eval()


def conv() -> nn.Conv2d:
    return nn.Conv2d(1, 1, 3, padding=1)


class Fork(nn.Module):
    """Three sites on one way and none on the other."""

    def __init__(self) -> None:
        super().__init__()
        self.way = chain(conv(), nn.ReLU(), conv(), nn.ReLU(), conv(), nn.ReLU(), conv())

    def forward(self, x: Tensor) -> Tensor:
        return self.way(x) + x


class Around(nn.Module):
    """A site, and behind it a residual add around an analog operation that another layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.b(h + F.layer_norm(h, (8,)))


class Gate(nn.Module):
    """A site times a sigmoid gate that a second and a third site lead to, and a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = conv(), conv(), conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.d(h * self.c(self.b(h).relu()).sigmoid())


POOL, RELU, NORM = nn.MaxPool2d(2), nn.ReLU(), nn.LayerNorm(8)

# name: network, windows until the answer of two-phase neurons, and of streaming ones whose trains are shuffled,
# and the operations that are applied once a window
NETWORKS: dict[str, tuple[nn.Module, int, int, list[str]]] = {
    "a chain": (chain(conv(), RELU, conv(), RELU, conv()), 3, 3, []),
    "a fork": (Fork().eval(), 4, 4, []),
    "a pool that moves": (chain(conv(), RELU, POOL, conv()), 2, 2, []),
    "a pool before a site": (chain(conv(), RELU, conv(), POOL, RELU, conv()), 3, 3, ["max_pool2d"]),
    # the pool's value is encoded by a pair of sites, v = max(v, 0) - max(-v, 0)
    "a pool before a layer": (chain(conv(), RELU, conv(), POOL, conv()), 3, 3, ["max_pool2d", "neg"]),
    "two pools in a row": (
        chain(conv(), RELU, conv(), POOL, nn.MaxPool2d(2), conv()),
        3,  # the last one is encoded
        3,
        ["max_pool2d", "max_pool2d", "neg"],
    ),
    "a pool at the end": (chain(conv(), RELU, conv(), POOL), 2, 2, ["max_pool2d"]),
    "an activation at the end": (chain(conv(), RELU, conv(), nn.ReLU6()), 2, 2, ["clamp"]),
    # signed sites take no streaming neurons, so only two-phase ones are of use below
    "an activation function": (chain(conv(), RELU, conv(), nn.GELU(), conv()), 3, 3, ["gelu"]),
    "a norm between sites": (chain(conv(), RELU, NORM, RELU, conv()), 3, 3, ["layer_norm"]),
    "a chain of analog operations": (
        chain(conv(), RELU, conv(), NORM, nn.Softmax(3), nn.Tanh(), conv()),
        3,
        3,
        ["layer_norm", "softmax", "tanh"],
    ),
    "a norm at the end": (chain(conv(), RELU, NORM), 2, 2, ["layer_norm"]),
    "an analog operation on the image": (chain(NORM, conv(), RELU, conv()), 3, 3, []),
    # the site (window 1), its norm encoded (window 2): the add waits for it
    "around an analog operation": (Around().eval(), 3, 3, ["layer_norm"]),
    # the sites in windows 1 and 2; the product is encoded in window 3
    "a gate": (Gate().eval(), 4, 4, ["sigmoid", "mul"]),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_until_the_answer(name: str) -> None:
    model, two_phase, shuffled, _ = NETWORKS[name]
    graph = prepare(model, IMAGE).module.graph
    assert Schedule(graph, streaming=False, shuffled=False).windows == two_phase
    assert Schedule(graph, streaming=True, shuffled=True).windows == shuffled
    assert Schedule(graph, streaming=True, shuffled=False).windows == 1


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("streaming", "shuffled"), [(False, False), (True, True), (True, False), (False, True)])
def test_nothing_speaks_before_what_it_reads(name: str, streaming: bool, shuffled: bool) -> None:
    graph = prepare(NETWORKS[name][0], IMAGE).module.graph
    schedule = Schedule(graph, streaming, shuffled)
    for node in graph.nodes:
        for source in node.all_input_nodes:
            waits = site_of(node) is not None and schedule.delayed and source not in schedule.windowed
            assert schedule.level[node] >= schedule.level[source] + waits
    assert schedule.delayed == (shuffled or not streaming)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_applied_once_a_window(name: str) -> None:
    model, _, _, expected = NETWORKS[name]
    graph = prepare(model, IMAGE).module.graph
    once, running = (Schedule(graph, streaming, shuffled=False) for streaming in (False, True))
    names = [n.target.__name__ for n in graph.nodes if n in once.windowed]  # type: ignore[union-attr]
    assert names == expected
    assert not running.windowed
    # A streaming network carries the same operations through its steps; what is linear needs no care there.
    nonlinear = [n.target.__name__ for n in graph.nodes if n in running.nonlinear]  # type: ignore[union-attr]
    assert nonlinear == [n for n in expected if n != "neg"]
    assert running.nonlinear == once.nonlinear


def test_what_no_site_precedes_is_constant() -> None:
    graph = prepare(NETWORKS["a fork"][0], IMAGE).module.graph
    schedule = Schedule(graph, True, False)
    names = [n.name for n in graph.nodes if n in schedule.constant and n.op != "get_attr"]
    assert len(names) == 2  # the image and the first convolution
    assert all(n in schedule.constant for n in graph.nodes if n.op in ("placeholder", "get_attr"))
    assert {n.op for n in schedule.weights} == {"get_attr"}


def test_values_alive_at_once() -> None:
    model = chain(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    schedule = Schedule(prepare(model, torch.randn(5, 3)).module.graph, True, False)
    assert schedule.values_per_image == 4 + 4  # the pre-activation and the activation of the site
    fork = Schedule(prepare(NETWORKS["a fork"][0], IMAGE).module.graph, True, False)
    assert fork.values_per_image == 64 * 3  # the image waits for the add

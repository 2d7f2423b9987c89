"""Windows, levels and memory of graphs that are small enough to count by hand."""

import pytest
import torch
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


POOL, RELU = nn.MaxPool2d(2), nn.ReLU()

# name: network, windows of two-phase neurons, of shuffled streaming ones without and with window operations counted
NETWORKS = {
    "a chain": (chain(conv(), nn.ReLU(), conv(), nn.ReLU(), conv()), 3, 3),
    "a fork": (Fork().eval(), 4, 4),
    "a pool that moves": (chain(conv(), RELU, POOL, conv()), 2, 2),
    "a pool before a site": (chain(conv(), nn.ReLU(), conv(), POOL, nn.ReLU(), conv()), 3, 3),
    "a pool before a layer": (chain(conv(), nn.ReLU(), conv(), POOL, conv()), 3, 2),
    "a pool at the end": (chain(conv(), nn.ReLU(), conv(), POOL), 2, 2),
    "two pools in a row": (chain(conv(), nn.ReLU(), conv(), POOL, nn.MaxPool2d(2), conv()), 3, 2),
    "an activation at the end": (chain(conv(), nn.ReLU(), conv(), nn.ReLU6()), 2, 2),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_until_the_answer(name: str) -> None:
    model, two_phase, shuffled = NETWORKS[name]
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
    if streaming:
        assert not schedule.windowed
    else:
        names = {n.target.__name__ for n in schedule.windowed}  # type: ignore[union-attr]
        assert all("pool" in name or name == "clamp" for name in names)
        assert bool(names) == ("layer" in name or "end" in name or "row" in name or "before a site" in name)


def test_what_no_site_precedes_is_constant() -> None:
    graph = prepare(NETWORKS["a fork"][0], IMAGE).module.graph
    schedule = Schedule(graph, True, False)
    names = [n.name for n in graph.nodes if n in schedule.constant and n.op != "get_attr"]
    assert len(names) == 2  # the image and the first convolution
    assert all(n in schedule.constant for n in graph.nodes if n.op in ("placeholder", "get_attr"))


def test_values_alive_at_once() -> None:
    model = chain(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    schedule = Schedule(prepare(model, torch.randn(5, 3)).module.graph, True, False)
    assert schedule.values_per_image == 4 + 4  # the pre-activation and the activation of the site
    fork = Schedule(prepare(NETWORKS["a fork"][0], IMAGE).module.graph, True, False)
    assert fork.values_per_image == 64 * 3  # the image waits for the add

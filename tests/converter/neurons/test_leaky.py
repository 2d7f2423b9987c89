"""Leaky integrate-and-fire neurons against a loop in numpy, alone and in a network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from snnconvert.converter.artifact import load, save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ModelRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import Correction, LeakyIntegrateAndFire, Noise, Place
from snnconvert.converter.simulation import SpikingModel
from snnconvert.converter.thresholds import Thresholds

NOISE = Noise(0, torch.arange(1))
Array = NDArray[np.float64]


def loop(
    currents: Array,
    theta: float,
    most: int = 1,
    leak: float = 0.5,
    gain: float = 1.0,
    alpha: float = 1.0,
    hard: bool = False,
    drive: float = 0.0,
    start: float = 0.0,
) -> Array:
    """Return the spikes of one neuron, threshold by threshold."""
    u, spikes = start, []
    for current in currents:
        u = leak * u + gain * current + drive
        count = sum(u >= (alpha + j) * theta for j in range(most))
        spikes.append(count)
        u = (0.0 if count else u) if hard else u - theta * count
    return np.array(spikes, np.float64)


def fired(neuron: LeakyIntegrateAndFire, currents: Tensor) -> Tensor:
    """Return the train [T, 1, neurons] of ``currents``, of that shape."""
    return neuron.spike_train(neuron.start(currents[0]), currents.clone(), 0, NOISE)[0]


def make(theta: float, steps: int, most: int = 1, correction: Correction | None = None, **options: Any) -> Any:
    place = Place(0, 2)
    return LeakyIntegrateAndFire(
        torch.tensor([theta * most]).double(), steps, place, correction or Correction(), most, **options
    )


@given(
    st.lists(st.integers(-96, 96), min_size=1, max_size=10),
    st.sampled_from([0.25, 0.5, 0.75, 1.0]),
    st.integers(1, 5),
    st.sampled_from([0.25, 0.5, 1.0, 1.5]),
    st.booleans(),
    st.sampled_from([0.5, 1.0, 2.0]),
    st.sampled_from([0.5, 1.0, 4.0]),
)
def test_trains_are_numpys(
    sixteenths: list[int], leak: float, most: int, alpha: float, hard: bool, gain: float, theta: float
) -> None:
    currents = np.array(sixteenths) / 16
    neuron = make(theta, len(currents), most, leak=leak, gain=gain, firing_potential=alpha, hard_reset=float(hard))
    train = fired(neuron, torch.from_numpy(currents)[:, None, None])
    assert train.flatten().tolist() == loop(currents, theta, most, leak, gain, alpha, hard).tolist()


def test_by_hand() -> None:
    currents = torch.tensor([0.75, 0.75, 0.75, 0.75]).double()[:, None, None]
    # u = 0.75, 1.125 -> 0.125, 0.8125, 1.15625
    assert fired(make(1.0, 4), currents).flatten().tolist() == [0, 1, 0, 1]
    # with a hard reset u = 0.75, 1.125 -> 0, 0.75, 1.125
    assert fired(make(1.0, 4, hard_reset=1.0), currents).flatten().tolist() == [0, 1, 0, 1]
    currents = torch.tensor([3.0, 0.0, 0.0]).double()[:, None, None]
    # 3 -> 2, 1 -> 0, 0; a hard reset forgets the rest
    assert fired(make(1.0, 3), currents).flatten().tolist() == [1, 1, 0]
    assert fired(make(1.0, 3, hard_reset=1.0), currents).flatten().tolist() == [1, 0, 0]
    # two thresholds: 3 -> 1, 0.5, 0.25
    assert fired(make(1.0, 3, 2), currents).flatten().tolist() == [2, 0, 0]


def test_corrections_add_to_the_potential_after_the_leak() -> None:
    currents = np.array([0.5, -0.25, 0.75, 0.125, 1.0])
    given_ = torch.from_numpy(currents)[:, None, None]
    neuron = make(1.0, 5, correction=Correction(bias=torch.tensor([0.25]).double()), gain=2.0)
    assert fired(neuron, given_).flatten().tolist() == loop(currents, 1.0, gain=2.0, drive=0.25).tolist()
    by_step = torch.arange(5).double()[:, None] / 4
    neuron = make(1.0, 5, correction=Correction(bias=by_step), leak=0.75)
    expected = loop(currents + by_step[:, 0].numpy(), 1.0, leak=0.75)
    assert fired(neuron, given_).flatten().tolist() == expected.tolist()
    neuron = make(2.0, 5, correction=Correction(potential=torch.tensor([0.75]).double()))
    assert fired(neuron, given_).flatten().tolist() == loop(currents, 2.0, start=1.5).tolist()


def test_potentials_and_currents_are_left_as_they_were() -> None:
    potential, current = torch.tensor([[0.5, 2.0]]), torch.tensor([[1.0, 1.0]])
    neuron = LeakyIntegrateAndFire(torch.ones(1), 2, Place(0, 2), firing_potential=0.5, hard_reset=1.0)
    neuron.fire(neuron.integrate(potential, current, 0), 0, NOISE)
    neuron.fire(potential, 0, NOISE)
    assert (potential.tolist(), current.tolist()) == ([[0.5, 2.0]], [[1.0, 1.0]])


@pytest.mark.parametrize(
    "options",
    [
        {"leak": 0.0},
        {"leak": 1.5},
        {"leak": float("nan")},
        {"gain": 0.0},
        {"firing_potential": -1.0},
        {"hard_reset": 0.5},
    ],
    ids=str,
)
def test_numbers_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"expected a leak above 0 and at most 1, .* got .*" + str(*options.values())):
        make(1.0, 2, **options)


class Net(nn.Module):
    """A residual add of unequal depth, and a pool; all weights are multiples of 1/16."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.pool, self.head = nn.MaxPool2d(2), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.pool(self.a(x).relu())
        return self.head((h + self.b(h).relu()).mean((2, 3)))


def graph_and_images() -> tuple[PreparedGraph, Tensor]:
    torch.manual_seed(0)
    net = Net().double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_((parameter * 32).round() / 16)
    x = (torch.randn(6, 1, 8, 8).double() * 8).round() / 8
    return prepare(net, x), x


OPTIONS = {"leak": 0.75, "gain": 0.5, "firing_potential": 0.5, "hard_reset": 1.0}


@pytest.mark.parametrize("options", [{}, {"leak": 1.0}, OPTIONS, {"firing_potential": 0.25}], ids=str)
@pytest.mark.parametrize("bursts", [1, 3])
def test_layers_fire_what_steps_fire(options: dict[str, float], bursts: int) -> None:
    graph, x = graph_and_images()
    names = [site.name for site in graph.sites]
    thresholds = Thresholds(
        {name: torch.tensor([0.5]).double() * bursts for name in names},
        6,
        "given",
        "layer",
        neuron="lif",
        corrections={names[0]: Correction(bias=torch.full((3,), 0.125).double())},
        bursts=dict.fromkeys(names, bursts) if bursts > 1 else {},
    )
    model = SpikingModel(graph, thresholds, neuron="lif", steps=6, options=options)
    assert model.executors == ("layers", "steps")
    counts, reference = (model.activity(x, executor=executor) for executor in model.executors)
    assert all(torch.equal(counts[name], reference[name]) for name in names)
    assert all(int(counts[name].sum()) > 0 for name in names)
    assert torch.equal(model(x), model(x, executor="steps"))
    assert torch.equal(model.by_t(x)[-1], model(x))


def test_an_artefact_keeps_the_options(tmp_path: Path) -> None:
    graph, x = graph_and_images()
    thresholds = Thresholds(
        {site.name: torch.tensor([1.5]).double() for site in graph.sites},
        4,
        "given",
        "layer",
        neuron="lif",
        corrections={site.name: Correction(height=torch.tensor([0.75]).double()) for site in graph.sites},
        bursts={site.name: 3 for site in graph.sites},
    )
    model = SpikingModel(graph, thresholds, neuron="lif", steps=4, options=OPTIONS)
    save(tmp_path / "a.snn", model, {"by": "hand"})
    again, about = load(tmp_path / "a.snn")
    assert (again.neuron, again.steps, again.options, about) == ("lif", 4, OPTIONS, {"by": "hand"})
    assert torch.equal(again(x), model(x))
    assert not torch.equal(again(x), SpikingModel(graph, thresholds, neuron="lif", steps=4)(x))


def test_no_network_converts_to_leaky_neurons() -> None:
    graph, _ = graph_and_images()
    thresholds = Thresholds({site.name: torch.ones(1) for site in graph.sites}, None, "given", "layer")
    with pytest.raises(UsageError, match="unknown neuron 'lif': expected one of if, two-phase, tpp"):
        convert(graph, thresholds, neuron="lif")


def test_signed_sites_are_refused() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    graph = prepare(net, torch.randn(2, 1, 8, 8))
    thresholds = Thresholds({site.name: torch.ones(1) for site in graph.sites}, None, "given", "layer")
    with pytest.raises(ModelRefused, match="two-phase"):
        SpikingModel(graph, thresholds, neuron="lif", steps=2)

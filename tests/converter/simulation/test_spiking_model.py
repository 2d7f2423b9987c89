"""The executors against each other, and against the neurons' equations."""

import copy

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.convert import convert
from snnconvert.converter.errors import DataRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE, NEURONS, SHUFFLES, Noise, Place
from snnconvert.converter.simulation import SpikingModel, spiking_model
from snnconvert.converter.thresholds import Thresholds


def thresholds(graph: PreparedGraph, theta: float = 0.5) -> Thresholds:
    return Thresholds(
        {s.name: torch.full((s.channels,), theta).double() for s in graph.sites}, None, "given", "channel"
    )


@pytest.fixture
def graph(network: nn.Module, images: Tensor) -> PreparedGraph:
    return prepare(network, images)


def spiking(graph: PreparedGraph, neuron: str, shuffle: str = "none", steps: int = 8, seed: int = 0) -> SpikingModel:
    return convert(graph, thresholds(graph), neuron=neuron, steps=steps, shuffle=shuffle, seed=seed)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_layers_and_steps_agree_bit_for_bit(graph: PreparedGraph, images: Tensor, neuron: str, shuffle: str) -> None:
    model = spiking(graph, neuron, shuffle)
    reference = model(images, executor="steps")
    assert reference.abs().max() > 0
    assert torch.equal(model(images, executor="layers"), reference)


@pytest.mark.parametrize("steps", [1, 4, 8, 32])
def test_counts_agrees_with_the_step_by_step_reference_bit_for_bit(
    graph: PreparedGraph, images: Tensor, steps: int
) -> None:
    model = spiking(graph, "two-phase", steps=steps)
    assert torch.equal(model(images, executor="counts"), model(images, executor="steps"))


def test_tpp_counts_agrees_in_distribution(graph: PreparedGraph, images: Tensor) -> None:
    model = spiking(graph, "tpp", steps=4)
    many = images[:1].expand(4000, *images.shape[1:])
    fast, slow = model(many, executor="counts"), model(many, executor="layers")
    error = (fast.var(0) + slow.var(0)).div(4000).sqrt()
    assert ((fast.mean(0) - slow.mean(0)).abs() < 4 * error).all()
    assert (fast.var(0) / slow.var(0)).sub(1).abs().max() < 0.2


def test_many_levels_approach_the_ann(graph: PreparedGraph, images: Tensor, network: nn.Module) -> None:
    wide = convert(graph, thresholds(graph, 32.0), neuron="two-phase", steps=2**12)
    assert torch.allclose(wide(images), network(images), atol=0.05)


@pytest.mark.parametrize("executor", ["counts", "layers", "steps"])
@pytest.mark.parametrize("shuffle", ["none", "per-neuron"])
def test_spikes_depend_on_seed_and_image_not_on_the_batch(
    graph: PreparedGraph, images: Tensor, executor: str, shuffle: str
) -> None:
    model = spiking(graph, "tpp", shuffle)
    index = torch.tensor([3, 1, 4, 1, 5])
    whole = model(images, index=index, executor=executor)
    split = [model(images[i : i + 1], index=index[i : i + 1], executor=executor) for i in range(5)]
    assert torch.equal(torch.cat(split), whole)
    assert torch.equal(model(images, index=index, executor=executor), whole)
    assert not torch.equal(spiking(graph, "tpp", shuffle, seed=1)(images, index=index, executor=executor), whole)
    assert not torch.equal(model(images, index=index + 10, executor=executor), whole)


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_a_small_memory_budget_changes_nothing(
    graph: PreparedGraph, images: Tensor, neuron: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = spiking(graph, neuron)
    whole = model(images, executor="layers")
    monkeypatch.setattr(spiking_model, "FEW", 0)
    monkeypatch.setattr(spiking_model, "MEMORY", 1)
    assert torch.equal(model(images, executor="layers"), whole)


def test_by_t_ends_with_the_answer_and_starts_with_one_step(graph: PreparedGraph, images: Tensor) -> None:
    model = spiking(graph, "if")
    curve = model.by_t(images)
    assert curve.shape == (8, 5, 5)
    assert torch.equal(curve[-1], model(images))
    one = spiking(graph, "if", steps=1)
    assert torch.equal(curve[0], one(images))


@pytest.mark.parametrize(("neuron", "shuffle"), [("tpp", "none"), ("if", "shared")])
def test_by_t_is_refused_where_there_is_no_answer_at_every_step(
    graph: PreparedGraph, images: Tensor, neuron: str, shuffle: str
) -> None:
    with pytest.raises(UsageError, match="answer once a window"):
        spiking(graph, neuron, shuffle).by_t(images)


def test_latency_is_one_window_for_each_site_on_the_longest_path(graph: PreparedGraph) -> None:
    # Sites: stem, its pooled twin, block, after the add, and the pair that encodes the pool before the head.
    assert graph.depth == 4
    assert spiking(graph, "if").end_to_end_steps == 8
    assert spiking(graph, "two-phase").end_to_end_steps == (4 + 1) * 8
    assert spiking(graph, "if", "shared").end_to_end_steps == (4 + 1) * 8
    assert spiking(graph, "tpp").interval == 8


def test_a_pool_between_a_layer_and_its_site_costs_no_window() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.ReLU(), nn.MaxPool2d(2)).eval()
    graph = prepare(nn.Sequential(model, nn.Flatten(), nn.Linear(8, 2)).eval(), torch.randn(2, 1, 8, 8))
    assert convert(graph, float_thresholds(graph), neuron="two-phase", steps=4).end_to_end_steps == (2 + 1) * 4


def float_thresholds(graph: PreparedGraph) -> Thresholds:
    return Thresholds({s.name: torch.ones(1) for s in graph.sites}, None, "given", "layer")


def test_a_final_activation_is_applied_to_the_window_mean() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU6()).eval()
    graph = prepare(model, torch.randn(2, 3))
    assert any("stays analog" in note for note in graph.notes)
    x = torch.randn(6, 3)
    for neuron in CONVERTIBLE:
        spikes = convert(graph, float_thresholds(graph), neuron=neuron, steps=16)
        assert spikes(x).min() >= 0
        assert torch.allclose(spikes(x, executor="layers"), spikes(x, executor="steps"), atol=1e-6)


def test_shuffling_a_two_phase_network_is_said_to_change_nothing(graph: PreparedGraph, images: Tensor) -> None:
    shuffled = spiking(graph, "two-phase", "per-neuron")
    assert torch.equal(shuffled(images), spiking(graph, "two-phase")(images))
    assert any("cannot change" in note for note in shuffled.describe()["notes"])


def test_shuffling_keeps_counts_and_changes_a_streaming_network(graph: PreparedGraph, images: Tensor) -> None:
    plain = spiking(graph, "if")(images)
    assert not torch.equal(spiking(graph, "if", "shared")(images), plain)
    assert not torch.equal(spiking(graph, "if", "per-neuron")(images), plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neuron": "tp"}, "unknown neuron 'tp'.*did you mean 'tpp'"),
        ({"steps": 0}, "T must be a whole number from 1 to 65536, got 0"),
        ({"shuffle": "all"}, "unknown shuffle"),
        ({"neuron": "tpp", "shift": True}, "belong to integrate-and-fire"),
    ],
)
def test_bad_choices_are_named(graph: PreparedGraph, change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=f"(?s){message}"):
        convert(graph, thresholds(graph), **({"neuron": "if", "steps": 4} | change))  # type: ignore[arg-type]


def test_bad_calls_are_named(graph: PreparedGraph, images: Tensor) -> None:
    with pytest.raises(UsageError, match="counts executor needs two-phase"):
        spiking(graph, "if")(images, executor="counts")
    with pytest.raises(UsageError, match="unknown executor 'count'"):
        spiking(graph, "tpp")(images, executor="count")
    with pytest.raises(DataRefused, match="takes images of shape 1x8x8, got 1x9x9"):
        spiking(graph, "tpp")(torch.zeros(2, 1, 9, 9).double())
    for index in (torch.arange(4), torch.rand(5)):
        with pytest.raises(DataRefused, match="one whole index for each of 5 images"):
            spiking(graph, "tpp")(images, index=index)
    for neuron in CONVERTIBLE:
        with pytest.raises(DataRefused, match="the same number of images, at least one"):
            spiking(graph, neuron)(images[:0], executor="layers")
    with pytest.raises(DataRefused, match=r"takes images of torch.float64, got torch.float32"):
        spiking(graph, "tpp")(images.float())
    with pytest.raises(DataRefused, match="takes images of shape 1x8x8, got ndarray"):
        spiking(graph, "tpp")(images.numpy())
    with pytest.raises(DataRefused, match="takes images of shape 1x8x8, got nothing"):
        spiking(graph, "tpp")()
    seedless = spiking(graph, "tpp")
    seedless.seed = 2**64
    with pytest.raises(UsageError, match="whole number of 64 bits"):
        seedless(images)


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_every_executor_counts_the_same_spikes(
    graph: PreparedGraph, images: Tensor, neuron: str, shuffle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spiking_model, "FEW", 0)
    monkeypatch.setattr(spiking_model, "MEMORY", 40_000)  # a few chunks
    model = spiking(graph, neuron, shuffle)
    reference = model.activity(images, executor="steps")
    assert set(reference) == {site.name for site in graph.sites}
    executors = ["layers"] if neuron == "tpp" else [e for e in model.executors if e != "steps"]
    for executor in executors:
        found = model.activity(images, executor=executor)
        assert all(torch.equal(found[name], reference[name]) for name in reference)
    for site in graph.sites:
        assert reference[site.name].shape == (5, *site.shape)
        assert 0 <= reference[site.name].min() <= reference[site.name].max() <= 8


def test_a_site_in_float32_differs_between_counts_and_steps_only_at_ties() -> None:
    torch.manual_seed(0)
    steps, theta = 32, torch.tensor([0.7])
    neuron = NEURONS["two-phase"](theta, steps, Place(0, 2))
    noise = Noise(0, torch.arange(1))
    currents = torch.randn(steps, 1, 200_000) + 0.4
    potential, spikes = neuron.start(currents[0]), torch.zeros(1, 200_000)
    for current in currents:
        potential = neuron.integrate(potential, current, 0)
    for step in range(steps):
        fired, potential = neuron.fire(potential, step, noise)
        spikes += fired
    counted = neuron.count(currents.mean(0) * steps, noise)
    v = currents.double().sum(0) / theta.double()
    from_tie = (v - 0.5 - (v - 0.5).round()).abs()
    differ = counted != spikes
    assert torch.equal(counted[from_tie > 1e-4], spikes[from_tie > 1e-4])
    assert differ.sum() < 50


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_mixed_precision_around_a_call_changes_no_spike(neuron: str) -> None:
    torch.manual_seed(0)
    graph = prepare(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)), torch.randn(2, 1, 8, 8)
    )
    model, x = convert(graph, float_thresholds(graph), neuron=neuron, steps=4), torch.randn(3, 1, 8, 8)
    expected = model(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(x), expected)
    with pytest.raises(DataRefused, match="too coarse for thresholds"):
        copy.deepcopy(model).half()(x.half())


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_a_copy_made_after_a_run_runs(graph: PreparedGraph, images: Tensor, neuron: str) -> None:
    model = spiking(graph, neuron)
    expected = {executor: model(images, executor=executor) for executor in model.executors}
    twin = copy.deepcopy(model)
    for executor, logits in expected.items():
        assert torch.equal(twin(images, executor=executor), logits)


def test_what_was_converted_cannot_be_changed_by_assignment(graph: PreparedGraph) -> None:
    model = spiking(graph, "if")
    for name, value in (("steps", 16), ("neuron", "tpp"), ("shuffle", "shared")):
        with pytest.raises(AttributeError):
            setattr(model, name, value)

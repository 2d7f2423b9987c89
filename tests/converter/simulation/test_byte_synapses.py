"""Networks whose convolutions read spikes in bytes, against the same networks in floats."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration import Recipe, calibrate
from snnconvert.converter import integer_synapses, native, spike_tables
from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.graph.canonical import attribute
from snnconvert.converter.integer_synapses import IntegerConvolution
from snnconvert.converter.native import Library
from snnconvert.converter.simulation import SpikingModel, byte_synapses
from snnconvert.converter.spike_tables import TableConvolution

pytestmark = pytest.mark.skipif(
    not integer_synapses.available() or native.library().functions is None,
    reason="this processor has no instructions for bytes, or there is no compiler",
)
needs_tables = pytest.mark.skipif(not spike_tables.available(), reason="no AVX-512, or no compiler")


class Net(nn.Module):
    """Convolutions of a site alone, of a site that an add reads too, of a sum, of a pool; grouped and dilated ones."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.a = nn.Conv2d(32, 32, 3, padding=1)
        self.b = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.grouped = nn.Conv2d(32, 32, 5, padding=2, groups=2)
        self.wide = nn.Conv2d(32, 24, 3, padding=2, dilation=2, stride=2)
        self.head = nn.Linear(24, 7)
        for layer in self.children():
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.head.weight.data *= 5  # answers differ from image to image

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (self.b(self.a(x).relu()) + x).relu()
        x = self.grouped(x).relu()
        x = self.wide(x).relu()
        return self.head(nn.functional.avg_pool2d(x, 2).mean((2, 3)))


READS_SPIKES = {"a", "b", "wide"}


@pytest.fixture
def graph() -> PreparedGraph:
    torch.manual_seed(0)
    return prepare(Net().eval(), torch.randn(2, 3, 16, 16))


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(6, 3, 16, 16)


@pytest.fixture
def spiking(graph: PreparedGraph, images: Tensor) -> Callable[..., SpikingModel]:
    def make(neuron: str, steps: int = 8) -> SpikingModel:
        return convert(graph, calibrate(graph, [images], steps=steps), neuron=neuron, steps=steps)

    return make


@pytest.fixture
def floats(monkeypatch: pytest.MonkeyPatch) -> Callable[[SpikingModel], SpikingModel]:
    """Return a copy of a network whose convolutions run in floats."""

    def make(model: SpikingModel) -> SpikingModel:
        with monkeypatch.context() as patch:
            patch.setattr(integer_synapses, "available", lambda: False)
            patch.setattr(spike_tables, "available", lambda: False)
            twin = copy.deepcopy(model)
            assert not twin.network.byte_synapses.sites
            twin.network.counting  # noqa: B018  # made now, while nothing reads bytes
        return twin

    return make


@pytest.fixture
def no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let binary spikes be convolved in whole numbers, as all other counts are."""
    monkeypatch.setattr(spike_tables, "available", lambda: False)


def kinds(model: SpikingModel) -> dict[str, type]:
    return {str(node.meta["path"]): kind for node, kind in model.network.byte_synapses.convolutions.items()}


@needs_tables
def test_convolutions_of_one_sites_binary_spikes_look_them_up(spiking: Callable[..., SpikingModel]) -> None:
    assert kinds(spiking("if")) == dict.fromkeys(READS_SPIKES, TableConvolution)


def test_convolutions_of_one_sites_counts_run_in_whole_numbers(spiking: Callable[..., SpikingModel]) -> None:
    for neuron in ("two-phase", "tpp"):
        assert kinds(spiking(neuron)) == dict.fromkeys(READS_SPIKES, IntegerConvolution)


@pytest.mark.usefixtures("no_tables")
def test_binary_spikes_do_so_where_there_are_no_tables(spiking: Callable[..., SpikingModel]) -> None:
    assert kinds(spiking("if")) == dict.fromkeys(READS_SPIKES, IntegerConvolution)


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
def test_a_sum_with_spikes_in_bytes_is_one_pass_with_the_same_bits(
    neuron: str, spiking: Callable[..., SpikingModel], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = spiking(neuron)
    assert len(model.network.byte_synapses.additions) == 1
    fused, answered = native.values, []

    def watched(*given: Any) -> Tensor | None:
        answered.append(len(given) == 3 and given[2] is not None)
        return fused(*given)

    with monkeypatch.context() as patch:
        patch.setattr(native, "values", watched)
        wanted = model(images)
    assert True in answered
    monkeypatch.setattr(native, "values", lambda *given: None)
    assert torch.equal(model(images), wanted)


def test_small_convolutions_do_not(spiking: Callable[..., SpikingModel], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(byte_synapses, "FEWEST", 32 * 9 + 1)
    assert kinds(spiking("two-phase")) == {}


class Otherwise(nn.Module):
    """A site with its channels last, and a convolution whose stride and padding are numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.along = nn.Linear(8, 32), nn.Conv2d(16, 16, 3)
        self.weight = nn.Parameter(torch.randn(8, 16, 3, 3) / 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.mix(x).relu()
        x = self.along(x).relu()
        return nn.functional.conv2d(x, self.weight, None, 1, 1).mean((2, 3))


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
def test_channels_elsewhere_and_numbers_for_pairs_are_left_to_floats(neuron: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 16, 16, 8)
    graph = prepare(Otherwise().eval(), x)
    thresholds = calibrate(graph, [x], steps=8)
    model = convert(graph, thresholds, neuron=neuron, steps=8)
    assert kinds(model) == {}
    torch.testing.assert_close(model(x), model(x, executor="steps"), rtol=1e-4, atol=1e-5)


def test_one_threshold_for_all_and_a_bias_for_each_step(graph: PreparedGraph, images: Tensor) -> None:
    recipe = Recipe("one", per="layer", corrections=("ftbc",))
    thresholds = calibrate(graph, [images], steps=4, neuron="if", recipe=recipe)
    model = convert(graph, thresholds, neuron="if", steps=4)
    counts, wanted = model.activity(images), model.activity(images, executor="steps")
    different = sum(int((counts[name] != wanted[name]).sum()) for name in counts)
    assert different <= 1e-3 * sum(each.numel() for each in counts.values())


@needs_tables
@pytest.mark.parametrize(("channels", "side"), [(12, 9), (16, 5)])  # no whole bytes; one position
def test_where_tables_do_not_pay_there_are_none(channels: int, side: int) -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(1, channels, 3), nn.ReLU(), nn.Conv2d(channels, 5, 3), nn.ReLU(), nn.Flatten()
    x = torch.randn(4, 1, side, side)
    graph = prepare(nn.Sequential(*layers, nn.Linear(5 * (side - 4) ** 2, 2)).eval(), x)
    model = convert(graph, calibrate(graph, [x], steps=4), neuron="if", steps=4)
    assert kinds(model) == {}
    model(x)


@pytest.mark.parametrize(("neuron", "tables"), [("two-phase", True), ("tpp", True), ("if", True), ("if", False)])
def test_spikes_and_answers_are_those_of_floats_but_for_ties(
    neuron: str,
    tables: bool,
    monkeypatch: pytest.MonkeyPatch,
    spiking: Callable[..., SpikingModel],
    floats: Callable[[SpikingModel], SpikingModel],
    images: Tensor,
) -> None:
    if not tables:
        monkeypatch.setattr(spike_tables, "available", lambda: False)
    model = spiking(neuron)
    twin = floats(model)
    counts, wanted = model.activity(images), twin.activity(images)
    assert counts.keys() == wanted.keys()
    different = sum(int((counts[name] != wanted[name]).sum()) for name in counts)
    assert different <= 1e-3 * sum(each.numel() for each in counts.values())
    assert all(each.dtype == torch.float32 for each in counts.values())
    torch.testing.assert_close(model(images), twin(images), rtol=0.02, atol=0.02)


def test_chunks_and_parts_of_a_batch_change_no_spike(spiking: Callable[..., SpikingModel], images: Tensor) -> None:
    model = spiking("if")
    counts, whole, train = model.activity(images), model(images), model.by_t(images)
    torch.testing.assert_close(train[-1], whole)
    model.memory = 1
    again = model.activity(images)
    assert all(torch.equal(again[name], counts[name]) for name in counts)
    torch.testing.assert_close(model(images), whole)
    torch.testing.assert_close(model.by_t(images), train)


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
def test_weights_and_thresholds_that_change_count_from_then_on(
    neuron: str, spiking: Callable[..., SpikingModel], floats: Callable[[SpikingModel], SpikingModel], images: Tensor
) -> None:
    model, twin = (make(spiking(neuron)) for make in (lambda m: m, floats))
    before = model(images)
    for each in (model, twin):
        (node,) = (n for n in each.body.graph.nodes if n.meta.get("path") == "a")
        with torch.no_grad():
            attribute(each.body, node.args[1].target).mul_(-1.5)
    assert not torch.allclose(model(images), before, atol=0.01)
    torch.testing.assert_close(model(images), twin(images), rtol=0.02, atol=0.02)
    for each in (model, twin):
        (node,) = (n for n in each.body.graph.nodes if n.meta.get("path") == "b")
        owner, _, name = node.args[1].target.rpartition(".")
        setattr(each.body.get_submodule(owner), name, attribute(each.body, node.args[1].target) * 3)
    torch.testing.assert_close(model(images), twin(images), rtol=0.02, atol=0.02)
    for each in (model, twin):
        for population in each.network.neurons.values():
            population.threshold.mul_(2)
    torch.testing.assert_close(model(images), twin(images), rtol=0.02, atol=0.02)


@pytest.mark.usefixtures("no_tables")
@pytest.mark.parametrize("neuron", ["two-phase", "if"])
def test_a_threshold_far_above_the_others_is_computed_in_floats(
    neuron: str, spiking: Callable[..., SpikingModel], floats: Callable[[SpikingModel], SpikingModel], images: Tensor
) -> None:
    model = spiking(neuron)
    for population in model.network.neurons.values():
        population.threshold[0] = 1e6
    counts, wanted = model.activity(images), floats(model).activity(images)
    assert all(torch.equal(counts[name], wanted[name]) for name in counts)


def test_tensors_that_are_made_for_inference_may_change(
    spiking: Callable[..., SpikingModel], floats: Callable[[SpikingModel], SpikingModel], images: Tensor
) -> None:
    with torch.inference_mode():
        model = spiking("two-phase")
        twin = floats(model)
        for each in (model, twin):
            each(images)
            for population in each.network.neurons.values():
                population.threshold.mul_(2)
        assert torch.equal(model(images), twin(images))


@pytest.mark.parametrize("neuron", ["two-phase", "tpp"])
def test_what_is_no_number_comes_through(neuron: str, spiking: Callable[..., SpikingModel], images: Tensor) -> None:
    model = spiking(neuron)
    images[2, 0, 3, 3] = torch.nan
    assert model(images).isnan().any(1).tolist() == [False, False, True, False, False, False]


def test_counts_that_no_byte_holds_stay_floats(
    spiking: Callable[..., SpikingModel], floats: Callable[[SpikingModel], SpikingModel], images: Tensor
) -> None:
    model = spiking("two-phase", 256)
    assert torch.equal(model(images), floats(model)(images))


def test_without_compiled_neurons_everything_is_floats(
    spiking: Callable[..., SpikingModel],
    floats: Callable[[SpikingModel], SpikingModel],
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "library", lambda: Library(None, "switched off"))
    for neuron in ("two-phase", "if"):
        model = spiking(neuron)
        assert torch.equal(model(images), floats(model)(images))


def test_a_copy_runs(spiking: Callable[..., SpikingModel], images: Tensor) -> None:
    for neuron in ("two-phase", "if"):
        model = spiking(neuron)
        wanted = model(images)
        assert torch.equal(copy.deepcopy(model)(images), wanted)

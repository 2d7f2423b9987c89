"""What conversions are known to get wrong without a word: each either works, or is refused with a message."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from snnconvert import calibrate, convert, observe, prepare
from snnconvert.converter.errors import CalibrationRefused, DataRefused, ModelRefused
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.neurons import CONVERTIBLE
from snnconvert.converter.simulation import SpikingModel


class Net(nn.Module):
    """Two convolutions, a batch norm, and a forward pass that is a function of them and the inputs."""

    def __init__(self, function: Callable[..., Tensor], **modules: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function = function
        self.conv, self.again = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.relu, self.fc = nn.BatchNorm2d(4), nn.ReLU(), nn.Linear(4, 3)
        for name, module in modules.items():
            setattr(self, name, module)
        for tensor in (self.norm.running_mean, self.norm.bias):
            nn.init.uniform_(tensor, -0.5, 0.5)  # type: ignore[arg-type]
        for tensor in (self.norm.running_var, self.norm.weight):
            nn.init.uniform_(tensor, 0.5, 3)  # type: ignore[arg-type]

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def plain(net: Any, x: Tensor) -> Tensor:
    h = net.relu(net.norm(net.conv(x)))
    h = net.relu(net.again(h) + h)
    out: Tensor = net.fc(h.mean((2, 3)))
    return out


@pytest.fixture
def images() -> Tensor:
    return torch.randn(12, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def spiking(graph: PreparedGraph, *inputs: Tensor, neuron: str = "two-phase", steps: int = 8) -> SpikingModel:
    return convert(graph, calibrate(graph, [inputs], steps=steps), neuron=neuron, steps=steps)


def check(net: nn.Module, *inputs: Tensor, sites: int) -> SpikingModel:
    """Check that ``net`` has so many sites, that 4096 steps come near it and that one step does not; return it at 8."""
    net.double().eval()
    inputs = tuple(x.double() for x in inputs)
    graph = prepare(net, inputs)
    assert len(graph.sites) == len({site.name for site in graph.sites}) == sites
    with torch.no_grad():
        expected = net(*inputs)
    spread = float(expected.max() - expected.min())
    top = calibrate(graph, [inputs], steps=1, rule="max")
    errors = [
        float((convert(graph, top, neuron="two-phase", steps=steps)(*inputs) - expected).abs().max())
        for steps in (1, 4096)
    ]
    assert errors[0] > 0.02 * spread  # neurons that fire: an ANN in disguise would be exact
    assert errors[1] < 0.005 * spread
    found = spiking(graph, *inputs, neuron="if")
    assert torch.allclose(found(*inputs, executor="layers"), found(*inputs, executor="steps"), atol=1e-9)
    return found


def test_shared_conv_and_batch_norm_called_twice(images: Tensor) -> None:
    def twice(net: Any, x: Tensor) -> Tensor:
        h = net.conv(x).relu()
        for _ in range(2):
            h = net.norm(net.again(h)).relu()
        out: Tensor = net.fc(h.mean((2, 3)))
        return out

    check(Net(twice), images, sites=3)


def test_a_reused_relu_module_has_a_membrane_for_each_call(images: Tensor) -> None:
    model = check(Net(plain), images, sites=2)
    assert [site.name for site in model.graph.sites] == ["relu", "relu#2"]
    first, second = model.neurons.values()
    assert first is not second
    assert not torch.equal(first.threshold, second.threshold)


def test_a_functional_relu_spikes(images: Tensor) -> None:
    def functional(net: Any, x: Tensor) -> Tensor:
        h = F.relu(net.conv(x), inplace=True)
        out: Tensor = net.fc(torch.relu(net.again(h)).mean((2, 3)))
        return out

    check(Net(functional), images, sites=2)


class Louder(nn.ReLU):
    """A ReLU that is none: its output is twice as large."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


@pytest.mark.parametrize("kind", [type("Renamed", (nn.ReLU,), {}), Louder])
def test_a_subclass_of_relu_does_what_its_code_says(images: Tensor, kind: type[nn.Module]) -> None:
    check(Net(plain, relu=kind()), images, sites=2)


def test_in_place_dropout_does_nothing(images: Tensor) -> None:
    def dropped(net: Any, x: Tensor) -> Tensor:
        h = net.drop(net.conv(x).relu())
        h = F.dropout(net.again(h).relu(), 0.5, net.training, inplace=True)
        out: Tensor = net.fc(net.drop(h.mean((2, 3))))
        return out

    check(Net(dropped, drop=nn.Dropout(0.5, inplace=True)), images, sites=2)


def test_a_quantile_over_thirty_million_activations() -> None:
    # 75 images of 8 channels of 224 x 224 numbers: every channel holds 0.5, 1.5, 2.5, ... over 50,176, in any order
    pixels = (torch.randperm(224**2).reshape(1, 1, 224, 224) + 0.5) / 224**2
    model = nn.Sequential(nn.Conv2d(1, 8, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(8, 2)).eval()
    nn.init.constant_(model[0].weight, 1.0)
    graph = prepare(model, pixels)
    found = observe(graph, (pixels.expand(5, -1, -1, -1) for _ in range(15)))
    assert int(found.histograms["1"].counts.sum()) == 75 * 8 * 224**2 > 30_000_000
    for per in ("channel", "layer"):
        thresholds = found.thresholds(graph, steps=8, rule="percentile", per=per)
        assert (thresholds.values["1"] - 0.999).abs().max() < 1 / 1024


def test_two_inputs_reach_the_network(images: Tensor) -> None:
    def both(net: Any, x: Tensor, y: Tensor) -> Tensor:
        out: Tensor = net.fc(net.again((net.conv(x) - net.conv(y)).relu()).relu().mean((2, 3)))
        return out

    model = check(Net(both), images, images.flip(0) * 0.5, sites=2)
    loader = DataLoader(TensorDataset(images.double(), images.double().flip(0) * 0.5, torch.arange(12)), batch_size=5)
    again = calibrate(model.graph, loader, steps=8)
    for name, theta in model.thresholds.values.items():
        assert torch.allclose(again.values[name], theta, rtol=0.02)


def test_a_data_dependent_branch_is_refused_with_its_line(images: Tensor) -> None:
    def branch(net: Any, x: Tensor) -> Tensor:
        h = net.conv(x).relu()
        if h.sum() > 0:
            h = 2 * h
        return plain(net, h)

    with pytest.raises(ModelRefused) as refused:
        prepare(Net(branch).eval(), images)
    line = branch.__code__.co_firstlineno + 2
    assert f"{__file__}:{line}" in str(refused.value)
    assert refused.value.exit_code == 3


def test_an_empty_loader_is_refused(images: Tensor) -> None:
    graph = prepare(Net(plain).eval(), images)
    loader = DataLoader(TensorDataset(images[:0], torch.arange(0)), batch_size=4)
    with pytest.raises(CalibrationRefused, match="hold no image"):
        calibrate(graph, loader, steps=8)
    used = iter(DataLoader(TensorDataset(images), batch_size=4))
    calibrate(graph, used, steps=8)
    with pytest.raises(CalibrationRefused, match="hold no image"):
        calibrate(graph, used, steps=8)  # an iterator that was read before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_half_precision_becomes_one_in_single(images: Tensor, dtype: torch.dtype) -> None:
    net = Net(plain).eval().to(dtype)
    found = spiking(prepare(net, images.to(dtype)), images)
    single = copy.deepcopy(net).float()
    expected = spiking(prepare(single, images.to(dtype).float()), images)
    assert found(images).dtype == torch.float32
    assert torch.equal(found(images), expected(images))
    assert next(net.parameters()).dtype == dtype


def test_a_model_in_double_precision_stays_so(images: Tensor) -> None:
    x = images.double()
    model = spiking(prepare(Net(plain).eval().double(), x), x)
    assert model(x).dtype == torch.float64
    assert {b.dtype for b in model.buffers() if b.is_floating_point()} == {torch.float64}


def test_moving_a_converted_network(images: Tensor) -> None:
    net = Net(plain).eval()
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.copy_((tensor * 8).round() / 8)
        net.norm.running_var.fill_(1.0)
    x = (images * 8).round() / 8
    model = spiking(prepare(net, x), x)
    expected = model.activity(x)
    double = copy.deepcopy(model).double()
    assert double(x.double()).dtype == torch.float64
    for name, counts in double.activity(x.double()).items():
        assert (counts != expected[name]).double().mean() < 1e-3  # rounding at ties
    back = double.float()
    assert torch.equal(back(x), model(x))
    assert torch.equal(copy.deepcopy(model).to("cpu")(x), model(x))
    with pytest.raises(DataRefused, match=r"in torch\.float16, too coarse for thresholds .*\nhint: call \.float\(\)"):
        copy.deepcopy(model).to(torch.float16)(x.half())
    with pytest.raises(DataRefused, match=r"takes images of torch\.float32, got torch\.float64"):
        model(x.double())
    with pytest.raises(DataRefused, match="the network lies on cpu, the images on meta"):
        model(x.to("meta"))


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_a_forgotten_reset_and_a_changing_batch_size(images: Tensor, neuron: str) -> None:
    x = images.double()
    model = spiking(prepare(Net(plain).eval().double(), x), x, neuron=neuron)
    for executor in model.executors:
        alone = [model(image[None], index=torch.tensor([i]), executor=executor) for i, image in enumerate(x)]
        for size in (3, 5, 3, 12):
            found = model(x[:size], executor=executor)
            assert torch.allclose(found, torch.cat(alone[:size]), atol=1e-12)
            assert torch.equal(model(x[:size], executor=executor), found)


def test_the_model_is_left_untouched(images: Tensor) -> None:
    net = Net(plain, drop=nn.Dropout(0.5))
    net.again.eval(), net.fc.weight.requires_grad_(False)  # a state that is not the same everywhere
    handle = net.relu.register_forward_hook(lambda *_: None)
    net(images).sum().backward()

    def state() -> dict[str, Any]:
        return {
            "modules": [(name, type(m), m.training, list(m._forward_hooks)) for name, m in net.named_modules()],
            "identity": [id(p) for p in net.parameters()],
            "requires_grad": [p.requires_grad for p in net.parameters()],
        }

    before, tensors = state(), copy.deepcopy(net.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    expected = copy.deepcopy(net).eval()(images)
    for neuron in CONVERTIBLE:
        spiking(prepare(net, images), images, neuron=neuron)(images)
    assert state() == before
    assert handle.id in net.relu._forward_hooks
    assert list(net.state_dict()) == list(tensors)
    assert all(torch.equal(value, tensors[name]) for name, value in net.state_dict().items())
    for parameter, gradient in zip(net.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]
    assert torch.equal(net.eval()(images), expected)


def test_a_layer_that_is_always_zero_is_refused_by_name(images: Tensor) -> None:
    net = Net(plain).eval()
    nn.init.constant_(net.norm.weight, 0.0)
    nn.init.constant_(net.norm.bias, -1.0)
    graph = prepare(net, images)
    with pytest.raises(CalibrationRefused, match=r"no activation above zero, and so no threshold, at relu\n"):
        observe(graph, [images])


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_outputs_do_not_require_grad(images: Tensor, neuron: str) -> None:
    net = Net(plain).eval()
    model = spiking(prepare(net, images), images, neuron=neuron)
    assert net(images).requires_grad
    for executor in model.executors:
        assert not model(images.clone().requires_grad_(), executor=executor).requires_grad
    assert not any(tensor.requires_grad for tensor in (*model.parameters(), *model.buffers()))


@pytest.mark.parametrize("size", [1, (2, None), 3])
def test_functional_adaptive_average_pooling(images: Tensor, size: Any) -> None:
    def pooled(net: Any, x: Tensor) -> Tensor:
        h = F.adaptive_avg_pool2d(net.conv(x).relu(), size)
        out: Tensor = net.fc(net.again(h).relu().mean((2, 3)))
        return out

    check(Net(pooled), images, sites=2)


def test_an_activation_inside_the_last_layer(images: Tensor) -> None:
    def headed(net: Any, x: Tensor) -> Tensor:
        out: Tensor = net.head(net.conv(x).relu().mean((2, 3)))
        return out

    head = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    check(Net(headed, head=head), images, sites=2)
    model = check(Net(headed, head=nn.Sequential(*head, nn.ReLU())), images, sites=2)
    assert model(images.double()).min() == 0  # the one at the very end acts on the mean of the window
    assert any("stays analog" in note for note in model.graph.notes)

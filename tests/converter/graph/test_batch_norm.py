"""Batch norm folded or kept: always what torch computes, in float64, with and without statistics kept for later."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.graph.operations import OPERATIONS


def functions(graph: PreparedGraph) -> list[str]:
    return [OPERATIONS[n.target].name for n in graph.module.graph.nodes if n.op == "call_function"]


def notes(graph: PreparedGraph, text: str) -> bool:
    return any(text in note for note in graph.notes)


FOLDS: dict[str, tuple[nn.Module, nn.Module, tuple[int, ...]]] = {
    "conv1d": (nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), (4, 9)),
    "conv2d": (nn.Conv2d(4, 6, 3, bias=False), nn.BatchNorm2d(6), (4, 7, 7)),
    "grouped conv2d": (nn.Conv2d(4, 6, 3, groups=2, stride=2), nn.BatchNorm2d(6), (4, 7, 7)),
    "depthwise conv2d": (nn.Conv2d(4, 8, 3, groups=4, dilation=2), nn.BatchNorm2d(8), (4, 7, 7)),
    "circular conv2d": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(6), (4, 5, 5)),
    "conv3d": (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), (2, 4, 4, 4)),
    "linear": (nn.Linear(4, 6), nn.BatchNorm1d(6), (4,)),
    "linear without bias": (nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), (4,)),
    "conv_transpose1d": (nn.ConvTranspose1d(4, 6, 3), nn.BatchNorm1d(6), (4, 5)),
    "conv_transpose2d": (nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), (4, 5, 5)),
    "conv_transpose3d": (nn.ConvTranspose3d(2, 3, 2, bias=False), nn.BatchNorm3d(3), (2, 3, 3, 3)),
    "no affine": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), (4, 5, 5)),
    "large eps": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, eps=0.5), (4, 5, 5)),
    "tiny eps": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, eps=1e-12), (4, 5, 5)),
    "subclass": (nn.Conv2d(4, 6, 3), type("MyNorm", (nn.BatchNorm2d,), {})(6), (4, 5, 5)),
    "no momentum": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, momentum=None), (4, 5, 5)),
    "synchronised": (nn.Conv2d(4, 6, 3), nn.SyncBatchNorm(6), (4, 5, 5)),
}
KEPT: dict[str, tuple[nn.Module, nn.Module, tuple[int, ...]]] = {
    "grouped conv_transpose2d": (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (4, 5, 5)),
    "linear over a sequence": (nn.Linear(4, 6), nn.BatchNorm1d(3), (3, 4)),
    "padding": (nn.ZeroPad2d(1), nn.BatchNorm2d(4), (4, 5, 5)),
    "average pool": (nn.AvgPool2d(2), nn.BatchNorm2d(4), (4, 6, 6)),
    "activation": (nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), nn.BatchNorm2d(4), (4, 5, 5)),
    "the input": (nn.Identity(), nn.BatchNorm2d(4, affine=False), (4, 5, 5)),
}


def sequence(name: str, layer: nn.Module, norm: nn.Module, network: Any) -> nn.Module:
    return network(lambda m, x: m.relu(m.norm(m.layer(x))) * 2, layer=layer, norm=norm)


@pytest.mark.parametrize("name", FOLDS)
def test_it_folds_into_the_layer_before(network: Any, converts: Any, name: str) -> None:
    layer, norm, shape = FOLDS[name]
    model = sequence(name, layer, norm, network)
    graph = converts(model, torch.randn(3, *shape).double())
    assert "mul" not in functions(graph)[:-1]
    assert "add" not in functions(graph)
    assert notes(graph, "1 batch norm folded into the layer before")


@pytest.mark.parametrize("name", KEPT)
def test_it_stays_as_one_multiplication_and_addition(network: Any, converts: Any, name: str) -> None:
    layer, norm, shape = KEPT[name]
    graph = converts(sequence(name, layer, norm, network), torch.randn(3, *shape).double())
    assert functions(graph)[-3:] == ["mul", "add", "mul"]
    assert notes(graph, "1 batch norm kept as a multiplication and an addition per channel")


def test_the_statistics_are_remembered(network: Any, images: Tensor) -> None:
    model = network(
        lambda m, x: m.head(m.relu(m.plain(m.relu(m.norm(m.conv(x))) + 1))),
        norm=nn.BatchNorm2d(4),
        plain=nn.BatchNorm2d(4, affine=False),
    )
    graph = prepare(model, images).module.graph
    (mean, deviation), (zero, one) = (n.meta["gaussian"] for n in graph.nodes if "gaussian" in n.meta)
    assert torch.equal(mean, model.norm.bias)
    assert torch.equal(deviation, model.norm.weight.abs())
    assert zero.tolist() == [0] * 4
    assert one.tolist() == [1] * 4
    convolution = next(n for n in graph.nodes if n.target is F.conv2d)
    assert "gaussian" in convolution.meta


def test_the_statistics_are_those_of_the_normalised_signal() -> None:
    torch.manual_seed(0)
    norm, data = nn.BatchNorm1d(4, momentum=1.0).double(), torch.randn(5000, 3).double()
    nn.init.uniform_(norm.weight, -2, 2)
    nn.init.uniform_(norm.bias, -2, 2)
    model = nn.Sequential(nn.Linear(3, 4).double(), norm, nn.ReLU(), nn.Linear(4, 2).double())
    model(data)  # training mode: the running statistics are those of this data
    graph = prepare(model, data[:4]).module.graph
    mean, deviation = next(n.meta["gaussian"] for n in graph.nodes if "gaussian" in n.meta)
    found = model.eval()[:2](data)
    assert torch.allclose(found.mean(0), mean, atol=1e-6)
    assert torch.allclose(found.std(0), deviation, rtol=1e-3)


def test_shared_layers_fold_once_for_each_call(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        for _ in range(3):
            x = m.relu(m.norm(m.shared(x)))
        return m.shared(x)

    model = network(forward, shared=nn.Conv2d(3, 3, 3, padding=1), norm=nn.BatchNorm2d(3))
    graph = converts(model, images)
    assert functions(graph) == ["conv2d"] * 4
    assert notes(graph, "3 batch norms folded")


def test_a_shared_batch_norm_folds_into_each_layer(network: Any, images: Tensor, converts: Any) -> None:
    model = network(lambda m, x: m.head(m.relu(m.norm(m.conv2(m.relu(m.norm(m.conv(x))))))), norm=nn.BatchNorm2d(4))
    assert functions(converts(model, images)) == ["conv2d", "conv2d", "mean", "linear"]


def after_two_readers(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    return m.head(m.relu(m.norm(h)) + m.relu(h))


def after_an_add(m: Any, x: Tensor) -> Tensor:
    return m.head(m.relu(m.norm(m.conv(x) + x.mean(1, keepdim=True))))


def after_a_concat(m: Any, x: Tensor) -> Tensor:
    return m.head(m.relu(m.norm(torch.cat([m.conv(x)[:, :1], x], 1))))


def twice(m: Any, x: Tensor) -> Tensor:
    return m.head(m.relu(m.norm(m.norm(m.conv(x)))))


def with_the_same_output(m: Any, x: Tensor) -> Any:
    h = m.conv(x)
    return m.head(m.relu(m.norm(h))), h


@pytest.mark.parametrize(
    ("forward", "kept", "folded"),
    [
        (after_two_readers, 1, 0),
        (after_an_add, 1, 0),
        (after_a_concat, 1, 0),
        (twice, 0, 2),
        (with_the_same_output, 1, 0),
    ],
)
def test_where_it_folds_depends_on_who_reads_the_layer(
    network: Any, images: Tensor, converts: Any, forward: Any, kept: int, folded: int
) -> None:
    graph = converts(network(forward, norm=nn.BatchNorm2d(4)), images)
    assert functions(graph).count("mul") == kept
    assert notes(graph, f"{folded} batch norm") == bool(folded)


@pytest.mark.parametrize(
    "call",
    [
        lambda n, x: F.batch_norm(x, n.running_mean, n.running_var, n.weight, n.bias, False, 0.1, 0.2),
        lambda n, x: F.batch_norm(x, n.running_mean, n.running_var, eps=0.2),
        lambda n, x: F.batch_norm(input=x, running_mean=n.running_mean, running_var=n.running_var, bias=n.bias),
        lambda n, x: F.batch_norm(x, n.running_mean * 2, n.running_var + 1, n.weight.abs()),
    ],
)
def test_functional_batch_norm(network: Any, images: Tensor, converts: Any, call: Any) -> None:
    model = network(lambda m, x: m.head(m.relu(call(m.norm, m.conv(x)))), norm=nn.BatchNorm2d(4))
    assert functions(converts(model, images)) == ["conv2d", "mean", "linear"]


def test_named_arguments_of_the_layer_keep_it_apart(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.head(m.relu(m.norm(F.conv2d(x, weight=m.conv.weight, bias=m.conv.bias))))

    assert functions(converts(network(forward, norm=nn.BatchNorm2d(4)), images))[:3] == ["conv2d", "mul", "add"]


def test_statistics_of_the_batch_are_refused(network: Any, images: Tensor) -> None:
    norms = nn.ModuleDict({"first": nn.BatchNorm2d(4, track_running_stats=False)})
    with pytest.raises(ModelRefused, match=r"norms.first: batch norm keeps no running statistics"):
        prepare(network(lambda m, x: m.head(m.relu(m.norms["first"](m.conv(x)))), norms=norms), images)
    for call in (
        lambda n, x: F.batch_norm(x, n.running_mean, n.running_var, training=True),
        lambda n, x: F.batch_norm(x, None, None, training=True),
    ):
        with pytest.raises(ModelRefused, match=r"batch norm at .*:\d+ uses the statistics of its batch"):
            prepare(network(lambda m, x, c=call: m.relu(c(m.norm, x)) * 2, norm=nn.BatchNorm2d(3)), images)


def test_weights_that_depend_on_the_input_are_refused(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        gain = x.mean((0, 2, 3))
        return m.relu(F.batch_norm(x, m.norm.running_mean, m.norm.running_var, weight=gain))

    with pytest.raises(ModelRefused, match=r"batch norm at .*:\d+ has weights or statistics that depend on the input"):
        prepare(network(forward, norm=nn.BatchNorm2d(3)), images)


def test_timm_batch_norm_with_activation(network: Any, images: Tensor, converts: Any) -> None:
    from snnconvert.converter.errors import SnnconvertError
    from snnconvert.model_zoo.libraries import timm

    try:
        layers = timm().layers
    except SnnconvertError as error:
        pytest.skip(str(error))
    model = network(lambda m, x: m.head(m.norm(m.conv(x))), norm=layers.BatchNormAct2d(4))
    graph = converts(model, images)
    assert [s.name for s in graph.sites] == ["norm.act"]
    assert functions(graph) == ["conv2d", "mean", "linear"]

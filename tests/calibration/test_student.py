"""The student against the spiking network that it stands for, and its losses and gradients by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import entropy
from torch import Tensor, fx, nn

from snnconvert.calibration.settings import LEARNED, SCOPES, Settings
from snnconvert.calibration.side_by_side import activations
from snnconvert.calibration.straight_through import rounded, straight_through
from snnconvert.calibration.streaming_student import StreamingStudent
from snnconvert.calibration.student import Student, divergence, ends
from snnconvert.converter.convert import convert
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.graph.sites import site_of
from snnconvert.converter.neurons import CONVERTIBLE, Correction
from snnconvert.converter.thresholds import Thresholds


class Residual(nn.Module):
    """A stem, two blocks with shortcuts, and a capped head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(1 if i == 0 else 3, 3, 3, padding=1) for i in range(5))
        self.wide, self.head = nn.Linear(3, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.layers[0](x))
        for i in (1, 3):
            h = F.relu(self.layers[i + 1](F.relu(self.layers[i](h))) + h)
        return self.head(F.relu6(self.wide(h.mean((2, 3)))))


class Signed(nn.Module):
    """A site of both signs, one of tokens, and one thing that is said beside the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, None, dict[str, Tensor]]:
        h = F.relu(self.b(F.gelu(self.a(x.flatten(1, 2)))))
        return self.head(h.mean(1)), None, {"tokens": self.head(h)}


NETWORKS: dict[str, Callable[[], nn.Module]] = {"residual": Residual, "signed": Signed}
Below = Callable[[PreparedGraph, Tensor, int], Thresholds]


def prepared(name: str) -> PreparedGraph:
    torch.manual_seed(0)
    return prepare(NETWORKS[name]().double().eval(), torch.randn(2, 1, 6, 6).double())


def corrected(graph: PreparedGraph, thresholds: Thresholds, seed: int = 0) -> Thresholds:
    """Return ``thresholds`` with every kind of correction and with other weights."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw).double()

    found = {}
    for number, site in enumerate(graph.sites):
        bias = 0.02 * random(*((4,) if number % 2 else ()), site.channels)
        start = 0.2 * (random(site.channels) if number % 2 else random(*site.shape))
        found[site.name] = Correction(bias, start, thresholds.values[site.name] * (1 + 0.1 * random(site.channels)))
    weights = {n: b + 0.02 * random(*b.shape) for n, b in graph.module.named_buffers() if "head" not in n}
    return replace(thresholds, corrections=found, weights=weights)


def student(graph: PreparedGraph, thresholds: Thresholds, neuron: str, **settings: Any) -> Student:
    few = {"iterations": 1, "mixed": False}  # so few that nothing is compiled
    kind = StreamingStudent if neuron == "if" else Student
    return kind(graph, thresholds, neuron, Settings(**few | settings), {})


def leaves(output: Any) -> list[Tensor]:
    return [x for x in torch.utils._pytree.tree_leaves(output) if x is not None]


CASES = [("residual", "if"), ("residual", "two-phase"), ("signed", "two-phase")]


@pytest.mark.parametrize("given", ["plain", "corrected"])
@pytest.mark.parametrize(("name", "neuron"), CASES)
def test_it_says_what_the_spiking_network_says(
    name: str, neuron: str, given: str, many: Tensor, below_maximum: Below
) -> None:
    graph, x = prepared(name), many[:20].double()
    thresholds = below_maximum(graph, x, 4)
    thresholds = corrected(graph, thresholds) if given == "corrected" else thresholds
    model, found = convert(graph, thresholds, neuron=neuron, steps=4), student(graph, thresholds, neuron)
    for f, e in zip(leaves(found.run(x)), leaves(model(x)), strict=True):
        assert torch.allclose(f, e, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_of_tpp_it_draws_counts(name: str, many: Tensor, below_maximum: Below) -> None:
    graph, x = prepared(name), many[:1].double().expand(3000, 1, 6, 6)
    thresholds = corrected(graph, below_maximum(graph, many[:20].double(), 4))
    found = leaves(student(graph, thresholds, "tpp").run(x))[0].detach()
    expected = leaves(convert(graph, thresholds, neuron="tpp", steps=4)(x))[0]
    error = (found.var(0) + expected.var(0)).div(3000).sqrt()
    assert ((found.mean(0) - expected.mean(0)).abs() < 4 * error).all()
    assert (found.std(0) / expected.std(0) - 1).abs().max() < 0.2


@pytest.mark.parametrize("neuron", CONVERTIBLE)
@pytest.mark.parametrize("learn", [("threshold",), ("bias",), ("weight",), LEARNED])
def test_before_the_first_step_nothing_has_changed(
    learn: tuple[str, ...], neuron: str, many: Tensor, below_maximum: Below
) -> None:
    graph, x = prepared("residual"), many[:20].double()
    given = replace(corrected(graph, below_maximum(graph, x, 4)), neuron=neuron)
    found = student(graph, given, neuron, learn=learn).thresholds()
    found.check(graph, 4, neuron)
    for name, theta in given.values.items():
        assert torch.allclose(found.values[name], theta, rtol=1e-12)
        found_correction, exact = found.corrections[name], {"potential"}
        if "threshold" not in learn:
            assert torch.equal(found.values[name], theta)
            exact.add("height")
        if "bias" not in learn:
            exact.add("bias")
        for kind, value in given.corrections[name]._asdict().items():
            assert torch.allclose(getattr(found_correction, kind), value, rtol=1e-9)
            assert kind not in exact or torch.equal(getattr(found_correction, kind), value)
    for name, weight in given.weights.items():
        assert torch.equal(found.weights[name], weight)


def test_without_biases_to_learn_there_are_none(many: Tensor, below_maximum: Below) -> None:
    graph = prepared("residual")
    thresholds = below_maximum(graph, many[:20].double(), 4)
    for found in student(graph, thresholds, "if", learn=("threshold",)).thresholds().corrections.values():
        assert found == Correction()
    for correction in student(graph, thresholds, "if").thresholds().corrections.values():
        assert correction.bias is not None
        assert not correction.bias.any()


@pytest.fixture
def one() -> tuple[PreparedGraph, Tensor, Thresholds]:
    """Return a network of one site, images that are its currents, and thresholds with a bias and a potential."""
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.ReLU(), nn.Linear(3, 2, bias=False)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(3))
        model[2].weight.fill_(1.0)
    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(4)).double()
    given = Correction(torch.tensor([0.1, -0.05, 0.2]).double(), torch.tensor([0.3, 0.0, -0.2]).double())
    theta = {"1": torch.tensor([0.7, 1.3, 2.0]).double()}
    return prepare(model, x), x, Thresholds(theta, 4, "given", "channel", corrections={"1": given})


def test_gradients_reach_thresholds_biases_and_weights(one: tuple[PreparedGraph, Tensor, Thresholds]) -> None:
    graph, x, thresholds = one
    found = student(graph, thresholds, "two-phase")
    found.run(x).sum().backward()  # each neuron counts twice
    theta, correction = thresholds.values["1"].numpy(), thresholds.corrections["1"]
    bias, start = correction.bias.numpy(), correction.potential.numpy()  # type: ignore[union-attr]
    v = (x.numpy() + bias) * 4 / theta + start
    inside, count = (v > 0) & (v < 4), np.floor(v + 0.5).clip(0, 4)
    of_theta = 2 * (count / 4 - inside * (x.numpy() + bias) / theta).sum(0)
    assert np.allclose(found.log_threshold["site_0"].grad, theta * of_theta, atol=1e-10)  # type: ignore[arg-type]
    assert np.allclose(found.shift["site_0"].grad, theta * 2 * inside.sum(0), atol=1e-10)  # type: ignore[arg-type]
    weights = [found.weights[name].grad for name in ("_0_weight_value", "_2_weight_value")]
    assert np.allclose(weights[0], 2 * inside.T @ x.numpy(), atol=1e-10)  # type: ignore[arg-type]
    assert np.allclose(weights[1], np.tile((theta * count / 4).sum(0), (2, 1)), atol=1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
@pytest.mark.parametrize("learn", LEARNED)
def test_only_what_is_learned_has_gradients(
    one: tuple[PreparedGraph, Tensor, Thresholds], learn: str, neuron: str
) -> None:
    graph, x, thresholds = one
    found = student(graph, thresholds, neuron, learn=(learn,))
    found.loss((x,)).backward()
    groups = {"threshold": found.log_threshold, "bias": found.shift, "weight": found.weights}
    for name, tensors in groups.items():
        for tensor in tensors.values():
            assert (tensor.grad is not None) == (name == learn)
    assert [p for group in found.groups() for p in group["params"]] == list(groups[learn].values())


def test_gradients_of_a_layer_are_those_of_its_own_loss(
    net: Any, graph: PreparedGraph, thresholds: Thresholds, many: Tensor
) -> None:
    x, found = many[:30], student(graph, thresholds, "two-phase", scope="layer")
    found.loss((x,)).backward()
    weight, a = net.conv.weight.detach().clone().requires_grad_(), F.relu(net.conv(x)).detach()
    theta = thresholds.values[graph.sites[0].name][:, None, None]
    z = F.conv2d(x, weight, net.conv.bias.detach(), padding=1)
    out = straight_through(z, torch.zeros(1), theta, theta, fire=rounded, most=4)
    ((out - a).square().mean() / a.square().mean() / 2).backward()  # the mean over two sites
    assert torch.allclose(found.weights["conv_weight_value"].grad, weight.grad, atol=1e-6)  # type: ignore[arg-type]


def test_the_loss_of_a_network_is_the_divergence_of_its_outputs(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor
) -> None:
    x = many[:30]
    with torch.no_grad():
        teacher, model = graph.module(x).softmax(1), convert(graph, thresholds, neuron="two-phase", steps=4)
    expected = entropy(teacher.numpy(), model(x).softmax(1).numpy(), axis=1).mean()
    losses = {scope: student(graph, thresholds, "two-phase", scope=scope).loss((x,)).item() for scope in SCOPES}
    assert losses["network"] == pytest.approx(expected, rel=1e-3)
    softer = [(m(x) / 3).softmax(1).detach().numpy() for m in (graph.module, model)]
    warm = student(graph, thresholds, "two-phase", temperature=3.0).loss((x,)).item()
    assert warm == pytest.approx(9 * entropy(*softer, axis=1).mean(), rel=1e-3)
    errors = []
    for child, (_, activation) in activations(graph, (x,))[1].items():
        site = graph.module.get_submodule(child)
        sent = model.activity(x)[site.name] * model.neurons[child].height / 4  # type: ignore[index, operator]
        errors.append(float((sent - activation).square().mean() / activation.square().mean()))
    assert losses["layer"] == losses["block"] == pytest.approx(expected + sum(errors) / 2, rel=1e-3)
    hinted = {scope: student(graph, thresholds, "two-phase", scope=scope, hint=7.0).loss((x,)) for scope in SCOPES}
    assert hinted["network"].item() == pytest.approx(expected + 7 * sum(errors) / 2, rel=1e-3)
    assert hinted["layer"].item() == losses["layer"]  # each of its sites learns by itself


def test_hints_of_all_later_sites_reach_a_weight(
    net: Any, graph: PreparedGraph, thresholds: Thresholds, many: Tensor
) -> None:
    x, gradients = many[:30], []
    for hint in (0.0, 7.0):
        found = student(graph, thresholds, "two-phase", hint=hint)
        found.loss((x,)).backward()
        gradients.append(found.weights["conv_weight_value"].grad)
    first, second = (thresholds.values[site.name] for site in graph.sites)
    weight = net.conv.weight.detach().clone().requires_grad_()

    def fired(z: Tensor, theta: Tensor) -> Tensor:
        return straight_through(z, torch.zeros(1), theta, theta, fire=rounded, most=4)

    def error(sent: Tensor, a: Tensor) -> Tensor:
        return (sent - a.detach()).square().mean() / a.detach().square().mean()

    one = net.conv(x).relu()
    sent = fired(F.conv2d(x, weight, net.conv.bias.detach(), padding=1), first[:, None, None])
    hidden, a = fired(net.hidden(sent.flatten(1)), second), net.hidden(one.flatten(1)).relu()
    (7 * (error(sent, one) + error(hidden, a)) / 2).backward()
    assert torch.allclose(gradients[1] - gradients[0], weight.grad, atol=1e-6)  # type: ignore[operator, arg-type]


def test_divergences_are_those_of_scipy_and_numpy() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 4).double()
    expected = entropy(b.softmax(1).numpy(), a.softmax(1).numpy(), axis=1).mean()
    assert float(divergence(a, b)) == pytest.approx(expected)
    for shape in ((5, 1), (20,), (5, 2, 2), (1, 5, 2, 2)):
        one, two = torch.randn(2, *shape).double()
        expected = ((one - two).numpy() ** 2).mean() / (two.numpy() ** 2).mean()
        assert float(divergence(one, two)) == pytest.approx(expected)
    assert float(divergence(torch.zeros(5, 1), torch.zeros(5, 1))) == 0
    a, b = torch.randn(2, 5, 4).double()
    expected = 9 * entropy((b / 3).softmax(1).numpy(), (a / 3).softmax(1).numpy(), axis=1).mean()
    assert float(divergence(a, b, temperature=3.0)) == pytest.approx(expected)


def on_every_path(graph: fx.Graph, node: fx.Node) -> bool:
    """Return whether without ``node`` nothing of an input reaches the output."""
    reached = {n for n in graph.nodes if n.op == "placeholder"}
    for n in graph.nodes:
        if n is not node and any(source in reached for source in n.all_input_nodes):
            reached.add(n)
    return not any(n.op == "output" for n in reached)


def test_ends_of_a_residual_network_by_hand() -> None:
    module = prepared("residual").module
    # stem, block 1 (inner, after the add), block 2 (the same), head
    assert ends(module.graph, "layer") == {f"site_{i}" for i in range(6)}
    assert ends(module.graph, "block") == {"site_0", "site_2", "site_4", "site_5"}
    assert ends(module.graph, "network") == set()


class Dense(nn.Module):
    """What is concatenated stays alive, and so does an image that the output repeats."""

    def __init__(self, repeat: bool) -> None:
        super().__init__()
        self.a, self.b, self.c, self.repeat = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(8, 2), repeat

    def forward(self, x: Tensor) -> Any:
        h = self.a(x).relu()
        y = self.c(torch.cat([h, self.b(h).relu()], 1).relu()).relu() * 1.0
        return (y, x * 2) if self.repeat else y


@pytest.mark.parametrize(
    "graph",
    [
        prepared("residual"),
        prepared("signed"),
        prepare(Dense(False).eval(), torch.randn(2, 3)),
        prepare(Dense(True).eval(), torch.randn(2, 3)),
    ],
    ids=["residual", "signed", "dense", "repeating"],
)
def test_blocks_end_where_all_paths_meet(graph: PreparedGraph) -> None:
    module = graph.module
    expected = {str(n.target) for n in module.graph.nodes if site_of(n) and on_every_path(module.graph, n)}
    assert ends(module.graph, "block") == expected

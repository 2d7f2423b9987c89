"""Rewriting to functions of the table: synonyms, no-ops, constants, in-place calls, and what is refused."""

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import Role, prepare
from snnconvert.converter.graph.canonical import arguments_of, attribute, describe
from snnconvert.converter.graph.operations import OPERATIONS
from snnconvert.converter.graph.sites import site_of


def functions(graph: Any) -> list[str]:
    return [OPERATIONS[n.target].name for n in graph.module.graph.nodes if n.op == "call_function"]


VANISH: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "nn.Dropout": lambda m, x: m.gone(x),
    "F.dropout": lambda m, x: F.dropout(x, 0.5, training=m.training),
    "F.dropout by position": lambda m, x: F.dropout(x, 0.5, m.training, True),
    "torch.dropout": lambda m, x: torch.dropout(x, 0.5, False),
    "F.dropout2d": lambda m, x: F.dropout2d(x, training=False),
    "contiguous": lambda m, x: x.contiguous(),
    "clone": lambda m, x: x.clone().detach(),
    "torch.clone": lambda m, x: torch.clone(x),
    "to the same type": lambda m, x: x.to(torch.float64),
    "float and back": lambda m, x: x.to(x.dtype).to(x.device),
}


@pytest.mark.parametrize("spelling", VANISH.values(), ids=VANISH)
def test_no_ops_vanish(network: Any, images: Tensor, converts: Any, spelling: Callable[[Any, Tensor], Tensor]) -> None:
    model = network(lambda m, x: m.head(spelling(m, m.relu(m.conv(x)))), gone=nn.Dropout())
    graph = converts(model, images)
    assert functions(graph) == ["conv2d", "mean", "linear"]


@pytest.mark.parametrize(
    "gone",
    [nn.Identity(), nn.Dropout(inplace=True), nn.Dropout2d(0.3), nn.AlphaDropout(), nn.FeatureAlphaDropout()],
    ids=lambda m: type(m).__name__,
)
def test_modules_that_do_nothing_vanish(network: Any, images: Tensor, converts: Any, gone: nn.Module) -> None:
    graph = converts(network(lambda m, x: m.head(m.gone(m.relu(m.conv(x)))), gone=gone), images)
    assert functions(graph) == ["conv2d", "mean", "linear"]


@pytest.mark.parametrize("spelling", [F.dropout, F.dropout2d, lambda x: torch.dropout(x, 0.5, train=True)])
def test_a_dropout_that_stays_on_is_refused(network: Any, images: Tensor, spelling: Callable[[Tensor], Tensor]) -> None:
    model = network(lambda m, x: m.head(spelling(m.relu(m.conv(x)))))
    with pytest.raises(ModelRefused, match=r"dropout.* at .*: it stays on at inference; write F.dropout\(x, training="):
        prepare(model, images)


ARITHMETIC: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "add": lambda m, a, b: a + b,
    "add a number": lambda m, a, b: 1 + a + 0.5,
    "subtract from a number": lambda m, a, b: 1 - a,
    "scale": lambda m, a, b: 2 * a * 0.5,
    "divide": lambda m, a, b: a / 3 - b.div(2),
    "negate": lambda m, a, b: -a + torch.neg(b),
    "weights": lambda m, a, b: m.scale * a + m.scale,
    "add with alpha": lambda m, a, b: torch.add(a, b, alpha=2),
    "sub with alpha": lambda m, a, b: a.sub(b, alpha=2),
    "in place": lambda m, a, b: a.add_(b).mul_(2).sub_(1).div_(2),
    "augmented": lambda m, a, b: operator.iadd(operator.imul(a, 2), b),
    "stack and sum": lambda m, a, b: torch.stack([a, b]).sum(0),
    "stack and average": lambda m, a, b: torch.stack((a, b), dim=1).mean(1),
    "concat": lambda m, a, b: torch.concat([a, b], -3)[:, 2:6],
    "pad with a number": lambda m, a, b: F.pad(a, (1, 1, 0, 2), value=2.0),
    "reflect": lambda m, a, b: F.pad(a, (1, 1, 1, 1), mode="reflect"),
    "nearest": lambda m, a, b: F.interpolate(a, scale_factor=2),
    "bilinear": lambda m, a, b: F.interpolate(a, size=(5, 7), mode="bilinear", align_corners=True),
    "bicubic": lambda m, a, b: F.interpolate(a, size=(5, 7), mode="bicubic", antialias=True),
    "area": lambda m, a, b: F.interpolate(a, size=(5, 7), mode="area"),
    "pixel shuffle": lambda m, a, b: F.pixel_unshuffle(F.pixel_shuffle(a, 2), 2),
    "a mask of positions": lambda m, a, b: a[:, [2, 0, 1, 3], ..., ::2],
    "a new dimension": lambda m, a, b: a[:, :, None].mean(2),
    "batch to the back and forth": lambda m, a, b: a.permute(1, 0, 2, 3).transpose(0, 1),
}


@pytest.mark.parametrize("arithmetic", ARITHMETIC.values(), ids=ARITHMETIC)
def test_linear_arithmetic_converts(
    network: Any, images: Tensor, converts: Any, arithmetic: Callable[[Any, Tensor, Tensor], Tensor]
) -> None:
    converts(network(lambda m, x: m.head(arithmetic(m, m.relu(m.conv(x)), F.relu(m.conv2(m.conv(x)))))), images)


@pytest.mark.parametrize(
    "product",
    [
        lambda m, x: torch.matmul(x.mean((2, 3)), m.weight.T),
        lambda m, x: (m.weight @ x.flatten(2)).mean(2),
        lambda m, x: F.linear(x.mean((2, 3)), m.weight * 2, m.weight.sum(1)),
        lambda m, x: F.linear(x.mean((2, 3)), m.weight.view(-1)[:8].view(2, 4)),
    ],
)
def test_constants_are_computed_once(network: Any, images: Tensor, converts: Any, product: Any) -> None:
    graph = converts(network(lambda m, x: product(m, m.relu(m.conv(x)))), images)
    constants = [n for n in graph.module.graph.nodes if n.op == "get_attr"]
    assert all(isinstance(attribute(graph.module, n.target), Tensor) for n in constants)
    assert all(any(site_of(r) or r.all_input_nodes[0] is not n for r in n.users) or n.users for n in constants)


def test_weights_under_a_parametrization_are_computed_once(network: Any, images: Tensor, converts: Any) -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    graph = converts(network(lambda m, x: m.head(m.relu(m.normed(x))), normed=conv), images)
    assert functions(graph) == ["conv2d", "mean", "linear"]


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


def test_all_unknown_operations_are_named_at_once(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.block(m.conv(x))
        return m.head(F.dropout(m.relu(x).cumprod(1))).logit()

    with pytest.raises(ModelRefused) as refused:
        prepare(network(forward, block=nn.Sequential(nn.Conv2d(4, 4, 1), nn.Softmax2d(), Bessel())), images)
    head, *lines = str(refused.value).splitlines()
    assert head == "4 operations cannot be converted:"
    for line, (path, name, what) in zip(
        lines,
        [
            (
                "block.2",
                "special_bessel_j0",
                "becomes an activation with snnconvert.activation, anything else: replace",
            ),
            ("(top level)", "Tensor.cumprod", "no rule carries it through time"),
            ("(top level)", "dropout", "it stays on at inference; write F.dropout(x, training=self.training)"),
            ("(top level)", "Tensor.logit", "convert a submodule without it"),
        ],
        strict=True,
    ):
        assert line.startswith(f"  {path}: {name} at ")
        assert "test_canonical.py:" in line
        assert what in line


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (lambda m, x: m.head(m.relu(m.conv(x)).data), "Tensor.data"),
        (lambda m, x: m.head(m.pool2(m.relu(m.conv(x)))[0]), "max_pool2d_with_indices"),
        (lambda m, x: m.head(torch.adaptive_max_pool1d(m.relu(m.conv(x)).flatten(2), 4)[0]), "adaptive_max_pool1d"),
        (lambda m, x: m.head(m.relu(m.conv(x)).new_tensor(3)), "Tensor.new_tensor"),
        (lambda m, x: m.head(m.relu(m.conv(x)).sort(1)[0]), "Tensor.sort"),
    ],
)
def test_unknown_attributes_and_variants_are_named(network: Any, images: Tensor, forward: Any, name: str) -> None:
    with pytest.raises(ModelRefused, match=rf"operations? cannot be converted:\n  .*: {name} at .*\.py:\d+"):
        prepare(network(forward, pool2=nn.MaxPool2d(2, return_indices=True)), images)


PRODUCTS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "square": lambda m, a: a * a,
    "two branches": lambda m, a: a * F.relu(m.conv2(a)),
    "other by name": lambda m, a: torch.mul(a, other=m.relu(a)),
    "matrices": lambda m, a: a @ a,
    "quotient": lambda m, a: a / (a + 1),
    "reciprocal": lambda m, a: 1 / (a + 1),
    "power": lambda m, a: a**2 + 2**a,
    "subtract from a number": lambda m, a: torch.rsub(a, 3) * a,
    "of an image": lambda m, a: a * m.image[:, :1],
    "in place": lambda m, a: (a + 0).mul_(a).div_(a + 1),
}


@pytest.mark.parametrize("product", PRODUCTS.values(), ids=PRODUCTS)
def test_products_of_signals_are_analog_and_encoded(
    network: Any, images: Tensor, converts: Any, product: Callable[[Any, Tensor], Tensor]
) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        object.__setattr__(m, "image", x)
        return m.head(m.conv2(product(m, m.relu(m.conv(x)))))

    graph = converts(network(forward), images)
    assert graph.audit.of(Role.ANALOG)
    assert len(graph.sites) > 1
    assert any("encoded as spikes" in note for note in graph.notes)


def test_weights_that_depend_on_the_image_are_refused_where_they_mix_images(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.relu(m.conv(x))
        kernels = m.fc(a.mean((2, 3)))[:, :4].reshape(-1, 1, 1, 1)
        return m.head(F.conv2d(a.reshape(1, -1, 8, 8), kernels, groups=a.shape[0] * 4).reshape(-1, 4, 8, 8))

    with pytest.raises(ModelRefused, match=r"uses the batch size in conv2d|reshapes to \(1, 8, 8, 8\)"):
        prepare(network(forward), images)


def test_descriptions_and_arguments_by_hand() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    assert describe(graph.call_function(F.gelu, (x,))) == "gelu"
    assert describe(graph.call_method("exp", (x,))) == "Tensor.exp"
    assert describe(graph.call_function(getattr, (x, "T"))) == "Tensor.T"
    call = graph.call_function(F.batch_norm, (x, None, None), {"eps": 0.5})
    found = arguments_of(call, F.batch_norm)
    assert (found["input"], found["eps"], found["training"]) == (x, 0.5, False)

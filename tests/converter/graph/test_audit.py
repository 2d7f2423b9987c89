"""The audit says what each operation becomes, and what the whole may be called; it fails closed."""

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import Audit, Entry, Role, Site, audit, prepare
from snnconvert.converter.graph.audit import no_streaming, refusal
from snnconvert.converter.graph.canonical import Unsupported
from snnconvert.converter.graph.sites import add_site, site_of


def hybrid(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x))
    y = F.gelu(m.conv2(m.pool(y + F.softmax(y, 1))))
    return F.softmax(m.head(y * y.sigmoid()), 1)


def test_each_operation_has_its_role(network: Any, images: Tensor) -> None:
    found = prepare(network(hybrid), images).audit
    assert [(e.name, str(e.role), e.spikes) for e in found.operations] == [
        ("conv2d", "linear", None),
        ("relu", "spiking site", "binary"),
        ("softmax", "analog", None),
        ("softmax", "spiking site", "binary"),
        ("add", "linear", None),
        ("max_pool2d", "exact in the window", None),
        ("pool", "spiking site", "binary"),
        ("conv2d", "linear", None),
        ("gelu", "analog", None),
        ("sigmoid", "analog", None),
        ("mul", "analog", None),
        ("mul", "spiking site", "ternary"),
        ("mean", "linear", None),
        ("linear", "linear", None),
        ("softmax", "analog", None),
    ]
    assert [e.name for e in found.of(Role.SITE)] == ["relu", "softmax", "pool", "mul"]
    assert [e.name for e in found.of(Role.WINDOW)] == ["max_pool2d"]
    assert found.of(Role.UNSUPPORTED) == ()
    for entry in found.operations:
        assert entry.path in ("", "conv", "conv2", "relu", "pool", "fc")
        assert ".py:" in entry.source or entry.source.startswith("torch.nn.modules.")
    assert all("outside of spikes" in str(e.advice) for e in found.of(Role.ANALOG))
    assert all("applied once to the mean of a window" in str(e.advice) for e in found.of(Role.WINDOW))


def test_an_activation_and_its_site_are_one(network: Any, images: Tensor) -> None:
    found = prepare(network(lambda m, x: m.head(m.conv2(m.act(m.conv(x)))), act=nn.SiLU()), images).audit
    assert [e.name for e in found.operations] == ["conv2d", "act", "conv2d", "mean", "linear"]
    assert found.spiking
    assert found.verdict == "spiking network: 1 site, all ternary"


VERDICTS: dict[str, tuple[Any, str, bool]] = {
    "relu": (lambda m, x: m.head(m.relu(m.conv(x))), "spiking network: 1 site, all binary", True),
    "two": (lambda m, x: m.head(m.relu(m.conv2(m.relu(m.conv(x))))), "spiking network: 2 sites, all binary", True),
    "mixed": (
        lambda m, x: m.head(F.gelu(m.conv2(m.relu(m.conv(x))))),
        "spiking network: 2 sites, 1 binary, 1 ternary",
        True,
    ),
    "pool": (lambda m, x: m.head(m.pool(m.relu(m.conv(x)))), "spiking network: 1 site, all binary", True),
    "softmax": (
        lambda m, x: m.head(m.relu(m.conv(x))).softmax(1),
        "hybrid: 1 site, all binary; 1 analog operation (1 softmax)",
        False,
    ),
    "gates": (
        lambda m, x: m.head(m.relu(m.conv(x))).sigmoid().softmax(1) * m.head(m.relu(m.conv(x))).sigmoid(),
        "hybrid: 2 sites, all binary; 4 analog operations (2 sigmoid, 1 softmax, 1 mul)",
        False,
    ),
}


@pytest.mark.parametrize(("forward", "verdict", "spiking"), VERDICTS.values(), ids=VERDICTS)
def test_verdicts(network: Any, images: Tensor, forward: Any, verdict: str, spiking: bool) -> None:
    found = prepare(network(forward), images).audit
    assert found.verdict == verdict
    assert (found.convertible, found.spiking) == (True, spiking)


def test_neurons_and_executors(network: Any, images: Tensor) -> None:
    binary = prepare(network(lambda m, x: m.head(m.relu(m.conv(x)))), images).audit
    assert binary.neurons == {"if": None, "two-phase": None, "tpp": None}
    assert binary.executors["if"] == ("layers", "steps")
    assert binary.executors["tpp"] == binary.executors["two-phase"] == ("counts", "layers", "steps")
    signed = prepare(network(lambda m, x: m.head(F.gelu(m.conv(x)))), images).audit
    assert str(signed.neurons["if"]) == no_streaming(["gelu"])
    message = no_streaming(["gelu"])
    assert "1 site is of other functions, or must fire spikes of both signs (gelu)" in message
    assert "use 'two-phase' or 'tpp'" in message
    assert "4 sites are of other functions" in no_streaming(list("abcd"))
    assert "(a, b, c and 1 more)" in no_streaming(list("abcd"))
    squashed = prepare(network(lambda m, x: m.head(torch.sigmoid(m.conv(x)))), images).audit
    assert "sigmoid" in str(squashed.neurons["if"])  # binary spikes, but no ReLU
    assert set(signed.executors) == {"two-phase", "tpp"}


def test_json_says_the_same(network: Any, images: Tensor) -> None:
    found = prepare(network(hybrid), images).audit
    document = json.loads(json.dumps(found.to_json()))
    assert document["verdict"] == found.verdict
    assert (document["convertible"], document["spiking"], document["reasons"]) == (True, False, [])
    assert document["sites"] == {"relu": "binary", "softmax": "binary", "pool": "binary", "mul": "ternary"}
    assert [e["name"] for e in document["analog"]] == [e.name for e in found.of(Role.ANALOG)]
    assert sum(document["counts"].values()) == len(document["operations"]) == len(found.operations)
    assert document["counts"]["spiking site"] == 4
    assert document["executors"]["tpp"] == ["counts", "layers", "steps"]
    assert document["neurons"]["tpp"] is None
    conv = document["operations"][0]
    assert conv == {"name": "conv2d", "role": "linear", "path": "conv", "source": conv["source"]}


def test_a_site_that_nothing_calls_is_found(network: Any, images: Tensor) -> None:
    module = prepare(network(lambda m, x: m.head(m.relu(m.conv(x)))), images).module
    add_site(module, Site("forgotten"))
    with pytest.raises(
        ModelRefused, match=r"neurons of forgotten are called 0 times instead of once\nhint: .*report it"
    ):
        audit(module)


def test_a_site_that_is_called_twice_is_found(network: Any, images: Tensor) -> None:
    module = prepare(network(lambda m, x: m.head(m.relu(m.conv(x)))), images).module
    node = next(n for n in module.graph.nodes if site_of(n) is not None)
    with module.graph.inserting_after(node):
        second = module.graph.call_module(str(node.target), (node,))
    node.replace_all_uses_with(second, delete_user_cb=lambda user: user is not second)
    with pytest.raises(ModelRefused, match="neurons of relu are called 2 times instead of once"):
        audit(module)


@pytest.mark.parametrize("function", [torch.special.bessel_j0, F.dropout])
def test_an_operation_without_a_kind_is_found(network: Any, images: Tensor, function: Any) -> None:
    module = prepare(network(lambda m, x: m.head(m.relu(m.conv(x)) * 2)), images).module
    node = next(n for n in module.graph.nodes if n.target is torch.mul)
    node.target, node.args = function, node.args[:1]
    with pytest.raises(ModelRefused, match=f"{function.__name__} at .*has no place in a spiking network"):
        audit(module)


def test_a_refusal_lists_what_cannot_be_and_what_could() -> None:
    known = Entry("conv", Role.LINEAR, "a", "model.py:1")
    found = refusal([Unsupported("b", "sort", "model.py:2", "replace it")] * 4, [known])
    assert not found.convertible
    assert not found.spiking
    assert found.of(Role.LINEAR) == (known,)
    assert [(e.name, e.source, e.advice) for e in found.of(Role.UNSUPPORTED)] == [
        ("sort", "model.py:2", "replace it")
    ] * 4
    line = "b: sort at model.py:2: replace it"
    assert found.reasons == (line,) * 4
    assert found.verdict == f"not convertible: {line}; {line}; {line} and 1 more"
    assert found.neurons == dict.fromkeys(("if", "two-phase", "tpp"), "; ".join([line] * 4))
    assert found.executors == {}
    assert json.loads(json.dumps(found.to_json()))["counts"] == {"linear": 1, "unsupported": 4}


def test_an_empty_audit_has_no_sites() -> None:
    assert Audit(()).of(Role.SITE) == ()

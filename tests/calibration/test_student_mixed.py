"""The student with convolutions and products of matrices in bfloat16, and compiled, against itself without either."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration import student
from snnconvert.calibration.settings import SCOPES, Settings
from snnconvert.calibration.straight_through import _fused_backward, _fused_forward
from snnconvert.calibration.streaming_student import StreamingStudent
from snnconvert.calibration.student import COMPILING_PAYS, Student
from snnconvert.converter.fused import compiler
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE, Neuron
from snnconvert.converter.precision import computes_bfloat16
from snnconvert.converter.thresholds import Thresholds

needs_bfloat16 = pytest.mark.skipif(
    not computes_bfloat16(torch.device("cpu")), reason="this machine does not multiply in bfloat16"
)


def learned(
    graph: PreparedGraph, thresholds: Thresholds, x: Tensor, neuron: str, **settings: Any
) -> tuple[Tensor, dict[str, Tensor], set[torch.dtype]]:
    """Return the loss, the gradients of each group, and the types of what came into the sites."""
    seen = set()

    def watch(z: Tensor, out: Tensor) -> Tensor:
        seen.add(z.dtype)
        assert out.dtype == z.dtype  # what a site says is as short as what it is told
        return out

    class Watched(Student):
        def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return watch(args[0], super().call_module(target, args, kwargs))

    class WatchedStreaming(StreamingStudent):
        def train_of(self, child: str, neuron: Neuron, current: Tensor) -> Tensor:
            return watch(current, super().train_of(child, neuron, current))

    kind = WatchedStreaming if neuron == "if" else Watched
    found = kind(graph, thresholds, neuron, Settings(**{"iterations": 1} | settings), {})
    loss = found.loss((x,))
    loss.backward()
    groups = {"threshold": found.log_threshold, "bias": found.shift, "weight": found.weights}
    gradients = {}
    for name, group in groups.items():
        parts = [tensor.grad for tensor in group.values() if tensor.grad is not None]
        assert len(parts) == len(group)
        assert {p.dtype for p in parts} == {graph.weight.dtype}
        gradients[name] = torch.cat([p.flatten() for p in parts])
    return loss.detach(), gradients, seen


@needs_bfloat16
@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_in_bfloat16_losses_and_gradients_are_close(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, neuron: str, scope: str
) -> None:
    (loss, gradients, seen), (exact, exact_gradients, exactly_seen) = (
        learned(graph, thresholds, many[:800], neuron, scope=scope, mixed=mixed) for mixed in (True, False)
    )
    assert (seen, exactly_seen) == ({torch.bfloat16}, {torch.float32})
    assert loss.item() == pytest.approx(exact.item(), rel=0.03)
    least = 0.98 if scope == "network" else 0.9  # a layer's own error is what rounding leaves, and hardly depends on z
    for name, gradient in gradients.items():
        assert torch.cosine_similarity(gradient, exact_gradients[name], 0) > least, name
        assert not torch.equal(gradient, exact_gradients[name])


def same(one: tuple[Tensor, dict[str, Tensor], Any], other: tuple[Tensor, dict[str, Tensor], Any]) -> bool:
    """Return whether the losses and the gradients are bit-equal."""
    return torch.equal(one[0], other[0]) and all(torch.equal(one[1][name], other[1][name]) for name in one[1])


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_networks_of_float64_stay_as_they_are(
    net: nn.Module, many: Tensor, neuron: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "computes_bfloat16", lambda device: True)
    graph, x = prepare(net.double(), many[:2].double()), many[:50].double()
    values = {site.name: torch.linspace(0.5, 1, site.channels).double() for site in graph.sites}
    thresholds = Thresholds(values, 4, "given", "channel")
    mixed, exact = (learned(graph, thresholds, x, neuron, mixed=m) for m in (True, False))
    assert mixed[2] == {torch.float64}
    assert same(mixed, exact)


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_where_no_machine_computes_with_bfloat16_nothing_changes(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, neuron: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student, "computes_bfloat16", lambda device: False)
    mixed, exact = (learned(graph, thresholds, many[:50], neuron, mixed=m) for m in (True, False))
    assert mixed[2] == {torch.float32}
    assert same(mixed, exact)


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")
def test_long_reconstructions_are_compiled_and_say_the_same(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor
) -> None:
    compiled, eager = (
        learned(graph, thresholds, many[:50], "two-phase", iterations=n) for n in (COMPILING_PAYS, COMPILING_PAYS - 1)
    )
    for function in (_fused_forward, _fused_backward):
        assert function.failure is None
        assert function.compiled is not None
    assert compiled[0].item() == pytest.approx(eager[0].item(), rel=1e-5)
    for name, gradient in compiled[1].items():
        assert (gradient - eager[1][name]).abs().max() <= 1e-4 * eager[1][name].abs().max()

"""The student of streaming networks against the executor: options of the neurons, gates, running totals, outputs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.calibration.reconstruction import reconstruct
from snnconvert.calibration.settings import Settings
from snnconvert.calibration.streaming_student import StreamingStudent
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.precision import computes_bfloat16
from snnconvert.converter.thresholds import Thresholds

Below = Callable[[PreparedGraph, Tensor, int], Thresholds]


class Gated(nn.Module):
    """A site of tokens, a max-pool of spikes, a gate, and one thing that is said beside the scores."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.tokens = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(9, 5)
        self.gate, self.head = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, None, dict[str, Tensor]]:
        h = F.relu(self.conv(x))
        h = F.max_pool2d(torch.cat([h, 2 * h], 1), 2)
        h = F.relu(self.tokens(h.flatten(2)))
        h = h * torch.sigmoid(self.gate(h))
        return self.head(h.mean(1)), None, {"tokens": self.head(h)}


class Normed(nn.Module):
    """Spikes whose mean is normed: a running total."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(36, 16), nn.LayerNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(F.relu(self.first(x.flatten(1))))
        return out


def prepared(model: nn.Module, dtype: torch.dtype = torch.float64) -> PreparedGraph:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            module.reset_parameters()
    return prepare(model.to(dtype).eval(), torch.randn(2, 1, 6, 6, dtype=dtype))


@pytest.mark.parametrize("options", [{}, {"shift": True}, {"initial_potential": 0.2}], ids=str)
def test_it_says_what_the_executor_says(options: dict[str, Any], many: Tensor, below_maximum: Below) -> None:
    graph, x = prepared(Gated()), many[:20].double()
    thresholds = below_maximum(graph, x, 4)
    found = StreamingStudent(graph, thresholds, "if", Settings(iterations=1, mixed=False), options).run(x)
    expected = convert(graph, thresholds, neuron="if", steps=4, **options)(x)
    assert torch.allclose(found[0], expected[0], atol=1e-9)
    assert torch.allclose(found[2]["tokens"], expected[2]["tokens"], atol=1e-9)
    assert found[1] is None


def test_all_of_it_learns(many: Tensor, below_maximum: Below) -> None:
    graph, x = prepared(Gated()), many[:20].double()
    found = StreamingStudent(graph, below_maximum(graph, x, 4), "if", Settings(iterations=1, mixed=False), {})
    found.loss((x,)).backward()
    for group in (found.log_threshold, found.shift, found.weights):
        for name, tensor in group.items():
            assert tensor.grad is not None, name
            assert tensor.grad.any(), name
    assert {tuple(found.shift[child].shape) for child in found.sites} == {(4, s.channels) for s in graph.sites}


@pytest.mark.skipif(not computes_bfloat16(torch.device("cpu")), reason="this machine does not multiply in bfloat16")
def test_running_totals_stay_exact_where_products_are_short(many: Tensor, below_maximum: Below) -> None:
    graph, x = prepared(Normed(), torch.float32), many[:200]
    thresholds = below_maximum(graph, x, 128)
    expected = convert(graph, thresholds, neuron="if", steps=128)(x)
    student = StreamingStudent(graph, thresholds, "if", Settings(iterations=1), {})
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = student.run(x)
    assert ((found - expected).abs().mean() / expected.abs().mean()).item() < 0.01  # 0.024 with totals in bfloat16


def test_shuffled_spikes_are_refused(many: Tensor, below_maximum: Below) -> None:
    graph, x = prepared(Gated()), many[:20].double()
    with pytest.raises(UsageError, match="learn from spikes in their order"):
        reconstruct(graph, below_maximum(graph, x, 4), lambda epoch: [x], neuron="if", shuffle="shared")

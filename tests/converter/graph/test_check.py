"""Checking a model by its shapes alone: what it would become, or all that speaks against it."""

import inspect
import time
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import Role, check, prepare


def line_of(text: str) -> str:
    """Return file:line of the first line of this file that holds ``text``."""
    source, _ = inspect.findsource(line_of)
    return f"{__file__}:{next(i for i, line in enumerate(source, 1) if text in line)}"


def test_it_says_what_prepare_finds(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.pool(m.norm(m.conv2(m.relu(m.conv(x)))))
        return F.softmax(m.head(m.conv2(y) * F.silu(m.conv2(y)).sigmoid()), 1)

    model = network(forward, norm=nn.BatchNorm2d(4))
    found = check(model, images)
    assert found == prepare(model, images).audit
    assert found == check(model.to("meta"), images.to("meta"))
    assert found.convertible


def test_a_model_of_a_thousand_million_weights_takes_seconds() -> None:
    with torch.device("meta"):
        blocks = [
            nn.Sequential(nn.LayerNorm(4096), nn.Linear(4096, 16384), nn.GELU(), nn.Linear(16384, 4096))
            for _ in range(8)
        ]
        model = nn.Sequential(*blocks)
    assert sum(p.numel() for p in model.parameters()) > 1_000_000_000
    start = time.monotonic()
    found = check(model, torch.randn(1, 16, 4096))
    assert time.monotonic() - start < 10
    assert found.verdict == "hybrid: 16 sites, all ternary; 8 analog operations (8 layer_norm)"
    assert set(found.executors) == {"two-phase", "tpp"}
    assert all(p.is_meta for p in model.parameters())


def test_the_model_is_left_untouched(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: m.head(m.relu(m.norm(m.conv(x)))), norm=nn.BatchNorm2d(4)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check(model, images)
    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Unsupported(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.LPPool2d(2, 2), nn.MaxPool2d(2))
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)  # torch's own
        y = y.cumprod(1)  # the first
        y = F.dropout(F.gelu(y) @ y.softmax(-1))  # the second
        return self.fc(y.mean((2, 3))).erfc()  # the third


def test_all_unsupported_operations_are_listed_with_line_and_advice() -> None:
    found = check(Unsupported(), torch.randn(2, 3, 10, 10))
    listed = [(e.path, e.name, e.source) for e in found.of(Role.UNSUPPORTED)]
    assert listed == [
        ("block.3", "lp_pool2d", line_of("# torch's own")),
        ("", "Tensor.cumprod", line_of("# the first")),
        ("", "dropout", line_of("# the second")),
        ("", "Tensor.erfc", line_of("# the third")),
    ]
    advice = [str(e.advice) for e in found.of(Role.UNSUPPORTED)]
    assert advice[2] == "it stays on at inference; write F.dropout(x, training=self.training)"
    assert all("snnconvert.activation" in advice[i] for i in (0, 1, 3))
    assert [e.name for e in found.of(Role.SITE)] == ["relu", "gelu"]
    assert {"conv2d", "batch_norm"} <= {e.name for e in found.of(Role.LINEAR)}
    assert found.of(Role.WINDOW)
    assert found.of(Role.ANALOG)
    here = line_of("# torch's own")
    assert found.verdict.startswith(f"not convertible: block.3: lp_pool2d at {here}: no rule")
    assert found.verdict.endswith(" and 1 more")
    assert len(found.reasons) == 4
    assert found.executors == {}
    with pytest.raises(ModelRefused, match="4 operations cannot be converted") as refused:
        prepare(Unsupported(), torch.randn(2, 3, 10, 10))
    assert all(reason in str(refused.value) for reason in found.reasons)


@pytest.mark.parametrize("layer", [nn.LSTM(8, 4), nn.GRU(8, 4)], ids=lambda m: type(m).__name__)
def test_recurrent_layers_are_named(network: Any, images: Tensor, layer: nn.Module) -> None:
    model = network(lambda m, x: m.relu(m.recurrent(x.flatten(1, 2))[0]), recurrent=layer)
    found = check(model, images)
    assert not found.convertible
    assert found.verdict.startswith("not convertible: recurrent layers carry a state of their own")
    assert f"recurrent: {type(layer).__name__}" in found.reasons[0]


class DataDependent(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:  # the values decide
            return F.relu(x)
        return x


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_control_flow_that_depends_on_data_is_named_with_its_line(device: str) -> None:
    found = check(DataDependent(), torch.zeros(2, 3, device=device))
    assert found.reasons[0].startswith(
        f"DataDependent cannot be traced at {line_of('# the values decide')}: if x.mean()"
    )
    assert set(found.neurons.values()) == {found.reasons[0]}


REASONS: dict[str, tuple[Any, str]] = {
    "no activation": (lambda m, x: m.head(m.conv(x)), "Network has no activation that can spike"),
    "mixes images": (lambda m, x: m.head(m.relu(m.conv(x))).softmax(0).sum(0), "cannot be simulated in time"),
    "wrong shape": (lambda m, x: m.fc(m.relu(m.conv(x))), "the model fails on an input of shape [2, 3, 8, 8]"),
    "batch size": (lambda m, x: m.head(m.relu(m.conv(x))) * x.shape[0], "uses the batch size in mul"),
}


@pytest.mark.parametrize(("forward", "reason"), REASONS.values(), ids=REASONS)
def test_other_reasons(network: Any, images: Tensor, forward: Any, reason: str) -> None:
    found = check(network(forward), images)
    assert len(found.reasons) == 1
    assert reason in found.reasons[0]
    assert not found.operations


@pytest.mark.parametrize("example", [5, (), torch.zeros(0, 3), torch.zeros(2, 3, dtype=torch.int64)])
def test_a_wrong_example_is_refused(example: Any) -> None:
    with pytest.raises(ModelRefused, match="the example"):
        check(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), example)


def test_constants_made_on_the_way_may_lie_on_the_cpu(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.relu(m.conv(x))
        ramp = torch.arange(y.shape[-1], device=x.device, dtype=x.dtype) / y.shape[-1]
        return m.head(y * ramp.view(1, 1, 1, -1) + torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1))

    found = check(network(forward), images)
    assert found.verdict == "spiking network: 1 site, all binary"


def test_what_needs_the_weights_is_checked_with_them_or_not_at_all(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        scale = float(m.limit)
        return m.head(m.relu(m.conv(x)) * scale)

    model = network(forward)
    model.register_buffer("limit", torch.tensor(2.0))
    assert check(model, images).convertible
    without = check(model.to("meta"), images)
    assert not without.convertible
    assert len(without.reasons) == 1

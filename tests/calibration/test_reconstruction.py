"""Reconstruction: it helps on images held out, changes what it may, and goes on after an interruption bit for bit."""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from snnconvert.calibration import learning, student
from snnconvert.calibration.learning import Learning
from snnconvert.calibration.reconstruction import Progress, reconstruct
from snnconvert.calibration.settings import LEARNED, SCOPES, Settings
from snnconvert.calibration.streaming_student import StreamingStudent
from snnconvert.calibration.student import Student
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE, Correction
from snnconvert.converter.thresholds import Thresholds

Below = Callable[[PreparedGraph, Tensor, int], Thresholds]
FAST = Settings(iterations=60, weight_rate=1e-2, threshold_rate=1e-2)


@pytest.fixture(autouse=True)
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let learning go on whatever it does; test_learning.py is about that."""
    monkeypatch.setattr(Learning, "_compared", lambda self: 1.0)
    for name in ("_FAR_WORSE", "_WORSE"):
        monkeypatch.setattr(learning, name, torch.inf)


class Stop(Exception):
    """Raised inside ``report``."""


def epochs(x: Tensor, size: int = 50) -> Callable[[int], Iterable[Tensor]]:
    """Return batches whose order and noise depend on the epoch."""

    def batches(epoch: int) -> list[Tensor]:
        draw = torch.Generator().manual_seed(epoch)
        mixed = x[torch.randperm(len(x), generator=draw)]
        noise = torch.randn(mixed.shape, generator=draw).to(x)
        return list((mixed + 0.01 * noise).split(size))

    return batches


def first_leaf(output: Any) -> Tensor:
    found: Tensor = torch.utils._pytree.tree_leaves(output)[0]
    return found


def error(graph: PreparedGraph, thresholds: Thresholds, x: Tensor, neuron: str) -> float:
    model = convert(graph, thresholds, neuron=neuron, steps=4)
    return (first_leaf(model(x)) - first_leaf(graph.module(x))).square().mean().item()


@pytest.mark.parametrize("neuron", CONVERTIBLE)
@pytest.mark.parametrize("scope", SCOPES)
def test_loss_and_error_fall_on_images_held_out(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, scope: str, neuron: str
) -> None:
    def loss(given: Thresholds) -> float:
        kind = StreamingStudent if neuron == "if" else Student
        return kind(graph, given, neuron, replace(FAST, scope=scope), {}).loss((many[800:],)).item()

    settings = replace(FAST, scope=scope)
    found = reconstruct(graph, thresholds, epochs(many[:800]), neuron=neuron, settings=settings)
    assert loss(found) < 0.95 * loss(thresholds)
    assert error(graph, found, many[800:], neuron) < 0.8 * error(graph, thresholds, many[800:], neuron)


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
def test_a_batch_beyond_memory_goes_through_in_parts(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, neuron: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    loss = Student.loss

    def watched(self: Student, inputs: tuple[Tensor, ...]) -> Tensor:
        seen.append(len(inputs[0]))
        return loss(self, inputs)

    monkeypatch.setattr(Student, "loss", watched)
    settings = replace(FAST, iterations=3, mixed=False)
    found = []
    for memory in (student.MEMORY, None):
        if memory is None:
            kind = StreamingStudent if neuron == "if" else Student
            at_once = kind(graph, thresholds, neuron, settings, {}).at_once
            monkeypatch.setattr(student, "MEMORY", student.MEMORY * 20 // at_once)  # of about 20 images
        found.append(reconstruct(graph, thresholds, epochs(many[:150]), neuron=neuron, settings=settings))
    whole, parts = seen[:3], seen[3:]
    assert whole == [50, 50, 50]
    assert max(parts) in (19, 20, 21)
    assert sum(parts) == 150
    for one, other in zip(*(t.values.values() for t in found), strict=True):
        assert torch.allclose(one, other, rtol=1e-4)


def same(a: Thresholds, b: Thresholds) -> bool:
    """Return whether all tensors are bit-equal."""
    one, other = ([t.values, {k: tuple(c) for k, c in t.corrections.items()}, t.weights] for t in (a, b))
    leaves, others = (torch.utils._pytree.tree_flatten(x) for x in (one, other))
    assert leaves[1] == others[1]
    return all(x is y or torch.equal(x, y) for x, y in zip(leaves[0], others[0], strict=True))


@pytest.fixture
def started(graph: PreparedGraph, thresholds: Thresholds) -> Thresholds:
    """Return thresholds that come with corrections and weights."""
    first, second = graph.sites
    corrections = {
        first.name: Correction(torch.linspace(-0.1, 0.1, 16).reshape(4, 4), height=1.1 * thresholds.values[first.name]),
        second.name: Correction(potential=torch.linspace(-0.3, 0.3, 5)),
    }
    weights = {"hidden_weight_value": graph.module.get_buffer("hidden_weight_value") * 1.01}
    return replace(thresholds, corrections=corrections, weights=weights)


@pytest.mark.parametrize("learned", LEARNED)
def test_nothing_changes_but_what_is_learned(
    graph: PreparedGraph, started: Thresholds, many: Tensor, learned: str
) -> None:
    settings = replace(FAST, learn=(learned,), iterations=3)
    found = reconstruct(graph, started, epochs(many[:100]), neuron="two-phase", settings=settings)
    for site in graph.sites:
        theta, before = started.values[site.name], started.corrections[site.name]
        after = found.corrections[site.name]
        assert torch.equal(found.values[site.name], theta) == (learned != "threshold")
        if learned == "bias":
            assert not torch.equal(after.bias, torch.zeros(()) if before.bias is None else before.bias)  # type: ignore[arg-type]
        else:
            assert after.bias is before.bias is None or torch.equal(after.bias, before.bias)  # type: ignore[arg-type]
        assert after.potential is before.potential is None or torch.equal(after.potential, before.potential)  # type: ignore[arg-type]
    height, before = (t.corrections[graph.sites[0].name].height for t in (found, started))
    ratio = found.values[graph.sites[0].name] / started.values[graph.sites[0].name]
    assert torch.allclose(height, before * ratio)  # type: ignore[arg-type, operator]
    if learned == "weight":
        assert set(found.weights) == {f"{name}_weight_value" for name in ("conv", "hidden", "head")}
        assert not torch.equal(found.weights["hidden_weight_value"], started.weights["hidden_weight_value"])
    else:
        assert set(found.weights) == {"hidden_weight_value"}
        assert torch.equal(found.weights["hidden_weight_value"], started.weights["hidden_weight_value"])


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_what_was_given_stays_untouched(graph: PreparedGraph, started: Thresholds, many: Tensor, neuron: str) -> None:
    buffers = {name: b.clone() for name, b in graph.module.named_buffers()}
    copies = replace(
        started,
        values={n: v.clone() for n, v in started.values.items()},
        corrections={
            n: Correction(*(None if v is None else v.clone() for v in c)) for n, c in started.corrections.items()
        },
        weights={n: w.clone() for n, w in started.weights.items()},
    )
    found = reconstruct(graph, started, epochs(many[:100]), neuron=neuron, settings=replace(FAST, iterations=3))
    assert same(started, copies)
    for name, buffer in graph.module.named_buffers():
        assert torch.equal(buffer, buffers[name])
        assert not buffer.requires_grad
    for tensor in (*started.weights.values(), *started.values.values(), *found.weights.values()):
        assert not tensor.requires_grad


def test_the_first_step_is_as_long_as_the_rates(graph: PreparedGraph, thresholds: Thresholds, many: Tensor) -> None:
    # Adam's first step is the rate times the sign of the gradient.
    settings = Settings(iterations=1, weight_rate=1e-3, threshold_rate=1e-2)
    found = reconstruct(graph, thresholds, epochs(many[:50]), neuron="two-phase", settings=settings)
    for site in graph.sites:
        theta = thresholds.values[site.name]
        steps = (found.values[site.name] / theta).log().abs()
        assert torch.allclose(steps, torch.full_like(steps, 1e-2), rtol=2e-2)
        shift = found.corrections[site.name].bias / theta  # type: ignore[operator]
        assert torch.allclose(shift.abs(), torch.full_like(shift, 1e-2), rtol=2e-2)
    for name, weight in found.weights.items():
        before = graph.module.get_buffer(name)
        length = 1e-3 * before.square().mean().sqrt()
        assert torch.allclose((weight - before).abs().median(), length, rtol=2e-2)


def test_progress_is_told_after_each_step(graph: PreparedGraph, thresholds: Thresholds, many: Tensor) -> None:
    told: list[Progress] = []
    found = reconstruct(
        graph, thresholds, epochs(many[:150]), neuron="if", settings=replace(FAST, iterations=7), report=told.append
    )
    assert [p.done for p in told] == list(range(1, 8))
    assert {p.total for p in told} == {7}
    assert math.isnan(told[0].seconds_left)
    assert all(p.seconds_left > 0 for p in told[1:-1])
    assert told[-1].seconds_left == 0
    (about,) = found.source["corrections"]
    assert about["name"] == "reconstruction"
    assert about["images"] == 150
    assert about["loss"] == told[-1].loss
    assert about["learn"] == list(LEARNED)
    assert about["iterations"] == 7
    assert found.neuron == "if"


def halted(at: int) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        if progress.done == at:
            raise Stop

    return report


@pytest.mark.parametrize("scope", ["layer", "network"])
@pytest.mark.parametrize("neuron", CONVERTIBLE)
@pytest.mark.parametrize("stops", [(1,), (4, 8), (5,), (12,)])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    graph: PreparedGraph,
    started: Thresholds,
    many: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stops: tuple[int, ...],
    neuron: str,
    scope: str,
) -> None:
    monkeypatch.setattr(learning, "_SAVE_EVERY", -1.0)
    settings = replace(FAST, iterations=12, scope=scope)
    path = tmp_path / "state"

    def run(checkpoint: Path | None, **more: Any) -> Thresholds:
        batches = epochs(many[:200])  # four batches an epoch
        return reconstruct(graph, started, batches, neuron=neuron, settings=settings, checkpoint=checkpoint, **more)

    whole = run(None)
    for stop in stops:
        with pytest.raises(Stop):
            run(path, report=halted(stop))
        assert path.exists()
    told: list[Progress] = []
    found = run(path, report=told.append)
    assert [p.done for p in told] == list(range(stops[-1] + 1, 13))
    assert same(found, whole)
    assert found.source == whole.source
    assert not path.exists()


def test_a_checkpoint_is_written_once_a_minute(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    with pytest.raises(Stop):
        reconstruct(graph, thresholds, epochs(many[:50]), neuron="if", settings=FAST, checkpoint=path, report=halted(1))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def state(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    monkeypatch.setattr(learning, "_SAVE_EVERY", -1.0)
    path = tmp_path / "state"
    with pytest.raises(Stop):
        reconstruct(graph, thresholds, epochs(many), neuron="if", settings=FAST, checkpoint=path, report=halted(2))
    return path


def other_values(thresholds: Thresholds) -> Thresholds:
    return replace(thresholds, values={name: 1.01 * theta for name, theta in thresholds.values.items()})


def other_correction(thresholds: Thresholds) -> Thresholds:
    return replace(thresholds, corrections={"relu": Correction(potential=torch.ones(4))})


def other_bursts(thresholds: Thresholds) -> Thresholds:
    return replace(thresholds, bursts={"relu": 2})


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        ({"settings": replace(FAST, iterations=61)}, "iterations (60 there, 61 here)"),
        (
            {"settings": replace(FAST, scope="layer", temperature=3.0)},
            "scope ('network' there, 'layer' here), temperature (1.0 there, 3.0 here)",
        ),
        ({"settings": replace(FAST, learn=("weight", "bias"))}, "learn ("),
        ({"neuron": "two-phase"}, "neuron ('if' there, 'two-phase' here), number of parameters"),
        ({"initial_potential": 0.25}, "initial_potential (None there, 0.25 here)"),
        ({"thresholds": other_values}, "images, thresholds or weights"),
        ({"thresholds": other_correction}, "images, thresholds or weights"),
        ({"thresholds": other_bursts}, "bursts ({} there, {'relu': 2} here)"),
    ],
    ids=lambda change: " ".join(change) if isinstance(change, dict) else change,
)
def test_a_checkpoint_of_another_run_is_refused(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, state: Path, change: dict[str, Any], differing: str
) -> None:
    options = {"settings": FAST, "neuron": "if"} | change
    given = options.pop("thresholds", lambda t: t)(thresholds)
    with pytest.raises(ArtefactRefused, match=re.escape(f"of another reconstruction, by its {differing}")) as refused:
        reconstruct(graph, given, epochs(many), checkpoint=state, **options)
    assert refused.value.hint == "repeat the command that began it, delete it, or name another file to write to"


def test_a_checkpoint_of_another_network_is_refused(
    net: Any, thresholds: Thresholds, many: Tensor, state: Path
) -> None:
    with torch.no_grad():
        net.head.bias += 0.1
    with pytest.raises(ArtefactRefused, match="of another reconstruction"):
        reconstruct(prepare(net, many[:2]), thresholds, epochs(many), neuron="if", settings=FAST, checkpoint=state)


def test_a_checkpoint_of_other_images_or_batches_is_refused(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, state: Path
) -> None:
    for other in (many.flip(0), many[: len(many) // 2]):
        with pytest.raises(ArtefactRefused, match="of another reconstruction"):
            reconstruct(graph, thresholds, epochs(other), neuron="if", settings=FAST, checkpoint=str(state))


def test_a_damaged_checkpoint_is_refused(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, state: Path
) -> None:
    state.write_bytes(state.read_bytes()[:-10])
    with pytest.raises(ArtefactRefused, match="not a checkpoint file, or is truncated"):
        reconstruct(graph, thresholds, epochs(many), neuron="if", settings=FAST, checkpoint=state)

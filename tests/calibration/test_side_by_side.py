"""What a rule is shown, and what becomes of its answers: against the network itself and against the executors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.calibration.side_by_side import Meeting, activations, correct, run_watched
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import CalibrationRefused, DataRefused, ModelRefused, UsageError
from snnconvert.converter.graph import PreparedGraph, prepare
from snnconvert.converter.neurons import CONVERTIBLE, Correction
from snnconvert.converter.thresholds import Thresholds

See = Callable[..., list[Meeting]]


def nothing(meeting: Meeting) -> Correction:
    return meeting.correction


def test_activations_are_those_of_the_network(net: Any, graph: PreparedGraph, images: Tensor) -> None:
    with torch.no_grad():
        before = net.conv(images), net.hidden(net.conv(images).relu().flatten(1))
    output, found = activations(graph, (images,))
    assert torch.equal(output, graph.module(images))
    assert list(found) == ["site_0", "site_1"]
    for (current, activation), expected in zip(found.values(), before, strict=True):
        assert torch.allclose(current, expected, atol=1e-6)
        assert torch.allclose(activation, expected.relu(), atol=1e-6)
        assert not activation.requires_grad


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_watching_changes_no_spike(graph: PreparedGraph, thresholds: Thresholds, many: Tensor, neuron: str) -> None:
    model, seen = convert(graph, thresholds, neuron=neuron, steps=4, seed=5), []
    for first, x in ((0, many[:8]), (20, many[20:31])):
        found = run_watched(model, (x,), lambda child, current: seen.append((child, current)), first)
        assert torch.allclose(found, model(x, index=torch.arange(first, first + len(x))), atol=1e-6)
    assert [child for child, _ in seen] == ["site_0", "site_1"] * 2


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_currents_are_those_of_the_spikes_before(
    net: Any, graph: PreparedGraph, thresholds: Thresholds, many: Tensor, see: See, neuron: str
) -> None:
    x = many[:30]
    first, second = see(graph, thresholds, x, neuron)
    model = convert(graph, thresholds, neuron=neuron, steps=4)
    name = graph.sites[0].name
    sent = model.activity(x)[name] * thresholds.values[name][:, None, None] / 4
    with torch.no_grad():
        expected = net.conv(x), net.hidden(sent.flatten(1))
    for meeting, current in zip((first, second), expected, strict=True):
        mean = meeting.current.mean(0) if neuron == "if" else meeting.current
        assert meeting.current.shape[: meeting.current.ndim - current.ndim] == ((4,) if neuron == "if" else ())
        assert torch.allclose(mean, current, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(second.ann_current, net.hidden(net.conv(x).relu().flatten(1)), atol=1e-5)
        assert torch.allclose(second.ann_activation, second.ann_current.relu())
    assert [m.site.name for m in (first, second)] == [site.name for site in graph.sites]


@pytest.fixture
def see(meetings: See) -> See:
    return meetings


@pytest.mark.parametrize("neuron", ["if", "two-phase"])
def test_responses_are_those_of_the_executors(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, see: See, neuron: str
) -> None:
    x, (one, two) = many[:30], graph.sites
    found = {
        one.name: Correction(torch.linspace(-0.2, 0.2, 4), 0.3 * torch.ones(one.shape), torch.linspace(0.5, 1, 4)),
        two.name: Correction(bias=torch.linspace(-0.1, 0.3, 20).reshape(4, 5)),
    }
    corrected = replace(thresholds, corrections=found)
    model = convert(graph, corrected, neuron=neuron, steps=4)
    counts = model.activity(x, executor="steps")
    for meeting in see(graph, corrected, x, neuron):
        name = meeting.site.name
        height = found[name].height if name == one.name else thresholds.values[name]
        assert height is not None
        height = height.reshape(-1, *[1] * (len(meeting.site.shape) - 1))
        agree = torch.isclose(meeting.response(), counts[name] * height / 4, atol=1e-5)
        assert agree.float().mean() > 0.999  # but for ties of rounding
        assert meeting.correction == found[name]


def test_the_response_of_tpp_is_its_mean(graph: PreparedGraph, thresholds: Thresholds, many: Tensor, see: See) -> None:
    first = see(graph, thresholds, many[:1], "tpp")[0]
    model = convert(graph, thresholds, neuron="tpp", steps=4)
    counts = model.activity(many[:1].expand(4000, 1, 6, 6), executor="layers")[first.site.name]
    expected = first.response()[0] / first.neuron.height * 4
    share = expected - expected.floor()
    assert ((counts.mean(0) - expected).abs() <= 4.5 * (share * (1 - share) / 4000).sqrt() + 1e-3).all()
    assert share.max() > 0.1


def test_channel_means_are_over_all_but_the_channels(see: See) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()  # [batch, tokens, channels]
    graph = prepare(model, torch.randn(2, 5, 3))
    (site,) = graph.sites
    assert (site.axis, site.shape) == (2, (5, 4))
    (meeting,) = see(graph, Thresholds({site.name: torch.ones(4)}, 4, "given", "channel"), torch.randn(3, 5, 3), "if")
    values = torch.randn(3, 5, 4)
    assert torch.allclose(meeting.channel_mean(values), values.mean((0, 1)))
    assert meeting.response().shape == (3, 5, 4)


@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_answers_act_on_the_sites_that_follow_at_once(
    net: Any, graph: PreparedGraph, thresholds: Thresholds, many: Tensor, neuron: str
) -> None:
    seen: list[Meeting] = []

    def rule(meeting: Meeting) -> Correction:
        seen.append(meeting)
        before = meeting.correction.bias
        change = torch.full((meeting.site.channels,), 0.25)
        return Correction(bias=change if before is None else before + change)

    found = correct(graph, thresholds, many[:40].split(20), rule, name="steady", neuron=neuron)
    assert [m.batch for m in seen] == [0, 0, 1, 1]
    assert seen[0].correction == Correction()
    assert torch.equal(seen[2].correction.bias, torch.full((4,), 0.25))  # type: ignore[arg-type]
    for site in graph.sites:
        assert torch.equal(found.corrections[site.name].bias, torch.full((site.channels,), 0.5))  # type: ignore[arg-type]
    (one, _), x = graph.sites, many[20:40]
    model = convert(graph, replace(found, corrections={one.name: found.corrections[one.name]}), neuron=neuron, steps=4)
    sent = model.activity(x, index=torch.arange(20, 40))[one.name] * thresholds.values[one.name][:, None, None] / 4
    with torch.no_grad():
        expected = net.hidden(sent.flatten(1))
    current = seen[3].current.mean(0) if neuron == "if" else seen[3].current
    assert torch.allclose(current, expected, atol=1e-5)


def test_what_was_done_is_remembered(graph: PreparedGraph, thresholds: Thresholds, many: Tensor) -> None:
    start = Correction(bias=torch.ones(4))
    given = replace(thresholds, source={"images": 3}, corrections={graph.sites[0].name: start})
    found = correct(graph, given, many[:30].split(20), nothing, name="first", neuron="if")
    found = correct(graph, found, [(many[:5], "labels")], nothing, name="second", neuron="if")
    assert found.source == {
        "images": 3,
        "corrections": [{"name": "first", "images": 30}, {"name": "second", "images": 5}],
    }
    assert given.source == {"images": 3}
    assert found.neuron == "if"
    assert (found.values.keys(), found.steps) == (thresholds.values.keys(), 4)
    assert torch.equal(found.corrections[graph.sites[0].name].bias, torch.ones(4))  # type: ignore[arg-type]
    convert(graph, found, neuron="if", steps=4)


def test_thresholds_for_any_window_get_one(graph: PreparedGraph, thresholds: Thresholds, many: Tensor) -> None:
    free = replace(thresholds, steps=None)
    found = correct(graph, free, [many[:5]], nothing, name="none", neuron="tpp", steps=6)
    assert found.steps == 6
    message = "given thresholds are for any T, corrections for one\nhint: give steps=T"
    with pytest.raises(CalibrationRefused, match=message):
        correct(graph, free, [many[:5]], nothing, name="none", neuron="tpp")


def test_options_of_the_neuron_count(graph: PreparedGraph, thresholds: Thresholds, many: Tensor) -> None:
    responses = []

    def rule(meeting: Meeting) -> Correction:
        responses.append(meeting.response())
        return meeting.correction

    for start in (0.0, 0.9):
        correct(graph, thresholds, [many[:9]], rule, name="none", neuron="if", initial_potential=start)
    assert responses[0].sum() < responses[2].sum()


def test_what_cannot_be_corrected_is_refused(
    graph: PreparedGraph, thresholds: Thresholds, many: Tensor, images: Tensor
) -> None:
    def run(given: Thresholds = thresholds, batches: Any = (many[:5],), neuron: str = "if", **options: Any) -> Any:
        return correct(graph, given, batches, nothing, name="none", neuron=neuron, **options)

    with pytest.raises(CalibrationRefused, match="hold no image\nhint: give at least one batch"):
        run(batches=[])
    with pytest.raises(CalibrationRefused, match="corrections for 'tpp' neurons, got 'if'"):
        run(replace(thresholds, neuron="tpp"))
    with pytest.raises(UsageError, match="unknown neuron 'lif'"):
        run(neuron="lif")
    with pytest.raises(UsageError, match="belong to integrate-and-fire neurons"):
        run(neuron="tpp", shift=True)
    with pytest.raises(DataRefused, match="takes images of shape 1x6x6, got 6x6"):
        run(batches=[images[:, 0]])
    with pytest.raises(CalibrationRefused, match=r"relu: expected a finite bias of shape \[4\]"):
        run(replace(thresholds, corrections={"relu": Correction(bias=torch.ones(3))}))


def test_streaming_neurons_are_refused_where_values_have_both_signs() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).eval()
    graph = prepare(model, torch.randn(2, 3))
    given = Thresholds({graph.sites[0].name: torch.ones(1)}, 4, "given", "layer")
    with pytest.raises(ModelRefused):
        correct(graph, given, [torch.randn(2, 3)], nothing, name="none", neuron="if")

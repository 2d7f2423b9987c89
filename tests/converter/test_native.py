"""Compiled neurons against plain torch, bit by bit."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snnconvert.converter import native
from snnconvert.converter.convert import convert
from snnconvert.converter.fused import compiler
from snnconvert.converter.graph import prepare
from snnconvert.converter.native import Library, Population, _times
from snnconvert.converter.neurons import CONVERTIBLE, NEURONS, Correction, IntegrateAndFire, Neuron, Noise, Place
from snnconvert.converter.thresholds import Thresholds

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")
SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 16777217.0, -0.5, 0.5]
AXIS = {"vectors": 1, "sequences": 1, "tokens": 2, "heads": 2, "images": 1, "last": 1, "volumes": 1, "last volumes": 1}
"""What holds the channels; the layouts called last are in torch's channels-last order."""


@contextlib.contextmanager
def plain() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: Library(None, "switched off"))
        yield


@contextlib.contextmanager
def watched() -> Iterator[list[bool]]:
    """Note for each call of a compiled function whether it answered; memory that it does not write to holds NaN."""
    answered: list[bool] = []

    def watch(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            found = function(*args, **named)
            answered.append(found is not None)
            return found

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("two_phase", "tpp", "integrate_and_fire"):
            patch.setattr(native, name, watch(getattr(native, name)))
        torch.use_deterministic_algorithms(True)
        try:
            yield answered
        finally:
            torch.use_deterministic_algorithms(False)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether all bits are the same, but for those that tell one NaN from another."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    whole = torch.int32 if one.dtype == torch.float32 else torch.int64
    bits = [torch.where(x.isnan(), torch.nan, x).contiguous().view(whole) for x in (one, other)]
    return torch.equal(*bits)


class Case(NamedTuple):
    """A population of neurons, and tensors for it."""

    layout: str
    sizes: tuple[int, ...]  # batch, channels, and two more
    steps: int
    burst: int
    signed: bool
    shared: bool  # one threshold for all channels
    worth: bool
    moved: str
    rows: int
    gaps: bool
    double: bool
    seed: int

    def draw(self, batch: int) -> Tensor:
        """Return inputs: of any size, multiples of 1/16, which are ties, and what is special."""
        _, channels, a, b = self.sizes
        shapes = {"vectors": (channels,), "sequences": (channels, a), "tokens": (a, channels)}
        shapes |= {"heads": (a, channels, b)}
        shapes |= dict.fromkeys(("volumes", "last volumes"), (channels, a, b, 2))
        shape = shapes.get(self.layout, (channels, a, b))
        rng = np.random.default_rng([self.seed, batch])
        whole = (batch, *shape) if not self.gaps else (batch, *shape[:-1], 2 * shape[-1])
        x = rng.normal(0.3, 1, whole)
        x = np.where(rng.random(whole) < 0.5, np.round(x * 16) / 16, x)
        x = np.where(rng.random(whole) < 0.1, rng.choice(SPECIAL, whole), x)
        found = torch.from_numpy(x).to(self.dtype)
        if self.layout == "last":
            found = found.contiguous(memory_format=torch.channels_last)
        elif self.layout == "last volumes":
            found = found.contiguous(memory_format=torch.channels_last_3d)
        return found[..., ::2] if self.gaps else found

    @property
    def dtype(self) -> torch.dtype:
        return torch.float64 if self.double else torch.float32

    def per_channel(self, shift: int, *first: int) -> Tensor:
        rng = np.random.default_rng([self.seed, shift])
        shape = (*first, 1 if self.shared and not first else self.sizes[1])
        values = rng.choice([0.25, 0.5, 1.0, 2.0, 0.3, 1.7], shape)
        return torch.from_numpy(values).to(self.dtype)

    def neuron(self, kind: str, x: Tensor, **options: Any) -> Neuron:
        offset = self.per_channel(1) - 1
        channels = offset.expand(self.sizes[1])
        corrections = {
            "nothing": Correction(),
            "bias": Correction(bias=channels / 4, height=self.per_channel(3)),
            "bias by step": Correction(bias=self.per_channel(2, self.steps) / 4 - 0.25),
            "potential": Correction(potential=channels),
            "potential by neuron": Correction(potential=(x[0].nan_to_num() * 0.5).clamp(-1, 1)),
            "everything": Correction(channels / 4, channels, self.per_channel(3)),
        }
        place = Place(self.seed % 7, x.ndim, AXIS[self.layout], self.signed and kind != "if")
        return NEURONS[kind](self.per_channel(0), self.steps, place, corrections[self.moved], self.burst, **options)

    def readable(self, x: Tensor, offset: Tensor | None, images: int) -> bool:
        """Return whether a compiled function should answer, by its docstring."""
        packed = x.is_contiguous() or (AXIS[self.layout] == 1 and x.movedim(1, -1).is_contiguous() and len(x) == images)
        return packed and not self.double and (offset is None or offset.numel() in (1, x.shape[AXIS[self.layout]]))


CASES = st.builds(
    Case,
    layout=st.sampled_from(list(AXIS)),
    sizes=st.tuples(st.sampled_from([1, 2, 6]), st.sampled_from([1, 3, 8]), *[st.sampled_from([1, 2, 5])] * 2),
    steps=st.sampled_from([1, 3, 4, 8]),
    burst=st.sampled_from([1, 1, 3]),
    signed=st.booleans(),
    shared=st.booleans(),
    worth=st.booleans(),
    moved=st.sampled_from(["nothing", "bias", "bias by step", "potential", "potential by neuron", "everything"]),
    rows=st.just(1),
    gaps=st.sampled_from([False, False, False, True]),
    double=st.sampled_from([False, False, False, True]),
    seed=st.integers(0, 9999),
)
ONE = Case("images", (2, 3, 4, 5), 4, 1, False, False, True, "nothing", 1, False, False, 0)


def compare_windows(kind: str, case: Case) -> None:
    x, images = case.draw(case.sizes[0]), case.sizes[0] // case.rows
    neuron, noise = case.neuron(kind, x), Noise(case.seed, torch.arange(images) * 3)
    worth = neuron.height / case.steps if case.worth else None
    with watched() as answered:
        found = neuron.window(x, noise, worth)
    with plain():
        expected = neuron.window(x, noise, worth)
    assert answered == [case.readable(x, neuron.offset, images if kind == "tpp" else len(x))]
    assert same(found, expected)
    counts = neuron.count(x * case.steps, noise)
    assert same(found, counts if worth is None else counts * worth)
    whole = neuron.window_bytes(x, noise)
    if whole is None:
        assert not all(answered) or neuron.signed or neuron.most > 255 or bool(counts.isnan().any())
    else:
        assert whole.dtype == torch.uint8
        assert torch.equal(whole.to(counts.dtype), counts)


def compare_trains(case: Case, begin: str, steady: bool, **options: float) -> None:
    batch = case.sizes[0]
    flat = case.draw(case.steps * batch)
    currents = flat[:batch].expand(case.steps, batch, *flat.shape[1:]) if steady else flat.unflatten(0, (-1, batch))
    neuron = case.neuron("if", currents[0], **options)
    potential = neuron.start(currents[0]) if begin == "start" else case.draw(batch)
    potential = potential.contiguous() if begin == "contiguous" else potential
    noise, again, third, fourth = Noise(0, torch.arange(batch)), *(potential.clone() for _ in range(3))
    worth = neuron.height if case.worth else None
    with watched() as answered:
        found, after = neuron.spike_train(potential, currents, 0, noise, worth)
    with plain():
        expected, then = neuron.spike_train(again, currents, 0, noise, worth)
    assert same(found, expected)
    assert same(after, then)
    spikes = neuron.train_bytes(third, currents, 0)
    assert (spikes is not None) == (answered == [True])
    if spikes is not None:
        parts = [neuron.train_bytes(fourth, part, first) for part, first in ((currents[:1], 0), (currents[1:], 1))]
        assert torch.equal(torch.cat(parts[: case.steps]), spikes)  # type: ignore[arg-type]
        assert same(third, fourth)
        assert spikes.dtype == torch.uint8
        assert same(spikes.to(expected.dtype) if worth is None else spikes * worth, expected)
        assert same(third, then)
    if case.burst == 1 and (case.moved in ("nothing", "potential", "potential by neuron") or not options.get("shift")):
        strides = zip(currents.shape[1:], currents.stride()[1:], potential.stride(), strict=True)
        alike = all(size == 1 or a == b for size, a, b in strides)
        assert answered == [alike and case.readable(potential, None, batch)]
    if (case.moved == "bias by step" and options.get("shift")) or case.burst > 1:
        assert not any(answered)


@needs_compiler
@pytest.mark.parametrize("kind", ["two-phase", "tpp"])
@settings(max_examples=60)
@given(case=CASES)
def test_windows_have_the_bits_of_plain_torch(kind: str, case: Case) -> None:
    compare_windows(kind, case)


@needs_compiler
@settings(max_examples=60)
@given(
    case=CASES,
    begin=st.sampled_from(["start", "anywhere", "contiguous"]),
    steady=st.booleans(),
    begins=st.sampled_from([(0.5, 0.0), (0.0, 0.5), (0.0, 0.0)]),
)
def test_trains_have_the_bits_of_plain_torch(case: Case, begin: str, steady: bool, begins: tuple[float, float]) -> None:
    compare_trains(case, begin, steady, initial_potential=begins[0], shift=begins[1])


@needs_compiler
@settings(max_examples=30)
@given(case=CASES, rows=st.sampled_from([2, 3]))
def test_rows_of_an_image_have_the_random_numbers_of_plain_torch(case: Case, rows: int) -> None:
    compare_windows("tpp", case._replace(sizes=(6, *case.sizes[1:]), rows=rows))


@needs_compiler
@settings(max_examples=10)
@pytest.mark.parametrize("layout", ["tokens", "last", "last volumes"])
@given(
    tile=st.sampled_from([1, 6, 40]),
    tiles=st.sampled_from([1, 2, 5]),
    signed=st.booleans(),
    moved=st.sampled_from(["nothing", "bias"]),
)
def test_rows_of_many_tiles_have_the_random_numbers_of_plain_torch(
    layout: str, tile: int, tiles: int, signed: bool, moved: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "_TILE", tile)
        patch.setattr(native, "_TILES", tiles)
        patch.setattr(native, "_SHARES", 1)
        compare_windows("tpp", ONE._replace(layout=layout, sizes=(6, 6, 5, 4), signed=signed, moved=moved))


def test_tiles_are_joined_as_long_as_every_thread_has_rows() -> None:
    def rows(images: int) -> tuple[int, int, int]:
        found = native._long(native.Rows(images, 1024, 64, 64, True, 64, 1), 16)
        return found.per_image, found.length, found.tile

    shared = 4 * torch.get_num_threads()
    assert rows(1000 * shared) == (8, 16 * 512, 512)
    assert rows(1)[0] >= min(shared, 128)
    assert rows(1)[0] * rows(1)[1] == 1024 * 64


@needs_compiler
@pytest.mark.parametrize("layout", AXIS)
@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_every_layout_has_its_compiled_loop(kind: str, layout: str) -> None:
    for moved, shared in itertools.product(("nothing", "bias", "bias by step", "potential"), (False, True)):
        case = ONE._replace(layout=layout, moved=moved, shared=shared, signed=layout == "last")
        x = case.draw(2)
        assert case.readable(x, None, 2)
        if kind == "if":
            compare_trains(case, "anywhere", False)
        else:
            compare_windows(kind, case)


@needs_compiler
@pytest.mark.parametrize("given", [0, 4, 9])
def test_biases_of_other_steps_than_there_are_are_left_to_torch(given: int) -> None:
    site = Population(1, torch.ones(3), torch.zeros(given, 3), None, 8, 0, 8, by_step=True)
    assert native.integrate_and_fire(torch.zeros(2, 3), torch.rand(8, 2, 3), site) is None
    neuron = IntegrateAndFire(torch.ones(3), 8, Place(0, 2), Correction(bias=torch.zeros(4, 3)))
    with pytest.raises(IndexError):
        neuron.spike_train(torch.zeros(2, 3), torch.rand(8, 2, 3), 0, Noise(0, torch.arange(2)))


@needs_compiler
def test_bytes_hold_the_spikes_of_a_long_window() -> None:
    neuron, currents = IntegrateAndFire(torch.ones(3), 300, Place(0, 2)), torch.rand(300, 2, 3)
    spikes = neuron.train_bytes(torch.zeros(2, 3), currents, 0)
    train, _ = neuron.spike_train(torch.zeros(2, 3), currents, 0, Noise(0, torch.arange(2)))
    assert spikes is not None
    assert torch.equal(spikes, train)


@needs_compiler
@pytest.mark.parametrize("kind", ["two-phase", "tpp"])
def test_one_channel_may_have_any_stride(kind: str) -> None:
    wide = torch.randn(2, 7, 6)
    for x in (wide[:1, ::7], wide[:, :1], wide[:1, :1], wide[:1, 0].expand(1, 1, 6), wide[:, 0].unsqueeze(1)):
        neuron, noise = NEURONS[kind](torch.tensor([0.5]), 4, Place(0, 3)), Noise(0, torch.arange(len(x)))
        with watched() as answered:
            found = neuron.window(x, noise)
        assert answered == [x.is_contiguous()], x.stride()
        assert same(found, neuron.count(x * 4, noise)), x.stride()


@needs_compiler
def test_close_to_a_tie_every_rounding_is_that_of_plain_torch() -> None:
    draw = torch.Generator().manual_seed(0)
    theta, start = torch.rand(2, 64, generator=draw) + 0.25
    neuron = NEURONS["two-phase"](theta, 7, Place(0, 2), Correction(potential=start))
    ties = (torch.randint(0, 7, (2000, 64), generator=draw) + 0.5 - start) * theta / 7  # but for what float32 cuts off
    noise = Noise(0, torch.arange(len(ties)))
    with watched() as answered:
        found = neuron.window(ties, noise)
    assert answered == [True]
    assert same(found, neuron.count(ties * 7, noise))
    assert len((found - (ties * 7 / theta + start).floor()).unique()) == 2  # both sides of the ties are met


@needs_compiler
def test_negative_zero_stays_in_the_membrane() -> None:
    neuron = IntegrateAndFire(torch.tensor([0.5]), 2, Place(0, 2))
    train, after = neuron.spike_train(torch.tensor([[-0.0]]), torch.full((2, 1, 1), -0.0), 0, Noise(0, torch.arange(1)))
    assert not train.any()
    assert torch.signbit(after).all()


@needs_compiler
@pytest.mark.parametrize("what", ["theta", "offset", "worth"])
def test_parameters_of_another_type_are_left_to_torch(what: str) -> None:
    given: dict[str, Any] = {name: torch.ones(3) for name in ("theta", "offset", "worth")}
    x, site = torch.rand(2, 3), {"axis": 1, "steps": 4, "low": 0, "most": 4}
    assert native.two_phase(x, Population(**site, **given)) is not None
    assert native.two_phase(x, Population(**site, **given | {what: torch.ones(3).double()})) is None


@needs_compiler
def test_currents_with_a_gradient_are_left_to_torch() -> None:
    neuron, currents = IntegrateAndFire(torch.tensor([0.5]), 2, Place(0, 2)), torch.rand(2, 1, 3, requires_grad=True)
    _, after = neuron.spike_train(torch.zeros(1, 3), currents, 0, Noise(0, torch.arange(1)))
    after.sum().backward()
    assert torch.equal(currents.grad, torch.ones(2, 1, 3))


@needs_compiler
def test_nothing_runs_for_gradients_no_numbers_and_images_that_are_no_whole_rows() -> None:
    site = Population(1, torch.ones(3), None, None, 4, 0, 4)
    table, images = torch.zeros(4 * 256, 2), torch.arange(2)
    assert native.two_phase(torch.rand(2, 3, requires_grad=True), site) is None
    assert native.two_phase(torch.rand(0, 3), site) is None
    assert native.tpp(torch.rand(3, 3), site, table, 256, 0, images) is None
    assert native.two_phase(torch.rand(2, 3, device="meta"), site) is None


@needs_compiler
@pytest.mark.parametrize(("neuron", "executor"), [("if", "layers"), ("two-phase", "counts"), ("tpp", "counts")])
def test_a_network_answers_the_same(network: nn.Module, images: Tensor, neuron: str, executor: str) -> None:
    graph = prepare(network.float(), images.float())
    values = {site.name: torch.linspace(0.5, 2, site.channels) for site in graph.sites}
    model = convert(graph, Thresholds(values, None, "given", "channel"), neuron=neuron, steps=4)
    with watched() as answered:
        found = model(images.float()), model.activity(images.float())
    assert len(answered) >= len(graph.sites)
    assert all(answered)
    with plain():
        expected = model(images.float()), model.activity(images.float())
    assert same(found[0], expected[0])
    assert all(same(found[1][name], counts) for name, counts in expected[1].items())
    assert any(counts.any() for counts in expected[1].values())


@given(positions=st.integers(1, 500), most=st.integers(1, 500))
def test_a_row_goes_through_the_channels_as_often_as_divides_the_positions(positions: int, most: int) -> None:
    assert _times(positions, most) == max(n for n in range(1, most + 1) if positions % n == 0)


@needs_compiler
@settings(max_examples=60)
@given(
    sizes=st.tuples(*[st.sampled_from([1, 2, 3, 40])] * 4),
    last=st.booleans(),
    shared=st.booleans(),
    added=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_values_of_counts_have_the_bits_of_plain_torch(
    sizes: tuple[int, ...], last: bool, shared: bool, added: bool, seed: int
) -> None:
    draw, order = torch.Generator().manual_seed(seed), torch.channels_last if last else torch.contiguous_format
    counts = torch.randint(0, 256, sizes, generator=draw, dtype=torch.uint8).contiguous(memory_format=order)
    plus = torch.randn(sizes, generator=draw).contiguous(memory_format=order) if added else None
    worth = torch.rand(1 if shared else sizes[1], 1, 1, generator=draw)
    found = native.values(counts, Population(1, worth, None, worth, 1, 0, 255), plus)
    assert found is not None
    assert found.stride() == counts.stride()
    assert torch.equal(found, counts * worth if plus is None else plus + counts * worth)


@needs_compiler
def test_values_of_counts_that_lie_otherwise_are_left_to_torch() -> None:
    counts, plus = torch.ones(2, 3, 4, 5, dtype=torch.uint8), torch.ones(2, 3, 4, 5)
    site = Population(1, torch.ones(3), None, torch.ones(3), 1, 0, 255)
    assert native.values(counts, site, plus) is not None
    assert native.values(counts[..., ::2], site) is None
    assert native.values(counts.contiguous(memory_format=torch.channels_last), site, plus) is None
    assert native.values(counts, site, plus.double()) is None
    assert native.values(counts, site, plus.clone().requires_grad_()) is None
    assert native.values(counts, site, plus[:1]) is None
    assert native.values(counts, site._replace(worth=torch.ones(3).double()), plus) is None

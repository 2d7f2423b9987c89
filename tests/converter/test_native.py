"""Compiled neurons against plain torch, bit by bit; and what becomes of compilers and caches that do not work."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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
from snnconvert.converter.neurons import NEURONS, Correction, IntegrateAndFire, Neuron, Noise, Place
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
        def call(*args: Any) -> Any:
            found = function(*args)
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
        """Return inputs: near ties, at ties, and what is special."""
        _, channels, a, b = self.sizes
        shape = {
            "vectors": (channels,),
            "sequences": (channels, a),
            "tokens": (a, channels),
            "heads": (a, channels, b),
            "volumes": (channels, a, b, 2),
        }.get(self.layout.replace("last volumes", "volumes"), (channels, a, b))
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

    @property
    def images(self) -> int:
        return self.sizes[0] // self.rows

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


MOVED = ("nothing", "bias", "bias by step", "potential", "potential by neuron", "everything")
CASES = st.builds(
    Case,
    layout=st.sampled_from(list(AXIS)),
    sizes=st.tuples(st.sampled_from([1, 2, 6]), st.sampled_from([1, 3, 8]), *[st.sampled_from([1, 2, 5])] * 2),
    steps=st.sampled_from([1, 3, 4, 8]),
    burst=st.sampled_from([1, 1, 3]),
    signed=st.booleans(),
    shared=st.booleans(),
    worth=st.booleans(),
    moved=st.sampled_from(MOVED),
    rows=st.just(1),
    gaps=st.sampled_from([False, False, False, True]),
    double=st.sampled_from([False, False, False, True]),
    seed=st.integers(0, 9999),
)
ONE = Case("images", (2, 3, 4, 5), 4, 1, False, False, True, "nothing", 1, False, False, 0)


def compare_windows(kind: str, case: Case) -> None:
    x = case.draw(case.sizes[0])
    neuron, noise = case.neuron(kind, x), Noise(case.seed, torch.arange(case.images) * 3)
    worth = neuron.height / case.steps if case.worth else None
    with watched() as answered:
        found = neuron.window(x, noise, worth)
    with plain():
        expected = neuron.window(x, noise, worth)
    assert answered == [case.readable(x, neuron.offset, case.images if kind == "tpp" else len(x))]
    assert same(found, expected)
    counts = neuron.count(x * case.steps, noise)
    assert same(found, counts if worth is None else counts * worth)


def compare_trains(case: Case, begin: str, steady: bool, **options: float) -> None:
    batch = case.sizes[0]
    flat = case.draw(case.steps * batch)
    currents = flat[:batch].expand(case.steps, batch, *flat.shape[1:]) if steady else flat.unflatten(0, (-1, batch))
    neuron = case.neuron("if", currents[0], **options)
    potential = neuron.start(currents[0]) if begin == "start" else case.draw(batch)
    potential = potential.contiguous() if begin == "contiguous" else potential
    noise, again = Noise(0, torch.arange(batch)), potential.clone()
    worth = neuron.height if case.worth else None
    with watched() as answered:
        found, after = neuron.spike_train(potential, currents, 0, noise, worth)
    with plain():
        expected, then = neuron.spike_train(again, currents, 0, noise, worth)
    assert same(found, expected)
    assert same(after, then)
    if case.burst == 1 and case.moved in ("nothing", "potential", "potential by neuron"):
        strides = zip(currents.shape[1:], currents.stride()[1:], potential.stride(), strict=True)
        alike = all(size == 1 or a == b for size, a, b in strides)
        assert answered == [alike and case.readable(potential, None, batch)]
    if case.moved == "bias by step" or case.burst > 1:
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
@pytest.mark.parametrize("layout", AXIS)
@pytest.mark.parametrize("kind", NEURONS)
def test_every_layout_has_its_compiled_loop(kind: str, layout: str) -> None:
    for moved in ("nothing", "bias", "potential"):
        case = ONE._replace(layout=layout, moved=moved, signed=layout == "last")
        x = case.draw(2)
        assert case.readable(x, None, 2)
        if kind == "if":
            compare_trains(case, "anywhere", False)
        else:
            compare_windows(kind, case)


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
def test_negative_zero_stays_in_the_membrane() -> None:
    neuron = IntegrateAndFire(torch.tensor([0.5]), 2, Place(0, 2))
    train, after = neuron.spike_train(torch.tensor([[-0.0]]), torch.full((2, 1, 1), -0.0), 0, Noise(0, torch.arange(1)))
    assert not train.any()
    assert torch.signbit(after).all()


@needs_compiler
def test_a_nan_stays_where_it_is() -> None:
    x = torch.zeros(1, 40)
    x[0, 17] = torch.nan
    for kind in ("two-phase", "tpp"):
        found = NEURONS[kind](torch.tensor([0.5]), 4, Place(0, 2)).window(x, Noise(0, torch.arange(1)))
        assert found.isnan().nonzero().tolist() == [[0, 17]], kind


@needs_compiler
@pytest.mark.parametrize("what", ["theta", "offset", "worth"])
def test_parameters_of_another_type_are_left_to_torch(what: str) -> None:
    given: dict[str, Any] = {name: torch.ones(3) for name in ("theta", "offset", "worth")}
    x, site = torch.rand(2, 3), {"axis": 1, "steps": 4, "low": 0, "most": 4}
    assert native.two_phase(x, Population(**site, **given)) is not None
    assert native.two_phase(x, Population(**site, **given | {what: torch.ones(3).double()})) is None


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


def said(kind: str, neuron: Neuron, x: Tensor) -> Tensor:
    noise = Noise(1, torch.arange(len(x)))
    if kind != "if":
        return neuron.window(x, noise, neuron.height)
    train, potential = neuron.spike_train(neuron.start(x), x.expand(neuron.steps, *x.shape), 0, noise, neuron.height)
    return torch.cat([train, potential[None]])


def in_threads(counts: tuple[int, ...]) -> list[bool]:
    """Compare sites large enough to be shared by threads with plain torch, in a process of its own."""
    agree = []
    for layout in ("images", "last", "tokens", "vectors"):
        case = ONE._replace(layout=layout, sizes=(300, 128, 1, 1) if layout == "vectors" else (50, 24, 21, 23))
        x = case.draw(case.sizes[0])
        assert x.numel() > 16384  # below, one thread does it
        for kind in NEURONS:
            neuron = case.neuron(kind, x)
            with plain():
                expected = said(kind, neuron, x)
            for threads in counts:
                torch.set_num_threads(threads)
                with watched() as answered:
                    agree.append(same(said(kind, neuron, x), expected) and answered == [True])
    return agree


@needs_compiler
def test_threads_change_nothing(start: Callable[..., Any]) -> None:
    (worker,) = start(in_threads, (1, 2, 3, 5), count=1, join=False)
    assert worker.result == [True] * 4 * 3 * 4


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Begin with an empty cache, and forget afterwards what came of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.library.cache_clear()
    yield tmp_path / "cache" / "snnconvert"
    native.library.cache_clear()


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("#!/bin/sh", *lines)))
    path.chmod(0o755)
    return str(path)


def without_functions() -> None:
    """Check that neurons run plainly."""
    with watched() as answered:
        x = torch.tensor([[0.2, 0.6, 9.0]])
        for kind in ("two-phase", "tpp"):
            found = NEURONS[kind](torch.ones(3), 4, Place(0, 2)).window(x, Noise(0, torch.arange(1)))
            assert found[0, 2] == 4
        train, _ = NEURONS["if"](torch.ones(3), 1, Place(0, 2)).spike_train(torch.zeros(1, 3), x[None], 0, Noise(0, x))
    assert train.tolist() == [[[0, 0, 1]]]
    assert answered == [False] * 3


def test_without_a_compiler_torch_computes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiler", lambda: None)
    assert native.library() == Library(None, "no C++ compiler was found")
    without_functions()
    assert not cache.exists()


def test_a_compiler_that_fails_is_named_with_its_words(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = script(tmp_path / "gcc-1", r"printf 'no space left, caf\351 open' >&2", "exit 1")  # Latin-1
    monkeypatch.setattr(native, "compiler", lambda: path)
    found = native.library()
    assert found == Library(None, f"{path} did not compile them: no space left, caf\N{REPLACEMENT CHARACTER} open")
    without_functions()
    assert list(cache.iterdir()) == []


def test_a_compiler_that_is_gone_or_makes_nothing_is_a_reason(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (str(tmp_path / "gone"), script(tmp_path / "idle", "exit 0")):
        native.library.cache_clear()
        monkeypatch.setattr(native, "compiler", lambda path=path: path)
        assert native.library().functions is None
        assert native.library().reason.startswith(f"{path} did not compile them: [Errno 2]")
    without_functions()


@pytest.mark.parametrize("what", ["cache", "home", "source"])
def test_a_missing_folder_or_file_is_a_reason(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(native, "compiler", lambda: "g++")
    if what == "cache":
        (tmp_path / "cache").write_text("a file")
    elif what == "home":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
    else:
        monkeypatch.setattr(native, "SOURCE", tmp_path / "native.c")
    words = {"cache": "Not a directory", "home": "Could not determine home directory", "source": "No such file"}
    found = native.library()
    assert found.functions is None
    assert words[what] in found.reason
    without_functions()


@needs_compiler
def test_a_compiler_without_threads_will_do(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path / "cc", f'case "$*" in *-fopenmp*) exit 1;; esac; exec {compiler()} "$@"')
    monkeypatch.setattr(native, "compiler", lambda: path)
    assert native.library().functions is not None, native.library().reason
    compare_windows("tpp", ONE)


@needs_compiler
def test_it_is_compiled_once_and_again_where_the_file_is_damaged(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    path = script(tmp_path / "cc", f'echo run >> {log}; exec {compiler()} "$@"')
    monkeypatch.setattr(native, "compiler", lambda: path)
    assert native.library().functions is not None
    (made,) = cache.iterdir()
    assert native.library().reason == f"compiled by {path}, kept in {made}"
    native.library.cache_clear()
    assert native.library().functions is not None
    assert log.read_text() == "run\n"
    for damage in (b"", b"no library", made.read_bytes()[:64]):
        # elsewhere: what is loaded already is found by its name, and must not be written to
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"other-{len(damage)}"))
        other = native.cache_folder() / made.name
        other.parent.mkdir(parents=True)
        other.write_bytes(damage)
        log.write_text("")
        native.library.cache_clear()
        assert native.library().functions is not None, native.library().reason
        assert log.read_text() == "run\n"
        assert len(other.read_bytes()) == len(made.read_bytes())
        compare_windows("two-phase", ONE)


def compile_at_once(folder: str, name: str) -> tuple[bool, bool]:
    """Compile when the other process is there too; return whether there are functions, and whether they are right."""
    os.environ["XDG_CACHE_HOME"] = folder
    Path(folder, name).touch()
    until = time.monotonic() + 60
    while len(list(Path(folder).glob("process *"))) < 2 and time.monotonic() < until:
        time.sleep(0.001)
    native.library.cache_clear()
    compare_windows("two-phase", ONE)
    return native.library().functions is not None, str(folder) in native.library().reason


@needs_compiler
def test_two_processes_may_compile_at_once(tmp_path: Path, start: Callable[..., Any]) -> None:
    workers = [start(compile_at_once, str(tmp_path), f"process {n}", count=1, join=False)[0] for n in range(2)]
    assert [worker.result for worker in workers] == [(True, True)] * 2
    assert len(list((tmp_path / "snnconvert").iterdir())) == 1  # nothing is left beside it


@given(positions=st.integers(1, 500), most=st.integers(1, 500))
def test_a_row_goes_through_the_channels_as_often_as_divides_the_positions(positions: int, most: int) -> None:
    assert _times(positions, most) == max(n for n in range(1, most + 1) if positions % n == 0)


def test_the_source_is_installed() -> None:
    assert native.SOURCE.read_text().startswith("/* The neurons of one site")

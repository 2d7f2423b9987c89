"""Triton kernels: run by its interpreter against plain torch, numpy and C, and compiled for a GPU that is not here."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from snnconvert.converter import native_check, triton_neurons
from snnconvert.converter.convert import convert
from snnconvert.converter.fused import compiler
from snnconvert.converter.graph import prepare
from snnconvert.converter.neurons import CONVERTIBLE, NEURONS, Correction, Neuron, Noise, Place
from snnconvert.converter.neurons.noise import key_of
from snnconvert.converter.neurons.tpp import COUNT, GRID, _table
from snnconvert.converter.population import Population
from snnconvert.converter.thresholds import Thresholds
from snnconvert.converter.triton_neurons import Kernels, Launch, kernels
from snnconvert.converter.ways import Kernel

pytest.importorskip("triton", reason="triton is not installed; it is there for Linux on x86_64")

SPECIAL = [0.0, -0.0, np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 16777217.0, -0.5, 0.5]
AXIS = {"vectors": 1, "sequences": 1, "tokens": 2, "heads": 2, "images": 1, "last": 1, "last volumes": 1}
"""What holds the channels; the layouts called last are in torch's channels-last order."""


def copy_of_kernels(patch: pytest.MonkeyPatch, interpret: bool) -> ModuleType:
    """Return the kernels, imported anew: where they are decorated is decided whether they are interpreted."""
    patch.setenv("TRITON_INTERPRET", "1" if interpret else "0")
    spec = importlib.util.find_spec("snnconvert.converter.triton_kernels")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def interpreted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        with pytest.MonkeyPatch.context() as environment:
            module = copy_of_kernels(environment, interpret=True)
        patch.setattr(triton_neurons, "kernels", lambda: Kernels(module, "interpreted"))
        yield


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether all bits are the same, but for those that tell one NaN from another."""
    bits = [torch.where(x.isnan(), torch.nan, x).contiguous().view(torch.int32) for x in (one, other)]
    return one.dtype == other.dtype == torch.float32 and torch.equal(*bits)


def run(launch: Launch | None) -> Any:
    """Return the answer of a kernel; numpy, which computes it, must not warn about what is too large or no number."""
    assert launch is not None
    with np.errstate(all="ignore"):
        return launch.run()


class Case(NamedTuple):
    """A population of neurons, and tensors for it."""

    layout: str
    sizes: tuple[int, ...]  # batch, channels, and two more
    steps: int
    burst: int
    signed: bool
    shared: bool  # one threshold for all channels
    worth: bool
    moved: bool
    seed: int

    def draw(self, batch: int) -> Tensor:
        """Return inputs: of any size, multiples of 1/16, which are ties, and what is special."""
        _, channels, a, b = self.sizes
        shapes = {"vectors": (channels,), "sequences": (channels, a), "tokens": (a, channels)}
        shapes |= {"heads": (a, channels, b), "last volumes": (channels, a, b, 2)}
        shape = (batch, *shapes.get(self.layout, (channels, a, b)))
        rng = np.random.default_rng([self.seed, batch])
        x = rng.normal(0.3, 1, shape)
        x = np.where(rng.random(shape) < 0.5, np.round(x * 16) / 16, x)
        x = np.where(rng.random(shape) < 0.1, rng.choice(SPECIAL, shape), x)
        return self.ordered(torch.from_numpy(x).float())

    def ordered(self, x: Tensor) -> Tensor:
        orders = {"last": torch.channels_last, "last volumes": torch.channels_last_3d}
        return x.contiguous(memory_format=orders.get(self.layout, torch.contiguous_format))

    def per_channel(self, shift: int) -> Tensor:
        rng = np.random.default_rng([self.seed, shift])
        values = rng.choice([0.25, 0.5, 1.0, 2.0, 0.3, 1.7], 1 if self.shared else self.sizes[1])
        return torch.from_numpy(values).float()

    def neuron(self, kind: str, rank: int) -> Neuron:
        channels = (self.per_channel(1) - 1).expand(self.sizes[1])
        moved = Correction(None if kind == "if" else channels / 4, channels, self.per_channel(3))
        place = Place(self.seed % 7, rank, AXIS[self.layout], self.signed and kind != "if")
        correction = moved if self.moved else Correction()
        return NEURONS[kind](self.per_channel(0), self.steps, place, correction, 1 if kind == "if" else self.burst)


CASES = st.builds(
    Case,
    layout=st.sampled_from(list(AXIS)),
    sizes=st.tuples(st.sampled_from([1, 2, 6]), st.sampled_from([1, 3, 8]), *[st.sampled_from([1, 2, 5])] * 2),
    steps=st.sampled_from([1, 3, 4, 7]),
    burst=st.sampled_from([1, 1, 3]),
    signed=st.booleans(),
    shared=st.booleans(),
    worth=st.booleans(),
    moved=st.booleans(),
    seed=st.integers(0, 9999),
)
ONE = Case("images", (2, 3, 4, 5), 4, 1, False, False, True, True, 0)


def launch_of(neuron: Neuron, x: Tensor, noise: Noise, worth: Tensor | None) -> Launch:
    """Return the launch for the window of ``neuron``."""
    population = neuron.population(neuron.offset, worth)
    if not neuron.stochastic:
        launch = triton_neurons.two_phase(x, population)
    else:
        table, key = _table(neuron.most, x.dtype, x.device), key_of(neuron.site, COUNT)
        launch = triton_neurons.tpp(x, population, table, GRID, key, noise.images)
    assert launch is not None
    return launch


def compare_windows(kind: str, case: Case, rows: int = 1) -> None:
    x, images = case.draw(case.sizes[0]), case.sizes[0] // rows
    neuron, noise = case.neuron(kind, x.ndim), Noise(case.seed, torch.arange(images) * 3)
    worth = neuron.height / case.steps if case.worth else None
    found, counts = run(launch_of(neuron, x, noise, worth)), neuron.count(x * case.steps, noise)
    assert same(found, counts if worth is None else counts * worth)
    assert found.stride() == torch.empty_like(x).stride()
    if compiler() is not None:
        assert same(found, neuron.window(x, noise, worth))


def compare_trains(case: Case, steady: bool) -> None:
    batch = case.sizes[0]
    flat = case.draw((case.steps + 1) * batch).unflatten(0, (-1, batch))
    potential, currents = case.ordered(flat[0]), flat[1:]
    if steady:
        currents = potential.expand(case.steps, *potential.shape)
    neuron, before = case.neuron("if", potential.ndim), potential.clone()
    drive, worth = neuron.potential if case.moved else None, neuron.height if case.worth else None
    train, after = run(triton_neurons.integrate_and_fire(potential, currents, neuron.population(drive, worth)))
    assert same(potential, before)
    assert all(step.stride() == torch.empty_like(potential).stride() for step in train)
    v, theta, worth_ = (x.numpy() for x in (potential, neuron.threshold, neuron.height))
    with np.errstate(over="ignore", invalid="ignore"):
        for current, spikes in zip(currents, train, strict=True):
            v = v + current.numpy() if drive is None else v + current.numpy() + drive.numpy()
            fired = (v >= theta).astype(np.float32)
            v = v - theta * fired
            assert same(spikes, torch.from_numpy(fired * worth_ if case.worth else fired))
    assert same(after, torch.from_numpy(v))


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("kind", ["two-phase", "tpp"])
@settings(max_examples=40)
@given(case=CASES)
def test_windows_have_the_bits_of_plain_torch_and_of_c(kind: str, case: Case) -> None:
    compare_windows(kind, case)


@pytest.mark.usefixtures("interpreted")
@settings(max_examples=40)
@given(case=CASES, steady=st.booleans())
def test_trains_have_the_bits_of_numpy(case: Case, steady: bool) -> None:
    compare_trains(case, steady)


@pytest.mark.usefixtures("interpreted")
@settings(max_examples=15)
@given(case=CASES, rows=st.sampled_from([2, 3]))
def test_rows_of_an_image_have_the_random_numbers_of_plain_torch(case: Case, rows: int) -> None:
    layout = {"last": "images", "last volumes": "images"}.get(case.layout, case.layout)
    compare_windows("tpp", case._replace(sizes=(6, *case.sizes[1:]), layout=layout), rows)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("layout", AXIS)
@pytest.mark.parametrize("signed", [False, True])
def test_every_layout_has_its_kernel_over_several_tiles(layout: str, signed: bool) -> None:
    case = ONE._replace(layout=layout, signed=signed, sizes=(2, 37, 9, 11))
    for sizes in (case.sizes, (1, 2, 3, 1300), (1, 1100, 2, 1)):  # rows, columns and channels of more than a tile
        for kind in ("two-phase", "tpp"):
            compare_windows(kind, case._replace(sizes=sizes))
        compare_trains(case._replace(sizes=sizes), steady=False)


@pytest.mark.usefixtures("interpreted")
def test_close_to_a_tie_every_rounding_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    theta, start = (rng.random((2, 64)) + 0.25).astype(np.float32)
    ties = ((rng.integers(0, 7, (500, 64)) + 0.5 - start) * theta / 7).astype(
        np.float32
    )  # but for what float32 cuts off
    population = Population(1, torch.from_numpy(theta), torch.from_numpy(start * theta), None, 7, 0, 7)
    counts = run(triton_neurons.two_phase(torch.from_numpy(ties), population))
    v = (ties * np.float32(7) + start * theta) / theta
    assert np.array_equal(counts, np.clip(np.floor(v + np.float32(0.5)), 0, 7))
    assert len(np.unique(np.floor(v + np.float32(0.5)) - np.floor(ties / theta * 7 + start))) == 2  # both sides are met


@pytest.mark.usefixtures("interpreted")
def test_negative_zero_stays_in_the_membrane() -> None:
    population = Population(1, torch.tensor([0.5]), None, None, 2, 0, 2)
    train, after = run(
        triton_neurons.integrate_and_fire(torch.tensor([[-0.0]]), torch.full((2, 1, 1), -0.0), population)
    )
    assert not train.any()
    assert torch.signbit(after).all()


def test_what_does_not_fit_is_left_to_torch() -> None:
    x, one, table, images = torch.rand(2, 3, 4, 5), torch.ones(3, 1, 1), torch.zeros(1024, 2), torch.arange(2)
    site = Population(1, one, None, None, 4, 0, 4)
    assert triton_neurons.two_phase(x, site) is not None
    for other in (x.double(), x[..., ::2], x.mT, x.clone().requires_grad_(), x[:0]):
        assert triton_neurons.two_phase(other, site) is None
    for name in ("theta", "offset", "worth"):
        for wrong in (one.double(), torch.ones(3, 4, 5), one.to("meta")):
            assert triton_neurons.two_phase(x, site._replace(**{name: wrong})) is None
    assert triton_neurons.tpp(x, site, table, 256, 0, images) is not None
    assert triton_neurons.tpp(x, site, table, 256, 0, torch.arange(3)) is None
    assert triton_neurons.tpp(x, site, table.double(), 256, 0, images) is None
    assert triton_neurons.tpp(x, site, table, 256, 0, images.to("meta")) is None
    assert triton_neurons.integrate_and_fire(x, x[None], site) is not None
    assert triton_neurons.integrate_and_fire(x, x.contiguous(memory_format=torch.channels_last)[None], site) is None
    assert triton_neurons.integrate_and_fire(x, x[None].clone().requires_grad_(), site) is None
    for limit, most in (("_MOST_NUMBERS", 3 * 4 * 5), ("_MOST_TILES", 1)):
        for excess in (0, 1):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(triton_neurons, limit, most - excess)
                assert (triton_neurons.two_phase(x, site) is None) == excess


def test_without_triton_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    missing = kernels.__wrapped__()
    assert missing == (None, "triton cannot be imported: import of triton halted; None in sys.modules")
    monkeypatch.setattr(triton_neurons, "kernels", lambda: missing)
    assert triton_neurons.two_phase(torch.rand(2, 3), Population(1, torch.ones(3), None, None, 4, 0, 4)) is None


class Hopper:
    """Stands in for the driver of a GPU: enough to compile for it."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@pytest.fixture
def assemble(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Return the assembler code that a launch would run on a GPU, after the assembler took it."""
    from triton.runtime import driver

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(driver, "_active", Hopper())
    module = copy_of_kernels(monkeypatch, interpret=False)

    def assemble(launch: Launch | None, fusion: bool = False) -> str:
        assert launch is not None
        options = launch.constants | {"enable_fp_fusion": fusion}
        compiled = getattr(module, launch.kernel).warmup(*launch.args, **options, grid=launch.grid)
        assert compiled.asm["cubin"]
        return str(compiled.asm["ptx"])

    return assemble


@pytest.mark.parametrize("kind", ["two-phase", "tpp", "if"])
def test_compiled_for_a_gpu_no_product_is_fused_with_a_sum(assemble: Callable[..., str], kind: str) -> None:
    single = ONE._replace(sizes=(1, 1, 1, 1), steps=1, moved=False, worth=False)  # ones are compiled into the kernel
    whole = ONE._replace(sizes=(2, 16, 4, 8))  # multiples of 16 too
    for case in (single, whole, whole._replace(signed=True, layout="last", shared=True)):
        x = case.draw(case.sizes[0])
        neuron, noise = case.neuron(kind, x.ndim), Noise(0, torch.arange(len(x)))
        worth = neuron.height if case.worth else None
        if kind == "if":
            currents = x.expand(case.steps, *x.shape)
            launch = triton_neurons.integrate_and_fire(x, currents, neuron.population(neuron.potential, worth))
        else:
            launch = launch_of(neuron, x, noise, worth)
        code = assemble(launch)
        assert "add.rn.f32" in code
        assert "fma" not in code
        assert ("st.global.v4" in code) == (case is not single)
        if kind != "if":
            assert "div.rn.f32" in code
            assert "div.full" not in code
        if case is not single:
            assert "fma.rn.f32" in assemble(launch, fusion=True)


def on_a_gpu(patch: pytest.MonkeyPatch) -> list[str]:
    """Let all tensors be on a GPU, with kernels of which none was used yet; return the list of those launched."""
    launched: list[str] = []
    run = Launch.run
    patch.setattr(Launch, "run", lambda launch: (launched.append(launch.kernel), run(launch))[1])
    for name in CONVERTIBLE:
        ways = NEURONS[name].ways
        assert ways is not None
        patch.setattr(ways, "kernel", Kernel(ways.kernel.function, ways.name))
        patch.setattr(ways, "fused", None)  # calling it would fail
    patch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    return launched


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("neuron", CONVERTIBLE)
def test_a_network_on_a_gpu_answers_as_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, network: nn.Module, images: Tensor, neuron: str
) -> None:
    graph = prepare(network.float(), images.float())
    values = {site.name: torch.linspace(0.5, 2, site.channels) for site in graph.sites}
    model = convert(graph, Thresholds(values, None, "given", "channel"), neuron=neuron, steps=4)
    expected = model(images.float())
    launched = on_a_gpu(monkeypatch)
    for _ in range(2):
        assert same(model(images.float()), expected)
    assert native_check.given_up() == {}
    assert len(launched) >= 2 * len(graph.sites)
    assert expected.any()


@pytest.mark.usefixtures("interpreted")
def test_the_check_of_this_machine_looks_at_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = on_a_gpu(monkeypatch)
    with np.errstate(all="ignore"):
        found = native_check.check("cpu:0")
    assert [(each.neuron, each.different) for each in found] == [(name, 0) for name in CONVERTIBLE]
    assert {name: launched.count(name) for name in launched} == {"integrate_and_fire": 4, "two_phase": 8, "tpp": 8}
    assert native_check.given_up() == {}


@pytest.mark.usefixtures("interpreted")
def test_the_check_says_what_was_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_gpu(monkeypatch)
    monkeypatch.setattr(NEURONS["tpp"].ways, "fused", NEURONS["tpp"].ways.kernel.function)
    run = Launch.run
    monkeypatch.setattr(Launch, "run", lambda launch: run(launch).add_(launch.kernel == "tpp"))
    monkeypatch.setattr(native_check, "CONVERTIBLE", ("two-phase", "tpp"))
    with np.errstate(all="ignore"):
        assert [each.different for each in native_check.check("cpu:0")] == [0, 0]
    assert native_check.given_up() == {"tpp": "ArithmeticError: compiled, it gives other numbers"}

"""Which way a function of a site is run, and that a kernel is used only while it says what plain torch says."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from snnconvert.converter import native, triton_neurons, ways
from snnconvert.converter.fused import Fused, compiler
from snnconvert.converter.neurons import CONVERTIBLE, NEURONS, Noise, Place, TwoPhase
from snnconvert.converter.population import Population
from snnconvert.converter.triton_neurons import Kernels
from snnconvert.converter.ways import Kernel, Ways

SITE = Population(1, torch.ones(3), None, None, 4, 0, 4)


def plain(x: Tensor, neurons: Population) -> Tensor:
    """Return what has no rounding, and keeps NaN."""
    return x * neurons.steps


class Device:
    """Stands in for the kernels: what they answer, how often they were launched."""

    def __init__(self, patch: pytest.MonkeyPatch, answer: Callable[[Tensor], Any] = lambda x: x * 4) -> None:
        self.launches = 0
        self.answer = answer
        patch.setattr(triton_neurons, "kernels", lambda: Kernels(triton_neurons, "stands in"))
        patch.setattr(triton_neurons, "two_phase", self.two_phase)

    def two_phase(self, x: Tensor, neurons: Population) -> Any:
        def run() -> Any:
            self.launches += 1
            return self.answer(x)

        return SimpleNamespace(kind=x.shape, run=run) if x.dtype == torch.float32 else None


def inputs(*shape: int) -> Tensor:
    x = torch.randn(*shape, 3, generator=torch.Generator().manual_seed(0))
    x.view(-1)[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    return x


def right(found: Any, x: Tensor) -> bool:
    return torch.equal(torch.nan_to_num(found), torch.nan_to_num(x * 4)) and bool(found[0, 0].isnan())


def test_each_kind_is_compared_when_it_first_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    device, asked = Device(monkeypatch), []
    kernel = Kernel(lambda x, neurons: (asked.append(x.shape), plain(x, neurons))[1], "two_phase")
    for shape in ((2,), (2,), (4,), (2,), (4,)):
        assert right(kernel(inputs(*shape), SITE), inputs(*shape))
    assert asked == [(2, 3), (4, 3)]
    assert device.launches == 5
    assert kernel.failure is None


def test_what_a_kernel_does_not_take_gives_none(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    kernel = Kernel(plain, "two_phase")
    assert kernel(inputs(2).double(), SITE) is None
    assert (device.launches, kernel.failure) == (0, None)


def fail(x: Tensor) -> Any:
    raise OSError("no space left on the device")


def one_off(x: Tensor) -> Tensor:
    found = x * 4
    found[-1, -1] += 2**-20
    return found


def another_nan(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), 0, x * 4)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fail, "OSError: no space left on the device"),
        (one_off, "ArithmeticError: compiled, it gives other numbers"),
        (another_nan, "ArithmeticError: compiled, it gives other numbers"),
    ],
)
def test_a_wrong_kernel_is_given_up_before_its_answer_is_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: Callable[[Tensor], Any], reason: str
) -> None:
    device = Device(monkeypatch, answer)
    kernel = Kernel(plain, "two_phase")
    with caplog.at_level(logging.INFO, logger=ways.__name__):
        assert right(kernel(inputs(2), SITE), inputs(2))
        assert kernel(inputs(2), SITE) is None
    assert kernel.failure == reason
    assert [record.getMessage() for record in caplog.records] == [f"not compiled: {reason}"]
    assert device.launches == 1


def test_what_fails_later_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(monkeypatch)
    kernel = Kernel(plain, "two_phase")
    assert right(kernel(inputs(2), SITE), inputs(2))
    device.answer = fail
    assert kernel(inputs(2), SITE) is None
    assert kernel.failure == "OSError: no space left on the device"


@pytest.mark.parametrize("triton", [False, True])
def test_on_a_gpu_it_is_triton_then_inductor(monkeypatch: pytest.MonkeyPatch, triton: bool) -> None:
    device = Device(monkeypatch)
    if not triton:
        monkeypatch.setattr(triton_neurons, "kernels", lambda: Kernels(None, "triton is missing"))
    fused: list[Tensor] = []
    way = Ways(plain, "two_phase", lambda x, neurons: (fused.append(x), plain(x, neurons))[1])
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    monkeypatch.setattr(native, "two_phase", None)  # calling it would fail
    x = inputs(2)
    for given in (x, x, x.double()):
        assert right(way(given, SITE), given)
    assert len(fused) == (1 if triton else 3)
    assert device.launches == (2 if triton else 0)
    assert way.kernel.failure == (None if triton else "triton is missing")


@pytest.mark.skipif(compiler() is None, reason="no C++ compiler was found")
def test_inductor_takes_populations_as_they_are() -> None:
    fused = Fused(TwoPhase.ways.kernel.function)
    for steps in (4, 7):
        neurons = SITE._replace(theta=torch.tensor([0.5, 0.3, 2]), worth=torch.ones(3) * 0.7, steps=steps, most=steps)
        for _ in range(2):  # the first time it is compared
            found = fused(inputs(5), neurons).numpy()
            theta, worth = neurons.theta.numpy(), np.float32(0.7)
            expected = np.floor(inputs(5).numpy() * np.float32(steps) / theta + np.float32(0.5)).clip(0, steps) * worth
            assert np.array_equal(found, expected, equal_nan=True)
    assert fused.failure is None
    assert fused.compiled is not None


@pytest.mark.parametrize("name", CONVERTIBLE)
def test_what_inductor_is_given_makes_the_same_neurons(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    neuron, noise, x = NEURONS[name](torch.rand(3) + 0.25, 19, Place(5, 2)), Noise(0, torch.arange(4)), inputs(4)
    currents = x.expand(19, 4, 3) / 4

    def answer() -> Tensor:
        if neuron.streaming:
            train, after = neuron.spike_train(neuron.start(x), currents, 0, noise, neuron.height)
            return torch.cat([train, after[None]])
        return neuron.window(x, noise, neuron.height)

    expected = answer()
    calls: list[Any] = []
    monkeypatch.setattr(Fused, "__call__", lambda fused, *args: (calls.append(args), fused.function(*args))[1])
    monkeypatch.setattr(triton_neurons, "kernels", lambda: Kernels(None, "triton is missing"))
    monkeypatch.setattr(neuron.ways, "kernel", Kernel(plain, name))
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    assert torch.equal(answer().nan_to_num(), expected.nan_to_num())
    assert len(calls) == (3 if neuron.streaming else 1)  # few steps at once are compiled
    assert expected.nan_to_num().unique().numel() > 3


@pytest.mark.parametrize("found", [None, torch.ones(2)])
def test_elsewhere_it_is_c_or_nothing(monkeypatch: pytest.MonkeyPatch, found: Tensor | None) -> None:
    device = Device(monkeypatch)
    monkeypatch.setattr(native, "two_phase", lambda x, neurons: found)
    assert Ways(plain, "two_phase")(inputs(2), SITE) is found
    assert device.launches == 0

"""Surrogate derivatives: their integrals by scipy, and their values by hand."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad

from snnconvert.model_zoo.baselines.surrogates import SURROGATES, arctangent, mt_gauss, mt_rect, mt_ste


def value(name: str, u: float, theta: float, most: int) -> float:
    return float(SURROGATES[name](torch.tensor([u]).double(), theta, most))


def edges(name: str, theta: float, most: int) -> list[float]:
    """Return where a surrogate jumps."""
    if name == "mt-ste":
        return [theta / 2, (most + 0.5) * theta]
    return [(j + side) * theta for j in range(1, most + 1) for side in (-0.25, 0.25)] if name == "mt-rect" else []


@pytest.mark.parametrize("most", [1, 2, 4])
@pytest.mark.parametrize("theta", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", SURROGATES)
def test_the_integral_is_the_number_of_thresholds(name: str, theta: float, most: int) -> None:
    wide = 2e4 if name == "arctangent" else 8
    ends = [-wide * theta, *edges(name, theta, most), *(j * theta for j in range(most + 2)), (most + wide) * theta]
    ends.sort()
    total = sum(quad(lambda u: value(name, u, theta, most), a, b, limit=200)[0] for a, b in pairwise(ends))
    assert total == pytest.approx(most, rel=2e-4 if name == "arctangent" else 1e-6)


def test_the_straight_through_window_is_exactly_m() -> None:
    for theta, most in ((0.25, 4), (2.0, 1)):
        u = torch.linspace(-theta, (most + 2) * theta, 4097).double()
        inside = [theta / 2 <= x <= (most + 0.5) * theta for x in u.tolist()]
        assert mt_ste(u, theta, most).tolist() == [1 / theta if x else 0.0 for x in inside]
        assert most * theta * value("mt-ste", theta, theta, most) == most


def test_values_by_hand() -> None:
    u = torch.tensor([0.9, 1.2, 1.4, 1.6, 2.0, 4.1, 5.0]) * 2
    assert mt_rect(u, 2.0, 4).tolist() == [1, 1, 0, 0, 1, 1, 0]
    assert mt_rect(torch.tensor([0.0, 0.2]), 2.0, 4).tolist() == [0, 0]
    normal = lambda d: math.exp(-(d**2) / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    # thresholds 2 and 4, a deviation of theta / 2 = 1
    assert value("mt-gauss", 2.5, 2.0, 2) == pytest.approx(normal(0.5) + normal(1.5), rel=1e-6)
    assert value("arctangent", 2.0, 2.0, 1) == pytest.approx(0.5, rel=1e-6)
    assert value("arctangent", 3.0, 2.0, 2) == pytest.approx(2 * 0.5 / (1 + (math.pi / 2) ** 2), rel=1e-6)


def test_one_threshold_of_arctangent_is_spikingjellys() -> None:
    x = torch.linspace(-3, 3, 61).double().requires_grad_()
    (torch.atan(math.pi / 2 * 2.0 * x) / math.pi + 0.5).sum().backward()
    assert torch.allclose(arctangent(x.detach() + 1, 1.0, 1), x.grad)


def test_potentials_are_left_as_they_were() -> None:
    for surrogate in SURROGATES.values():
        u = torch.linspace(-1, 4, 11)
        surrogate(u, 0.5, 3)
        assert torch.equal(u, torch.linspace(-1, 4, 11))
    assert mt_gauss(torch.zeros(2, 3), 1.0, 2).shape == (2, 3)

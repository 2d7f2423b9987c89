"""The closed form of TPP against the neuron stepped as its equations say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from snnconvert.converter.errors import UsageError
from snnconvert.converter.neurons import Noise, TwoPhaseProbabilistic
from snnconvert.converter.neurons.tpp import mean_count, mean_count_table, stochastic_count

TRIALS = 20_000


def stepped_counts(v: float, steps: int, trials: int = TRIALS) -> torch.Tensor:
    """Return the counts of ``trials`` neurons at potential ``v`` theta, fired step by step."""
    neuron = TwoPhaseProbabilistic(torch.tensor([2.0]).double(), steps, site=3, rank=2)
    noise = Noise(7, torch.arange(trials))
    potential, count = torch.full((trials, 1), 2.0 * v).double(), torch.zeros(trials, 1).double()
    for step in range(steps):
        spikes, potential = neuron.fire(potential, step, noise)
        count += spikes
    return count[:, 0]


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 16, 32])
def test_chi_square_of_the_closed_form_against_the_stepped_neuron(steps: int) -> None:
    generator = np.random.default_rng(steps)
    p_values = []
    for v in [0.05, 0.5, steps - 0.5, steps / 3, *generator.uniform(0, steps, 8)]:
        counts = stepped_counts(v, steps)
        low = int(np.floor(v))
        assert set(counts.int().tolist()) <= {low, low + 1}
        share = float(mean_count(torch.tensor(v).double(), steps)) - low
        expected = np.array([1 - share, share]) * TRIALS
        found = np.array([(counts == low).sum(), (counts == low + 1).sum()])
        if expected.min() > 5:
            p_values.append(stats.chisquare(found, expected).pvalue)
    assert len(p_values) >= 6
    assert min(p_values) > 1e-3 / len(p_values)


def test_the_table_is_that_of_the_exact_enumeration() -> None:
    # Expected counts for k = 0: 1 - prod_i (1 - f / i), from the definition of the neuron.
    for steps in (4, 8, 16, 32):
        for f in (0.05, 0.25, 0.5):
            exact = 1 - np.prod([1 - f / i for i in range(1, steps + 1)])
            assert float(mean_count(torch.tensor(f).double(), steps)) == pytest.approx(exact, abs=1e-4)


def test_interpolation_errs_by_less_than_4e_5_at_32_steps() -> None:
    v = torch.rand(5000, dtype=torch.float64) * 32
    k, f = v.floor().long(), v - v.floor()
    exact = torch.stack([recursion(int(a), float(b), 32) for a, b in zip(k, f, strict=True)])
    assert (mean_count(v, 32) - (k + exact)).abs().max() < 4e-5


def recursion(k: int, f: float, steps: int) -> torch.Tensor:
    p = np.zeros(steps + 2)
    p[0] = 1.0  # p[j + 1] is P_n(j)
    for n in range(1, steps + 1):
        new = np.zeros_like(p)
        new[0] = 1.0
        j = np.arange(min(n, k + 1))
        up = (j + f) / n
        new[j + 1] = up * p[j] + (1 - up) * p[j + 1]
        p = new
    return torch.tensor(p[k + 1])


@given(st.floats(-2, 40), st.integers(1, 32))
def test_the_mean_lies_between_the_two_counts(v: float, steps: int) -> None:
    mean = float(mean_count(torch.tensor(v).double(), steps))
    clipped = min(max(v, 0.0), float(steps))
    assert np.floor(clipped) - 1e-9 <= mean <= np.floor(clipped) + 1 + 1e-9
    assert 0 <= mean <= steps


@given(st.integers(0, 32), st.integers(1, 32), st.floats(0, 0.9999999))
def test_whole_potentials_have_no_count_error(k: int, steps: int, u: float) -> None:
    count = stochastic_count(torch.tensor([float(k)]).double(), torch.tensor([u]).double(), steps)
    assert count.item() == min(k, steps)


def test_the_mean_is_symmetric_and_monotone() -> None:
    table = mean_count_table(8)
    assert (table.diff() >= 0).all()
    assert torch.allclose(table, 8 - table.flip(0))


def test_below_zero_never_and_above_the_threshold_always() -> None:
    assert stepped_counts(-0.3, 4, 100).max() == 0
    assert stepped_counts(4.2, 4, 100).min() == 4


def test_windows_too_long_for_the_table_are_refused() -> None:
    with pytest.raises(UsageError, match="at most T = 4096, got 4097"):
        TwoPhaseProbabilistic(torch.ones(1), 4097, 0, 2)

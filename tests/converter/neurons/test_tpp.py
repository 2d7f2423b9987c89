"""The closed form of TPP against the neuron stepped as its equations say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from snnconvert.converter.errors import UsageError
from snnconvert.converter.neurons import Noise, Place, TwoPhaseProbabilistic
from snnconvert.converter.neurons.tpp import mean_count, mean_count_table, stochastic_count

TRIALS = 20_000


def neuron_of(steps: int, signed: bool = False) -> TwoPhaseProbabilistic:
    return TwoPhaseProbabilistic(torch.tensor([2.0]).double(), steps, Place(3, 2, signed=signed))


def stepped_train(v: float, steps: int, trials: int = TRIALS, signed: bool = False, seed: int = 7) -> torch.Tensor:
    """Return the trains [steps, trials] of neurons at potential ``v`` theta, fired step by step."""
    neuron, noise = neuron_of(steps, signed), Noise(seed, torch.arange(trials))
    potential, train = torch.full((trials, 1), 2.0 * v).double(), []
    for step in range(steps):
        spikes, potential = neuron.fire(potential, step, noise)
        train.append(spikes[:, 0])
    return torch.stack(train)


def stepped_counts(v: float, steps: int, trials: int = TRIALS, signed: bool = False, seed: int = 7) -> torch.Tensor:
    return stepped_train(v, steps, trials, signed, seed).sum(0)


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
        TwoPhaseProbabilistic(torch.ones(1), 4097, Place(0, 2))


def test_a_signed_train_is_the_unsigned_one_of_the_magnitude() -> None:
    for v in (0.3, 2.7, 9.0):
        magnitude = stepped_train(v, 8)
        for sign in (1, -1):
            train = stepped_train(sign * v, 8, signed=True)
            assert torch.equal(train, sign * magnitude)  # so no train holds both signs
            assert set(train.unique().tolist()) <= {0.0, float(sign)}
    assert stepped_train(0.0, 8, 50, signed=True).abs().max() == 0


@pytest.mark.parametrize("steps", [1, 4, 16])
def test_chi_square_of_signed_counts_against_unsigned_ones(steps: int) -> None:
    p_values = []
    for v in np.random.default_rng(steps).uniform(0, steps, 6):
        low = int(np.floor(v))
        unsigned = stepped_counts(v, steps, seed=7) == low
        noise, total = Noise(9, torch.arange(TRIALS)), torch.full((TRIALS, 1), -2.0 * v).double()
        ways = [
            -stepped_counts(-v, steps, signed=True, seed=8),
            -neuron_of(steps, signed=True).count(total, noise)[:, 0],
            neuron_of(steps, signed=True).count(-total, Noise(10, noise.index))[:, 0],
        ]
        for counts in ways:
            assert set(counts.int().tolist()) <= {low, low + 1}
            table = [[int(same.sum()), int((~same).sum())] for same in (unsigned, counts == low)]
            if min(sum(column) for column in zip(*table, strict=True)) > 20:
                p_values.append(stats.chi2_contingency(table).pvalue)
    assert len(p_values) >= 9
    assert min(p_values) > 1e-3 / len(p_values)


@given(st.integers(-40, 40), st.integers(1, 32), st.floats(0, 0.9999999))
def test_whole_signed_potentials_have_no_count_error(k: int, steps: int, u: float) -> None:
    total = torch.tensor([[2.0 * k]]).double()
    found = neuron_of(steps, signed=True).count(total, Noise(int(u * 1e6), torch.arange(1)))
    assert found.item() == np.clip(k, -steps, steps)
    train = stepped_train(k, steps, 4, signed=True)
    assert (train.sum(0) == found.item()).all()

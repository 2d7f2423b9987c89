"""Convolutions in whole numbers against float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from snnconvert.converter import integer_synapses
from snnconvert.converter.integer_synapses import TOP, IntegerConvolution, available, bytes_of, fits

needs_instructions = pytest.mark.skipif(not available(), reason="this processor has no instructions for bytes")


@given(st.integers(0, 2**31 - 1), st.floats(1e-6, 1e6), st.sampled_from([(1, 1), (3, 5), (4, 2, 3, 3)]))
def test_three_bytes_hold_a_weight_to_half_a_step(seed: int, scale: float, shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scale
    (c, b, a), sigma = bytes_of(weight)
    assert all(part.dtype == torch.int8 for part in (a, b, c))
    whole = 65536 * a.numpy().astype(np.int64) + 256 * b.numpy().astype(np.int64) + c.numpy()
    step = sigma.numpy().reshape(-1, *[1] * (weight.ndim - 1))
    assert (np.abs(weight.double().numpy() - step * whole) <= 0.5001 * step).all()
    assert np.allclose(sigma.numpy() * TOP, np.abs(weight.double().numpy()).reshape(len(weight), -1).max(1), rtol=1e-12)


def test_the_largest_sum_fits_in_32_bits() -> None:
    assert integer_synapses.MOST * 255 * 128 < 2**31


def test_weights_far_above_the_others_do_not_fit() -> None:
    weight = torch.randn(4, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    one, uneven = torch.ones(1), torch.ones(32)
    assert fits(weight, one)
    uneven[5] = 1e4
    assert not fits(weight, uneven)
    weight[2, 7, 1, 1] = 1e4
    assert not fits(weight, one)
    weight.zero_()
    assert fits(weight, one)
    weight[0, 0, 0, 0] = 3
    assert fits(weight, one)
    assert not fits(weight / 0, one)


@needs_instructions
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_no_number_gives_none(value: float) -> None:
    weight = torch.ones(3, 16, 1, 1)
    weight[1, 2] = value
    counts = torch.ones(1, 16, 2, 2, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    found = IntegerConvolution(weight, torch.ones(1), (1, 1), (0, 0), (1, 1))(counts, None)
    assert found.isfinite().all((0, 2, 3)).tolist() == [True, False, True]


def test_weights_of_zero_stay_zero() -> None:
    parts, sigma = bytes_of(torch.zeros(2, 3))
    assert all(not part.any() for part in parts)
    assert bool((sigma > 0).all())


@needs_instructions
@settings(max_examples=25)
@given(
    st.integers(0, 2**31 - 1),
    st.sampled_from([(1, 1), (2, 2), (1, 2)]),
    st.sampled_from([(0, 0), (1, 1), (2, 1)]),
    st.sampled_from([(1, 1), (2, 2)]),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 8, 255]),
    st.booleans(),
    st.booleans(),
)
def test_currents_are_those_of_float64_but_for_the_rounding_of_weights(
    seed: int,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    size: int,
    most: int,
    per_channel: bool,
    with_bias: bool,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, most + 1, (3, 16, 9, 8), generator=draw, dtype=torch.uint8)
    counts = counts.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(8, 16, size, size, generator=draw)
    worth = torch.rand(16 if per_channel else 1, 1, 1, generator=draw) + 0.1
    bias = torch.randn(8, generator=draw) if with_bias else None
    found = IntegerConvolution(weight, worth, stride, padding, dilation)(counts, bias)
    values, wide = counts.double() * worth, None if bias is None else bias.double()
    exact = torch.conv2d(values, weight.double(), wide, stride, padding, dilation)
    assert found.dtype == torch.float32
    assert found.shape == exact.shape
    plain = torch.conv2d(values.float(), weight, bias, stride, padding, dilation)
    bound = 2**-23 * torch.conv2d(values, weight.double().abs() + weight.abs().amax(), None, stride, padding, dilation)
    assert bool(((found - exact).abs() <= bound + 2**-23 * exact.abs() + 1e-6).all())
    assert float((found - exact).abs().mean()) <= 4 * float((plain - exact).abs().mean()) + 1e-7


@needs_instructions
def test_a_batch_says_what_its_images_say_alone_bit_for_bit() -> None:
    draw = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 9, (7, 32, 10, 10), generator=draw, dtype=torch.uint8)
    counts = counts.contiguous(memory_format=torch.channels_last)
    layer = IntegerConvolution(torch.randn(16, 32, 3, 3, generator=draw), torch.rand(32), (1, 1), (1, 1), (1, 1))
    alone = torch.cat([layer(image[None].contiguous(memory_format=torch.channels_last), None) for image in counts])
    assert torch.equal(layer(counts, None), alone)


def test_without_the_instructions_or_with_wrong_sums_nothing_runs_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    assert not available.__wrapped__()
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    monkeypatch.setattr(IntegerConvolution, "__init__", lambda self, *given: None)
    monkeypatch.setattr(IntegerConvolution, "__call__", lambda self, counts, bias: torch.zeros(2, 16, 9, 9))
    assert not available.__wrapped__()

    def missing(*given: object) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(integer_synapses.IntegerConvolution, "__call__", missing)
    assert not available.__wrapped__()

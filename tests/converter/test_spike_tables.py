"""Convolutions of binary spikes by look-up against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from snnconvert.converter import native
from snnconvert.converter.native import Library
from snnconvert.converter.spike_tables import TableConvolution, available

needs_tables = pytest.mark.skipif(not available(), reason="no AVX-512, or no compiler")
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


def spikes_of(draw: torch.Generator, *shape: int) -> Tensor:
    found = torch.rand(shape, generator=draw) < 0.3
    return found.to(torch.uint8).contiguous(memory_format=torch.channels_last)


@needs_tables
@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**31 - 1),
    images=st.integers(1, 4),
    channels=st.sampled_from([8, 16, 24, 40, 64, 72]),
    out=st.sampled_from([1, 3, 4, 16, 21, 64, 70, 129]),
    kernel=pairs,
    stride=pairs,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=pairs,
    side=st.integers(7, 13),
    with_bias=st.booleans(),
)
def test_sums_of_whole_weights_are_exact(
    seed: int,
    images: int,
    channels: int,
    out: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    side: int,
    with_bias: bool,
) -> None:
    draw = torch.Generator().manual_seed(seed)
    spikes = spikes_of(draw, images, channels, side, side + 1)
    weight = torch.randint(-999, 1000, (out, channels, *kernel), generator=draw).float()
    worth = 2.0 ** torch.randint(-1, 2, (channels,), generator=draw)
    bias = torch.randint(-99, 100, (out,), generator=draw).float() if with_bias else None
    found = TableConvolution(weight, worth, stride, padding, dilation)(spikes, bias)
    values, wide = spikes.double() * worth.view(-1, 1, 1), None if bias is None else bias.double()
    wanted = torch.conv2d(values, weight.double(), wide, stride, padding, dilation)
    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found.double(), wanted)


@needs_tables
@pytest.mark.parametrize(("images", "channels", "side"), [(3, 16, 40), (70, 64, 8)])  # more than one span of tiles
def test_currents_are_as_near_the_exact_ones_as_those_of_floats(images: int, channels: int, side: int) -> None:
    draw = torch.Generator().manual_seed(0)
    spikes, worth = spikes_of(draw, images, channels, side, side), torch.rand(1, generator=draw) + 0.5
    weight, bias = torch.randn(20, channels, 3, 3, generator=draw), torch.randn(20, generator=draw)
    found = TableConvolution(weight, worth, (1, 1), (1, 1), (1, 1))(spikes, bias)
    values = spikes.double() * worth
    exact = torch.conv2d(values, weight.double(), bias.double(), 1, 1)
    plain = torch.conv2d(values.float(), weight, bias, 1, 1)
    assert float((found - exact).abs().mean()) <= 2 * float((plain - exact).abs().mean())
    assert float((found - exact).abs().max()) <= 1e-5 * float(exact.abs().max())


@needs_tables
def test_batch_threads_and_order_of_memory_change_no_bit() -> None:
    draw = torch.Generator().manual_seed(0)
    spikes, weight = spikes_of(draw, 37, 32, 11, 13), torch.randn(70, 32, 3, 3, generator=draw)
    layer = TableConvolution(weight, torch.rand(32, generator=draw), (1, 2), (1, 1), (1, 1))
    wanted = layer(spikes, None)
    assert torch.equal(torch.cat([layer(image[None], None) for image in spikes]), wanted)
    assert torch.equal(layer(spikes.contiguous(), None), wanted)
    assert torch.equal(layer(spikes.flip(0), None).flip(0), wanted)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(layer(spikes, None), wanted)
    finally:
        torch.set_num_threads(threads)


@needs_tables
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_type_changes_nothing(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    spikes, weight = spikes_of(draw, 2, 16, 5, 5), torch.randn(4, 16, 3, 3, generator=draw)
    layer = TableConvolution(weight, torch.ones(1), (1, 1), (0, 0), (1, 1))
    wanted, before = layer(spikes, None), torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert torch.equal(layer(spikes, None), wanted)
        assert available.__wrapped__()
    finally:
        torch.set_default_dtype(before)


@needs_tables
def test_a_kernel_that_fits_nowhere_gives_nothing() -> None:
    layer = TableConvolution(torch.ones(3, 8, 5, 5), torch.ones(1), (1, 1), (0, 0), (1, 1))
    assert layer(torch.ones(2, 8, 4, 4, dtype=torch.uint8), None).shape == (2, 3, 0, 0)
    assert layer(torch.ones(0, 8, 6, 6, dtype=torch.uint8), None).shape == (0, 3, 2, 2)


@needs_tables
def test_a_weight_that_is_no_number_stays_in_its_output() -> None:
    weight = torch.ones(3, 16, 1, 1)
    weight[1, 2] = torch.nan
    found = TableConvolution(weight, torch.ones(1), (1, 1), (0, 0), (1, 1))(torch.ones(1, 16, 2, 2).byte(), None)
    assert found.isfinite().all((0, 2, 3)).tolist() == [True, False, True]


def test_without_a_compiler_or_with_wrong_sums_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(TableConvolution, "__call__", lambda self, spikes, bias: torch.zeros(3, 21, 5, 9))
        assert not available.__wrapped__()
    monkeypatch.setattr(native, "library", lambda: Library(None, "switched off"))
    assert not available.__wrapped__()

"""The functions that torch has as methods only, against those methods and numpy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.converter.graph import functions


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0)).double()


def test_expand_and_repeat(x: Tensor) -> None:
    assert torch.equal(functions.expand(x[:, :1], (-1, 3, -1)), x[:, [0, 0, 0]])
    assert functions.expand(x[0, 0], (4, 6)).tolist() == [x[0, 0].tolist()] * 4
    assert functions.repeat(x, (1, 2, 3)).numpy().tolist() == np.tile(x.numpy(), (1, 2, 3)).tolist()


def test_windows(x: Tensor) -> None:
    found = functions.windows(x, 2, 3, 2)
    expected = np.lib.stride_tricks.sliding_window_view(x.numpy(), 3, 2)[:, :, ::2]
    assert found.numpy().tolist() == expected.tolist()
    assert torch.equal(functions.windows(x, 1, 2, 1)[..., 1], x[:, 1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_lowest_number_is_seen_by_no_maximum(x: Tensor, dtype: torch.dtype) -> None:
    x = x.to(dtype)
    padded = functions.pad_lowest(x, (1, 2))
    assert bool(padded.isfinite().all())
    assert torch.equal(padded[..., 1:7], x)
    assert torch.equal(F.max_pool1d(padded, 3), F.max_pool1d(F.pad(x, (1, 2), value=-torch.inf), 3))


def test_assigning_leaves_the_first_argument_as_it_was(x: Tensor) -> None:
    before = x.clone()
    index, value = (slice(None), slice(1, None)), x[:, :2] * 2
    expected = x.clone()
    expected[index] = value
    assert torch.equal(functions.assign(x, index, value), expected)
    assert functions.assign(x, (..., 0), 7.0)[..., 0].tolist() == [[7.0] * 3] * 2
    assert torch.equal(x, before)


def test_constants_are_repeated_for_each_image(x: Tensor) -> None:
    constant = torch.arange(4.0).reshape(2, 2)
    assert functions.per_image(constant, x).tolist() == [[0, 1], [2, 3]] * 2
    assert functions.per_image(constant, x[:0]).shape == (0, 2)
    assert functions.per_image(constant[0], torch.ones(3, 1)).tolist() == [0, 1] * 3

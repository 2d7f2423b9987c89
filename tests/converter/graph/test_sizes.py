"""Sizes that do not follow the batch are plain numbers while a model is traced; the batch's stays symbolic."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import prepare


class SamePadding(nn.Module):
    """TensorFlow's padding, as timm's ``tf_`` networks compute it: from the size, with branches and ``math``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, stride=2)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.size()[-2:]
        needed = [max((math.ceil(n / 2) - 1) * 2 + 3 - n, 0) for n in (height, width)]
        if any(needed):
            x = F.pad(x, [needed[1] // 2, needed[1] - needed[1] // 2, needed[0] // 2, needed[0] - needed[0] // 2])
        y = F.relu(self.conv(x))
        if y.shape[2] > 2 and y.dim() == 4 and y.ndim == 4:
            y = y[:, :, : y.shape[2] // 2]
        batch, channels, *_ = y.shape
        return self.head(y.reshape(batch, channels, -1).mean(-1))


@pytest.mark.parametrize("size", [4, 7, 9])
def test_code_may_branch_and_compute_on_sizes(size: int) -> None:
    torch.manual_seed(0)
    model, x = SamePadding().eval(), torch.randn(5, 1, size, size)
    graph = prepare(model, x)
    with torch.no_grad():
        assert torch.allclose(graph.module(x), model(x), atol=1e-6)
        assert torch.allclose(graph.module(x[:1]), model(x[:1]), atol=1e-6)


def test_branching_on_the_size_of_the_batch_is_refused_with_its_line() -> None:
    class OneImage(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x) * 2 if x.shape[0] == 2 else x

    with pytest.raises(
        ModelRefused, match=r"(?s)OneImage cannot be traced at .*test_sizes\.py:\d+: .*x\.shape\[0\] == 2"
    ):
        prepare(OneImage(), torch.randn(2, 3))


def test_sizes_of_weights_and_of_several_inputs_are_known() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 6))

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            joined = torch.cat([x, y], 1)
            assert self.weight.size(1) == joined.size(1) == x.shape[1] + y.shape[1]
            return F.relu(F.linear(joined, self.weight)) @ self.weight

    torch.manual_seed(0)
    model, inputs = Two(), (torch.randn(3, 2), torch.randn(3, 4))
    assert torch.allclose(prepare(model, inputs).module(*inputs), model(*inputs), atol=1e-5)

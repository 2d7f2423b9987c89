"""A tensor that is written in place is read with its new value by all of its names, or the model is refused."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import check, prepare


def relu_then_old_name(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    m.inplace(h)
    return m.head(h)


def functional_then_old_name(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    F.relu_(h)
    return m.head(h)


def both_names(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    y = h.mul_(2)
    return m.head(m.relu(h + y))


def residual_in_place(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    before = h * 2
    m.inplace(h)
    h += m.conv2(h)
    return m.head(m.inplace(h) + before)


def augmented_then_old_name(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    y = h
    y += 1.0
    y *= 2
    y -= m.scale
    y /= 3
    return m.head(m.relu(h))


def numbers_are_not_overwritten(m: Any, x: Tensor) -> Tensor:
    size = x.size(2)
    half = size
    half /= 2
    return m.head(m.relu(m.conv(x)) * half + size)


def input_overwritten(m: Any, x: Tensor) -> Tensor:
    x.sub_(0.5)
    return m.head(m.relu(m.conv(x)))


def slice_then_whole(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    h[:, :2].add_(1.0)
    return m.head(m.relu(h))


def slice_of_a_slice(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    part = h[:, 1:]
    F.relu_(part[:, :2])
    return m.head(m.relu(m.conv2(part.mean(1, keepdim=True) + h)))


def slice_of_one_channel(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    h[:, 1].mul_(-1.0)
    h[..., -1, None].sub_(1.0)
    return m.head(m.relu(h))


def constant_slice(m: Any, x: Tensor) -> Tensor:
    weight = m.weight.clone()
    third = weight.shape[0] // 3
    weight[third : 2 * third].zero_()
    return F.linear(m.relu(m.conv(x)).mean((2, 3)), weight) + m.weight.sum()


def written_twice(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    part = h[:, :2]
    part.add_(1.0)
    part.mul_(2.0)
    m.inplace(h)
    return m.head(m.conv2(h)) + part.sum((1, 2, 3))[:, None]


def slice_then_relu_of_whole(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    m.inplace(h)
    h[:, 2:] -= 0.25
    return m.head(m.relu(h))


def transposed_then_forgotten(m: Any, x: Tensor) -> Tensor:
    return m.head(m.inplace(m.conv(x).transpose(2, 3)))


def augmented_slice(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    h[:, :, 1:] += h[:, :, :-1].clone()
    return m.head(m.relu(h))


def slices_of_zeros(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    z = torch.zeros(h.shape, dtype=h.dtype)
    z[:, :2].add_(h[:, 2:])
    z[:, 2:].add_(1.0)
    return m.head(m.relu(m.conv2(z)))


def views_of_what_is_overwritten(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    flat, turned, part = h.view(h.shape[0], -1), h.transpose(2, 3), h[:, 1:][:, :2]
    first, second = h.chunk(2, 1)
    m.inplace(h)
    y = torch.cat([flat.view(h.shape), turned, part, first, second], 1)
    return m.head(m.relu(y[:, :4] + y[:, 4:8] * 2 + y[:, 9:13] * 3))


def slice_under_another_name(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    other = h[:, 1:3]
    part = h[:, :2].add_(1.0)
    part.mul_(2.0)
    return m.head(m.relu(h) * other.mean((1, 2, 3), keepdim=True))


def result_of_a_write_that_is_written(m: Any, x: Tensor) -> Tensor:
    h = m.conv(x)
    y = h.mul_(2.0)
    h.add_(1.0)
    y.sub_(m.scale)
    return m.head(m.relu(y) + h)


@pytest.mark.parametrize(
    "forward",
    [
        relu_then_old_name,
        functional_then_old_name,
        both_names,
        residual_in_place,
        augmented_then_old_name,
        numbers_are_not_overwritten,
        input_overwritten,
        slice_then_whole,
        slice_of_a_slice,
        slice_of_one_channel,
        constant_slice,
        written_twice,
        slice_then_relu_of_whole,
        transposed_then_forgotten,
        augmented_slice,
        slices_of_zeros,
        views_of_what_is_overwritten,
        slice_under_another_name,
        result_of_a_write_that_is_written,
    ],
    ids=lambda f: f.__name__,
)
def test_later_readers_of_an_overwritten_tensor_see_the_new_value(
    network: Any, images: Tensor, converts: Any, forward: Any
) -> None:
    before = images.clone()
    converts(network(forward, inplace=nn.ReLU(inplace=True)), images)
    assert torch.equal(images, before)


def transposed(m: Any, h: Tensor) -> Tensor:
    h.transpose(2, 3).add_(1.0)
    return h


def half(m: Any, h: Tensor) -> Tensor:
    m.inplace(h.chunk(2, 1)[0])
    return h


def slice_of_a_view(m: Any, h: Tensor) -> Tensor:
    h.view(h.shape[0], 2, 2, 8, 8)[:, 0].mul_(2.0)
    return h


def flattened(m: Any, h: Tensor) -> Tensor:
    h.flatten(1).clamp_(max=100.0)  # nothing on these images
    return h


def reshaped(m: Any, h: Tensor) -> Tensor:
    h.reshape(h.shape[0], -1).clamp_(max=100.0)
    return h


def contiguous(m: Any, h: Tensor) -> Tensor:
    h.contiguous().clamp_(max=100.0)
    return h


def dropped_out(m: Any, h: Tensor) -> Tensor:
    F.dropout(h, training=m.training).clamp_(max=100.0)
    return h


def another_view(m: Any, h: Tensor) -> Tensor:
    turned, flat = h.transpose(2, 3), h.view(h.shape[0], -1)
    turned.clamp_(max=100.0)
    return flat.view(h.shape)


def result_of_an_earlier_write(m: Any, h: Tensor) -> Tensor:
    y = h.mul_(1.0)
    h.transpose(2, 3).clamp_(max=100.0)
    return y


@pytest.mark.parametrize(
    "write",
    [
        transposed,
        half,
        slice_of_a_view,
        flattened,
        reshaped,
        contiguous,
        dropped_out,
        another_view,
        result_of_an_earlier_write,
    ],
)
def test_a_view_that_cannot_be_followed_is_refused_by_line(network: Any, images: Tensor, write: Any) -> None:
    model = network(lambda m, x: m.head(m.relu(write(m, m.conv(x)))), inplace=nn.ReLU(inplace=True))
    with pytest.raises(ModelRefused, match=r"test_writes.py:\d+: it changes memory that the model later reads"):
        prepare(model, images)
    assert "by another name" in check(model, images).verdict


def test_memory_that_is_read_only_before_the_write_is_no_reason(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.conv(x)
        mean = h.mean((2, 3), keepdim=True)
        y = m.inplace(h.view(h.shape[0], 4, 64)).view(h.shape)  # h is asked for its shape alone
        return m.head(y * mean.sigmoid())

    converts(network(forward, inplace=nn.ReLU(inplace=True)), images)


def test_a_copy_does_not_share_memory(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.conv(x)
        picked = h[:, torch.tensor([0, 2])]
        picked.add_(5.0)
        return m.head(m.relu(h)) + picked.sum((1, 2, 3))[:, None]

    converts(network(forward), images)


def test_the_other_part_of_a_split_tensor_is_not_touched(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        first, second = m.conv(x).chunk(2, 1)
        m.inplace(first)
        return m.head(m.relu(torch.cat([second, first], 1)))

    converts(network(forward, inplace=nn.ReLU(inplace=True)), images)


def test_a_power_in_place(network: Any, images: Tensor, converts: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = y = m.conv(x)
        y **= 2
        return m.head(m.relu(h - 0.5))

    converts(network(forward), images)


def test_a_result_that_goes_to_another_tensor_is_refused(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.conv(x)
        torch.add(h, 1.0, out=h)
        return m.head(m.relu(h))

    with pytest.raises(ModelRefused, match=r"add at .*test_writes.py:\d+"):
        prepare(network(forward), images)

"""Numbers read off shapes become constants that fit every batch size; examples are checked."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import prepare
from snnconvert.converter.graph.specialise import with_noise


def shuffled(x: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous()
    return x.view(batch, -1, height, width)


RESHAPES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "view by size": lambda m, x: x.view(x.size(0), -1).view(x.size(0), 4, 64).mean(2),
    "view by shape": lambda m, x: x.view(x.shape[0], x.shape[1], -1).mean(2),
    "view by minus one": lambda m, x: x.view(-1, 4, 64).mean(-1),
    "reshape with a tuple": lambda m, x: x.reshape((x.shape[0], 4, -1)).mean(-1),
    "torch.reshape": lambda m, x: torch.reshape(x, (-1, 4, 64)).mean(2),
    "flatten": lambda m, x: x.flatten(2).mean(2),
    "torch.flatten": lambda m, x: torch.flatten(torch.flatten(x, 1).view(-1, 4, 8, 8), 2, 3).mean(2),
    "nn.Flatten": lambda m, x: nn.Flatten(2)(x).mean(2),
    "view by unpacked shape": lambda m, x: shuffled(x).mean((2, 3)),
    "sizes in arithmetic": lambda m, x: x.sum((2, 3)) / (x.size(2) * x.shape[3]),
    "a bare squeeze": lambda m, x: F.adaptive_avg_pool2d(x, 1).squeeze(),
    "torch.squeeze of a dimension": lambda m, x: torch.squeeze(F.adaptive_avg_pool2d(x, 1).squeeze(-1), dim=2),
    "interpolate to the shape": lambda m, x: F.interpolate(x[:, :, ::2], size=x.shape[2:]).mean((2, 3)),
    "slices": lambda m, x: x[:, :, : x.size(2) // 2, 1:].mean((2, 3)),
    "an index tensor from a shape": lambda m, x: x[:, torch.arange(x.size(1))].mean((2, 3)),
    "a tensor from a shape": lambda m, x: (x + torch.arange(x.size(3)) / 8).mean((2, 3)),
    "permute by name": lambda m, x: x.permute(dims=(0, 1, 3, 2)).mean((2, 3)),
    "flip by name": lambda m, x: x.flip(dims=(1,)).mean((2, 3)),
    "unsqueeze and permute": lambda m, x: x.unsqueeze(1).permute(0, 2, 3, 4, 1).mean((2, 3, 4)),
    "split by name": lambda m, x: torch.cat(x.split(split_size=2, dim=1)[::-1], 1).mean((2, 3)),
    "chunk": lambda m, x: torch.cat(x.chunk(2, dim=1), 1).mean((2, 3)),
    "the shape of a weight": lambda m, x: x.mean((2, 3)) * m.weight.shape[0] / m.weight.shape[1],
}


@pytest.mark.parametrize("reshape", RESHAPES.values(), ids=RESHAPES)
def test_shapes_follow_the_batch(
    network: Any, images: Tensor, converts: Any, reshape: Callable[[Any, Tensor], Tensor]
) -> None:
    model = network(lambda m, x: m.fc(reshape(m, m.relu(m.conv(x)))))
    graph = converts(model, images)
    assert {n.op for n in graph.module.graph.nodes} <= {
        "placeholder",
        "get_attr",
        "call_function",
        "call_module",
        "output",
    }
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 8, 8).double()
        assert graph.module(x).shape == (batch, 5)
        if batch > 1:  # the model with a bare squeeze is itself wrong for one image
            assert torch.allclose(graph.module(x), model(x))


def test_the_batch_size_may_not_be_a_number(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: m.head(m.relu(m.conv(x)) * x.size(0)))
    with pytest.raises(ModelRefused, match=r"uses the batch size in mul.* \(.*test_specialise.py:\d+\)"):
        prepare(model, images)


def test_a_tensor_as_long_as_the_batch_is_refused(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: m.head(m.relu(m.conv(x)) + torch.arange(x.size(0)).view(-1, 1, 1, 1)))
    with pytest.raises(ModelRefused, match=r"uses the batch size|reshapes to"):
        prepare(model, images)


def test_a_reshape_in_which_no_dimension_follows_the_batch_is_refused(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: m.relu(m.conv(x)).reshape(x.size(0) * 2, x.size(0), -1))
    with pytest.raises(ModelRefused, match=r"reshapes to \(4, 2, 64\) for 2 images and to|the model fails"):
        prepare(model, images)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 4, 8, 8), r"the model fails on an input of shape \[2, 4, 8, 8\]: RuntimeError"),
        ((0, 3, 8, 8), r"at least one, in each input; got shapes \[0, 3, 8, 8\]"),
        ((), r"at least one, in each input; got shapes \[\]"),
    ],
)
def test_an_example_of_the_wrong_shape_is_refused(network: Any, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        prepare(network(lambda m, x: m.head(m.relu(m.conv(x)))), torch.randn(shape).double())


@pytest.mark.parametrize("example", [5, None, "images", {"x": 1}, (), [1, 2]])
def test_an_example_that_is_no_tensor_is_refused(network: Any, example: Any) -> None:
    with pytest.raises(ModelRefused, match=f"tuple of tensors, got {type(example).__name__}"):
        prepare(network(lambda m, x: m.head(m.relu(m.conv(x)))), example)


def test_inputs_of_different_length_are_refused(network: Any) -> None:
    model = network(lambda m, x, y: m.relu(x) + y)
    with pytest.raises(ModelRefused, match=r"same number of images.* \[2, 3\] and \[1, 3\]"):
        prepare(model, (torch.randn(2, 3), torch.randn(1, 3)))


def test_whole_numbers_and_nan_are_refused(network: Any, images: Tensor) -> None:
    model = network(lambda m, x: m.head(m.relu(m.conv(x.float()))))
    with pytest.raises(ModelRefused, match=r"finite floating point numbers, got torch.uint8"):
        prepare(model, torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    images[0, 0, 0, 0] = torch.nan
    with pytest.raises(ModelRefused, match=r"got torch.float64 with NaN or infinity"):
        prepare(model, images)


def test_noise_is_added_in_the_scale_of_the_example() -> None:
    example = torch.stack([torch.full((1000,), 9.0), torch.full((1000,), 11.0)])
    (noisy,) = with_noise((example,))
    assert torch.equal(noisy[:2], example)
    assert abs(float(noisy[2].mean()) - 10) < 0.2
    assert abs(float(noisy[2].std()) - 1) < 0.1
    assert torch.equal(with_noise((example,))[0], noisy)
    assert with_noise((torch.zeros(1, 1000),))[0][1].std() > 0.9

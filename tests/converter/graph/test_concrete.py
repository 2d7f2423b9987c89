"""Code that makes tensors of the batch's size itself fits any number of images, or is refused."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import prepare


def state_of_zeros(m: Any, y: Tensor) -> Tensor:
    state = torch.zeros(y.shape[0], 2, 8, 8, dtype=y.dtype)
    return m.conv2(torch.cat([state, y[:, :2]], 1))


def steps_of_a_state(m: Any, y: Tensor) -> Tensor:
    state = torch.ones((y.size(0), 4, 8, 8), dtype=y.dtype, device=y.device) / 2
    for _ in range(3):
        state = F.relu(m.conv2(state) + y)
    return state


def index_by_range(m: Any, y: Tensor) -> Tensor:
    return y + torch.arange(4, dtype=y.dtype).repeat(y.shape[0], 1).view(y.shape[0], 4, 1, 1)


def filled_in_place(m: Any, y: Tensor) -> Tensor:
    filled = torch.zeros(y.shape, dtype=y.dtype)
    filled[:, :2] = y[:, 2:]
    filled[:, 2:] = y[:, :2] * 2
    return filled.mul(2).view(y.shape[0], 2, 2, 8, 8).permute(0, 2, 1, 3, 4).reshape(y.shape)


FITS: dict[str, Any] = {
    "a state of zeros": state_of_zeros,
    "zeros that are filled": filled_in_place,
    "steps of a state": steps_of_a_state,
    "a repeated ramp": index_by_range,
    "a filled tensor": lambda m, y: y * torch.full((len(y), 1, 8, 8), 0.5, dtype=y.dtype),
    "an expanded ramp": lambda m, y: y + torch.linspace(0, 1, 8, dtype=y.dtype).expand(y.shape[0], 1, 8, 8),
    "an expanded weight": lambda m, y: torch.cat([m.scale.expand(y.shape[0], -1, 8, 8)[:, :1], y[:, 1:]], 1),
    "an int of the size": lambda m, y: y.view(int(y.shape[0]), 2, -1).view(int(y.shape[0]), 4, 8, 8),
    "a list of sizes": lambda m, y: y.reshape([*y.shape[:2], 64]).reshape(*y.shape),
}


@pytest.mark.parametrize("name", FITS)
def test_it_fits_any_number_of_images(network: Any, images: Tensor, converts: Any, name: str) -> None:
    model = network(lambda m, x: m.head(FITS[name](m, m.relu(m.conv(x)))))
    graph = converts(model, images)
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 8, 8).double()
        assert torch.allclose(graph.module(x), model(x), rtol=1e-9, atol=1e-9)


def each_image(m: Any, y: Tensor) -> Tensor:
    return torch.cat([m.conv2(y[i : i + 1]) for i in range(int(y.shape[0]))])


REFUSED: dict[str, Any] = {
    "a loop": each_image,
    "a factor": lambda m, y: y * int(y.shape[0]),
    "a coarse factor": lambda m, y: y * int(y.shape[0]) // 4,
    "a coarse tensor": lambda m, y: y + torch.full((1,), int(y.shape[0]) // 4, dtype=y.dtype),
    "a coarse state": lambda m, y: y + torch.zeros(len(y), 1, 1, 1, dtype=y.dtype) + torch.full((1,), len(y) // 4),
    "a coarse count": lambda m, y: y * (y.shape[0] // 4 + 1),
    "a coarse padding": lambda m, y: F.pad(y, (0, y.shape[0] // 4)),
    "a coarse scale": lambda m, y: y * torch.full((1, 4, 1, 1), 1.0 + y.shape[0] // 4, dtype=y.dtype),
    "a mean": lambda m, y: y / len(y),
    "another path for two": lambda m, y: y if int(y.shape[0]) == 2 else -y,
    "another path for many": lambda m, y: y if int(y.shape[0]) < 7 else -y,
    "another path for one": lambda m, y: y if int(y.shape[0]) > 1 else -y,
    "numbered images": lambda m, y: y + torch.arange(y.shape[0], dtype=y.dtype).view(-1, 1, 1, 1),
    "a matrix of images": lambda m, y: (torch.eye(int(y.shape[0])).double() @ y.flatten(1)).view(y.shape),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_depends_on_the_number_of_images_is_refused(network: Any, images: Tensor, name: str) -> None:
    model = network(lambda m, x: m.head(REFUSED[name](m, m.relu(m.conv(x)))))
    for count in (1, 2, 3):
        with pytest.raises(ModelRefused, match=r"batch size|cannot be traced at .*test_concrete.py|reshapes to"):
            prepare(model, images[:count])

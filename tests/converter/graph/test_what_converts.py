"""What real networks are made of: each small model is prepared, and many steps of two-phase neurons give its answer."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

ACTIVATIONS: list[nn.Module] = [
    nn.ReLU6(),
    nn.LeakyReLU(0.1),
    nn.PReLU(),
    nn.PReLU(4, 0.3),
    nn.Hardswish(),
    nn.Hardsigmoid(),
    nn.Hardtanh(-1, 1),
    nn.SiLU(),
    nn.SiLU(inplace=True),
    nn.GELU(),
    nn.GELU("tanh"),
    nn.Mish(),
    nn.ELU(),
    nn.CELU(),
    nn.SELU(),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Softplus(),
    nn.Softsign(),
    nn.LogSigmoid(),
    nn.Hardshrink(),
    nn.Softshrink(),
    nn.Tanhshrink(),
    nn.RReLU(),
    nn.Threshold(0.1, 20),
]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activations(network: Any, images: Tensor, spikes: Any, activation: nn.Module) -> None:
    model = network(lambda m, x: m.head(m.act(m.conv2(m.act(m.conv(x))))), act=activation)
    graph = spikes(model, images)
    assert [s.name for s in graph.sites] == ["act", "act#2"]


Forward = Callable[..., Any]
Modules = Callable[[], dict[str, nn.Module]]


def squeeze_excite(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x))
    gate = m.expand(m.relu(m.reduce(y.mean((2, 3), keepdim=True)))).sigmoid()
    return m.head(m.conv2(y * gate))


def channel_shuffle(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x))
    batch, channels, height, width = y.size()
    y = y.view(batch, 2, channels // 2, height, width).transpose(1, 2).contiguous().view(batch, -1, height, width)
    return m.head(m.relu(m.conv2(y)))


def split_branches(m: Any, x: Tensor) -> Tensor:
    first, second = torch.split(m.relu(m.conv(x)), 2, dim=1)
    a, b = m.relu(m.conv2(torch.cat([second, first], 1))).chunk(2, dim=1)
    return m.head(torch.cat((a, 2 * b), 1))


def by_sizes(m: Any, x: Tensor) -> Tensor:
    one, three = m.relu(m.conv(x)).split([1, 3], 1)
    return m.head(m.conv2(torch.cat([three, one], 1)))


def unbound(m: Any, x: Tensor) -> Tensor:
    a, b, c, d = m.relu(m.conv(x)).unbind(1)
    return m.head(m.conv2(torch.stack([a, c, b + d, d], 1)))


def softmax_attention(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x)).flatten(2).transpose(1, 2)
    q, k, v = m.qkv(y).chunk(3, dim=-1)
    mixed = (q @ k.transpose(-2, -1) * 4**-0.5).softmax(dim=-1) @ v
    return m.fc((y + mixed).mean(1))


def fused_attention(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x)).flatten(2).transpose(1, 2)
    batch, rows, width = y.shape
    q, k, v = m.qkv(y).reshape(batch, rows, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, rows, width)
    return m.fc((y + m.out(mixed)).mean(1))


def torch_attention(m: Any, x: Tensor) -> Tensor:
    y = m.norm(m.conv(x).flatten(2).transpose(1, 2))
    y = y + m.attention(y, y, y, need_weights=False)[0]
    return m.fc(m.relu(y).mean(1))


def class_token(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x)).flatten(2).transpose(1, 2)
    y = torch.cat([m.token.weight[None].expand(y.shape[0], -1, -1), y], dim=1)
    return m.fc(F.gelu(m.mix(y.transpose(1, 2)))[:, :, 0])


def slices_in_place(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x))
    z = torch.zeros(y.shape, dtype=y.dtype)
    z[:, :2] = y[:, 2:]
    z[:, 2:, 1:] += y[:, :2, :-1]
    return m.head(m.relu(m.conv2(z)))


def weight_standardised(m: Any, x: Tensor) -> Tensor:
    weight = m.conv.weight
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
    y = F.conv2d(x, (weight - mean) / (variance + 1e-5).sqrt(), m.conv.bias, padding=1)
    return m.head(m.relu(m.conv2(m.relu(y))))


def blur_pool(m: Any, x: Tensor) -> Tensor:
    y = F.pad(m.relu(m.conv(x)), (1, 1, 1, 1), mode="reflect")
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=x.dtype) / 4
    return m.head(m.conv2(F.conv2d(y, (kernel[:, None] * kernel)[None, None].repeat(4, 1, 1, 1), stride=2, groups=4)))


def space_to_depth(m: Any, x: Tensor) -> Tensor:
    n, c, h, w = x.size()
    y = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4).contiguous().view(n, c * 4, h // 2, w // 2)
    return m.head(m.relu(m.deep(y)))


def average_and_maximum(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x))
    return m.fc(0.5 * (F.adaptive_avg_pool2d(y, 1) + F.adaptive_max_pool2d(y, 1)).flatten(1))


def two_pools(m: Any, x: Tensor) -> Tensor:
    y = F.gelu(m.conv(x))
    return m.fc(torch.cat([m.avg(y), m.max(y)], 1).flatten(1)[:, 2:6])


def lowest_padding(m: Any, x: Tensor) -> Tensor:
    y = F.pad(F.avg_pool2d(m.conv(x), 2), (0, 1, 0, 1), value=float("-inf"))
    return m.head(m.conv2(F.max_pool2d(y, 3, 2)))


def unfolded(m: Any, x: Tensor) -> Tensor:
    y = m.relu(m.conv(x))
    patches = F.unfold(y, 2, stride=2)
    return m.head(m.conv2(F.fold(m.mix(patches), (8, 8), 2, stride=2)))


def instance_statistics(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    mean, variance = y.mean((2, 3), keepdim=True), y.var((2, 3), keepdim=True, unbiased=False)
    return m.head(m.conv2((y - mean) / torch.sqrt(variance + 1e-5)))


def einsums(m: Any, x: Tensor) -> Tensor:
    y = torch.einsum("bchw,oc->bohw", F.silu(m.conv(x)), m.weight)
    return torch.einsum("bohw,bohw->bo", y, y.sigmoid()) / 64


def half(_: Any, x: Tensor) -> Tensor:
    return x[:, :, ::2, ::2]


IMAGE: dict[str, tuple[Forward, Modules]] = {
    "squeeze-excite": (squeeze_excite, lambda: {"reduce": nn.Conv2d(4, 2, 1), "expand": nn.Conv2d(2, 4, 1)}),
    "concat": (
        lambda m, x: m.head(m.narrow(torch.cat([m.relu(m.conv(x)), F.gelu(m.conv(x))], 1))),
        lambda: {"narrow": nn.Conv2d(8, 4, 1)},
    ),
    "split and chunk": (split_branches, dict),
    "split by sizes": (by_sizes, dict),
    "unbind and stack": (unbound, dict),
    "channel shuffle": (channel_shuffle, dict),
    "nn.ChannelShuffle": (lambda m, x: m.head(m.conv2(F.channel_shuffle(m.relu(m.conv(x)), 2))), dict),
    "depthwise": (
        lambda m, x: m.head(m.conv2(F.silu(m.deep(m.relu(m.conv(x)))))),
        lambda: {"deep": nn.Conv2d(4, 4, 3, groups=4)},
    ),
    "grouped": (
        lambda m, x: m.head(m.deep(m.relu(m.conv(x)))),
        lambda: {"deep": nn.Conv2d(4, 4, 3, groups=2, stride=2)},
    ),
    "dilated": (lambda m, x: m.head(m.deep(m.relu(m.conv(x)))), lambda: {"deep": nn.Conv2d(4, 4, 3, dilation=2)}),
    "transposed": (
        lambda m, x: m.head(m.deep(m.relu(m.conv(x)))),
        lambda: {"deep": nn.ConvTranspose2d(4, 4, 3, 2, 1, 1)},
    ),
    "nearest": (lambda m, x: m.head(m.conv2(F.interpolate(m.relu(half(m, m.conv(x))), scale_factor=2))), dict),
    "bilinear": (
        lambda m, x: m.conv2(m.up(m.relu(m.conv(x)))),
        lambda: {"up": nn.UpsamplingBilinear2d(scale_factor=2)},
    ),
    "bilinear, not aligned": (
        lambda m, x: m.conv2(F.interpolate(F.gelu(m.conv(x)), size=(5, 6), mode="bilinear")),
        dict,
    ),
    "adaptive average pool": (lambda m, x: m.fc(F.adaptive_avg_pool2d(F.silu(m.conv(x)), 1).flatten(1)), dict),
    "global max pool": (lambda m, x: m.fc(F.adaptive_max_pool2d(F.silu(m.conv(x)), 1).flatten(1)), dict),
    "amax": (lambda m, x: m.fc(F.silu(m.conv(x)).amax((2, 3))), dict),
    "average and max pool": (average_and_maximum, dict),
    "concat of pools": (two_pools, lambda: {"avg": nn.AdaptiveAvgPool2d(1), "max": nn.AdaptiveMaxPool2d(1)}),
    "max-pool of both signs": (lambda m, x: m.head(m.conv2(m.pool(m.conv(x)))), dict),
    "max-pool padded with -inf": (lowest_padding, dict),
    "layer norm": (lambda m, x: m.head(m.conv2(F.layer_norm(m.relu(m.conv(x)), (4, 8, 8)))), dict),
    "group norm": (lambda m, x: m.head(m.relu(m.norm(m.conv(x)))), lambda: {"norm": nn.GroupNorm(2, 4)}),
    "instance norm": (
        lambda m, x: m.head(m.relu(m.norm(m.conv(x)))),
        lambda: {"norm": nn.InstanceNorm2d(4, affine=True)},
    ),
    "instance norm by hand": (instance_statistics, dict),
    "RMS norm": (
        lambda m, x: m.fc(m.norm(m.relu(m.conv(x)).flatten(2).transpose(1, 2)).mean(1)),
        lambda: {"norm": nn.RMSNorm(4)},
    ),
    "softmax attention": (softmax_attention, lambda: {"qkv": nn.Linear(4, 12)}),
    "scaled dot product attention": (fused_attention, lambda: {"qkv": nn.Linear(4, 12), "out": nn.Linear(4, 4)}),
    "nn.MultiheadAttention": (
        torch_attention,
        lambda: {"norm": nn.LayerNorm(4), "attention": nn.MultiheadAttention(4, 2, batch_first=True)},
    ),
    "class token": (class_token, lambda: {"token": nn.Embedding(1, 4), "mix": nn.Conv1d(4, 4, 1)}),
    "GLU": (lambda m, x: m.fc(F.glu(m.wide(m.relu(m.conv(x))), 1).mean((2, 3))), lambda: {"wide": nn.Conv2d(4, 8, 1)}),
    "addcmul": (lambda m, x: m.head(torch.addcmul(m.relu(m.conv(x)), m.scale, F.gelu(m.conv2(m.conv(x))))), dict),
    "product of signals": (lambda m, x: m.head(m.conv2(m.relu(m.conv(x)) * F.silu(m.conv(x)))), dict),
    "slices in place": (slices_in_place, dict),
    "pixel shuffle": (lambda m, x: m.relu(F.pixel_shuffle(m.conv2(m.relu(m.conv(x))), 2)) * 2, dict),
    "pixel unshuffle": (
        lambda m, x: m.head(m.deep(F.pixel_unshuffle(m.relu(m.conv(x)), 2))),
        lambda: {"deep": nn.Conv2d(16, 4, 1)},
    ),
    "weight standardisation": (weight_standardised, dict),
    "blur pool": (blur_pool, dict),
    "space to depth": (space_to_depth, lambda: {"deep": nn.Conv2d(12, 4, 1)}),
    "unfold and fold": (unfolded, lambda: {"mix": nn.Conv1d(16, 16, 1)}),
    "einsum": (einsums, dict),
    "tuple of outputs": (lambda m, x: (m.head(m.relu(m.conv(x))), m.conv2(F.gelu(m.conv(x)))), dict),
    "dict of outputs": (lambda m, x: {"a": m.head(m.relu(m.conv(x))), "b": m.relu(m.conv(x)).mean((2, 3))}, dict),
    "list of outputs": (lambda m, x: [m.head(m.relu(m.conv(x))), m.conv2(m.relu(m.conv(x)))], dict),
}


@pytest.mark.parametrize("name", IMAGE)
def test_images(network: Any, images: Tensor, spikes: Any, name: str) -> None:
    forward, modules = IMAGE[name]
    torch.manual_seed(0)
    spikes(network(forward, **modules()), images)


ONE, THREE, VECTOR = (3, 9), (3, 4, 5, 4), (6,)
OTHERS: dict[str, tuple[Forward, Modules, tuple[tuple[int, ...], ...]]] = {
    "conv1d": (
        lambda m, x: m.b(m.relu(m.a(x))).mean(2),
        lambda: {"a": nn.Conv1d(3, 4, 3), "b": nn.Conv1d(4, 5, 1)},
        (ONE,),
    ),
    "conv3d": (
        lambda m, x: m.b(F.gelu(m.a(x))).mean((2, 3, 4)),
        lambda: {"a": nn.Conv3d(3, 4, 3), "b": nn.Conv3d(4, 5, 1)},
        (THREE,),
    ),
    "transposed 1d": (
        lambda m, x: m.b(m.relu(m.a(x))),
        lambda: {"a": nn.Conv1d(3, 4, 3), "b": nn.ConvTranspose1d(4, 5, 3, 2)},
        (ONE,),
    ),
    "transposed 3d": (
        lambda m, x: m.b(m.relu(m.a(x))),
        lambda: {"a": nn.Conv3d(3, 4, 3), "b": nn.ConvTranspose3d(4, 5, 2, 2)},
        (THREE,),
    ),
    "a vector": (lambda m, x: m.fc(m.relu(m.a(x))), lambda: {"a": nn.Linear(6, 4)}, (VECTOR,)),
    "two images": (
        lambda m, x, y: m.head(m.relu(m.conv(x) + m.conv(y)) + m.conv2(F.gelu(m.conv(y)))),
        dict,
        ((3, 8, 8), (3, 8, 8)),
    ),
    "an image and a vector": (
        lambda m, x, y: m.fc(m.relu(m.conv(x)).mean((2, 3)) * m.a(y).sigmoid()),
        lambda: {"a": nn.Linear(6, 4)},
        ((3, 8, 8), VECTOR),
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_inputs(network: Any, spikes: Any, name: str) -> None:
    forward, modules, shapes = OTHERS[name]
    torch.manual_seed(0)
    model = network(forward, **modules())
    spikes(model, *(torch.randn(3, *shape).double() for shape in shapes))

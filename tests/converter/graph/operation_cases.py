"""A call of each line of the operation table on a batch: the shape of one image, and the call of it or of a synonym."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[..., Any]
Case = tuple[tuple[int, ...], Callable[[Function, Tensor], Any]]

_RANDOM = torch.Generator().manual_seed(0)


def weight(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_RANDOM, dtype=torch.float64)


W1, W2, W3, WL = weight(4, 2, 3), weight(4, 2, 3, 3), weight(4, 2, 2, 2, 2), weight(5, 6)
D1, D2, D3 = weight(4, 3, 3), weight(4, 3, 3, 3), weight(4, 3, 2, 2, 2)
BIAS4, BIAS3, BIAS5, SCALE = weight(4), weight(3), weight(5), weight(1, 4, 1, 1)
ONE, TWO, THREE = (4, 6), (4, 6, 6), (4, 4, 4, 4)
ALL = slice(None)

SYNAPSES: dict[str, list[Case]] = {
    "conv1d": [(ONE, lambda f, x: f(x, W1, BIAS4, 2, 1, 1, 2))],
    "conv2d": [(TWO, lambda f, x: f(x, W2, BIAS4, 1, 1, 2, 2)), (TWO, lambda f, x: f(x, W2, groups=2, padding="same"))],
    "conv3d": [(THREE, lambda f, x: f(x, W3, BIAS4, groups=2))],
    "conv_transpose1d": [(ONE, lambda f, x: f(x, D1, BIAS3, 2))],
    "conv_transpose2d": [(TWO, lambda f, x: f(x, D2, torch.cat([BIAS3, BIAS3]), groups=2, stride=2))],
    "conv_transpose3d": [(THREE, lambda f, x: f(x, D3, BIAS3))],
    "linear": [((6,), lambda f, x: f(x, WL, BIAS5)), ((4, 6), lambda f, x: f(x, WL))],
}
LAYOUT: dict[str, list[Case]] = {
    "reshape": [(TWO, lambda f, x: f(x, (-1, 2, 72)))],
    "flatten": [(TWO, lambda f, x: f(x, 1)), (TWO, lambda f, x: f(x, start_dim=2, end_dim=-1))],
    "permute": [(TWO, lambda f, x: f(x, (0, 3, 1, 2)))],
    "transpose": [(TWO, lambda f, x: f(x, 1, 2))],
    "squeeze": [((1, 6, 1), lambda f, x: f(x, 1)), ((1, 6, 1), lambda f, x: f(x, -1))],
    "unsqueeze": [(TWO, lambda f, x: f(x, 1))],
    "flip": [(TWO, lambda f, x: f(x, (1, -1)))],
    "roll": [(TWO, lambda f, x: f(x, (1, -2), (1, 3)))],
    "getitem": [
        (TWO, lambda f, x: f(x, (ALL, slice(1, 3), ..., slice(None, None, 2)))),
        (TWO, lambda f, x: f(x, (ALL, [2, 0], None))),
    ],
    "narrow": [(TWO, lambda f, x: f(x, 1, 1, 2))],
    "select": [(TWO, lambda f, x: f(x, 1, -1))],
    "index_select": [(TWO, lambda f, x: f(x, 1, torch.tensor([2, 0, 0])))],
    "expand": [((1, 6), lambda f, x: f(x, (-1, 4, 6)))],
    "repeat": [(ONE, lambda f, x: f(x, (1, 2, 3)))],
    "repeat_interleave": [(ONE, lambda f, x: f(x, 2, 1))],
    "pixel_shuffle": [(TWO, lambda f, x: f(x, 2))],
    "pixel_unshuffle": [(TWO, lambda f, x: f(x, 2))],
    "channel_shuffle": [(TWO, lambda f, x: f(x, 2))],
    "windows": [(TWO, lambda f, x: f(x, 2, 3, 1))],
    "unfold": [(TWO, lambda f, x: f(x, 3, stride=2, padding=1))],
}
LINEAR: dict[str, list[Case]] = {
    "avg_pool1d": [(ONE, lambda f, x: f(x, 2))],
    "avg_pool2d": [(TWO, lambda f, x: f(x, 3, 2, 1, count_include_pad=False, ceil_mode=True))],
    "avg_pool3d": [(THREE, lambda f, x: f(x, 2))],
    "adaptive_avg_pool1d": [(ONE, lambda f, x: f(x, 4))],
    "adaptive_avg_pool2d": [(TWO, lambda f, x: f(x, (4, None)))],
    "adaptive_avg_pool3d": [(THREE, lambda f, x: f(x, 3))],
    "mean": [(TWO, lambda f, x: f(x, (2, 3))), (TWO, lambda f, x: f(x, dim=1, keepdim=True))],
    "sum": [(TWO, lambda f, x: f(x, (2, 3))), (TWO, lambda f, x: f(x, dim=-1, keepdim=True))],
    "cumsum": [(TWO, lambda f, x: f(x, 2))],
    "fold": [((8, 9), lambda f, x: f(x, (4, 4), 2))],
    "neg": [(TWO, lambda f, x: f(x))],
    "div": [(TWO, lambda f, x: f(x, 3)), (TWO, lambda f, x: f(x, SCALE))],
    "pad": [
        (TWO, lambda f, x: f(x, (1, 2, 0, 1))),
        (TWO, lambda f, x: f(x, (1, 1), value=3.0)),
        (TWO, lambda f, x: f(x, (1, 2, 2, 1), mode="reflect")),
        (TWO, lambda f, x: f(x, (1, 2, 2, 1), mode="circular")),
    ],
    "interpolate": [
        (TWO, lambda f, x: f(x, scale_factor=2.0)),
        (TWO, lambda f, x: f(x, size=(4, 9), mode="nearest-exact")),
        (TWO, lambda f, x: f(x, size=(4, 9), mode="bilinear", align_corners=False)),
        (TWO, lambda f, x: f(x, size=(4, 9), mode="bicubic", antialias=True)),
        (TWO, lambda f, x: f(x, size=4, mode="area")),
        (ONE, lambda f, x: f(x, size=4, mode="linear")),
    ],
    "add": [(TWO, lambda f, x: f(x, SCALE)), (TWO, lambda f, x: f(x, 2 * x[:, :1])), (TWO, lambda f, x: f(x, 2.5))],
    "sub": [(TWO, lambda f, x: f(x, SCALE)), (TWO, lambda f, x: f(x, 2 * x[:, :1])), (TWO, lambda f, x: f(x, 2.5))],
    "cat": [(TWO, lambda f, x: f([x, 2 * x, x[:, :1]], 1)), (TWO, lambda f, x: f((x, x), dim=-1))],
    "stack": [(TWO, lambda f, x: f([x, 2 * x], 1)), (TWO, lambda f, x: f((x, x), dim=-1))],
    "assign": [
        (TWO, lambda f, x: f(x, (ALL, slice(2)), x[:, 2:] * 2)),
        (TWO, lambda f, x: f(x, (ALL, [0, 3]), 1.5)),
    ],
    "per_image": [(TWO, lambda f, x: f(SCALE, x))],
    "mul": [(TWO, lambda f, x: f(x, SCALE)), (TWO, lambda f, x: f(x, 2.5))],
    "matmul": [
        (TWO, lambda f, x: f(x, WL.T)),
        ((6, 3), lambda f, x: f(WL, x)),
        (ONE, lambda f, x: f(x, WL.T.expand(len(x), 6, 5))),
    ],
    "einsum": [(TWO, lambda f, x: f("bchw,ow->bcho", x, WL)), (TWO, lambda f, x: f("bchw->bhc", x))],
}
WINDOW: dict[str, list[Case]] = {
    "max_pool1d": [(ONE, lambda f, x: f(x, 2))],
    "max_pool2d": [(TWO, lambda f, x: f(x, 3, 2, 1, ceil_mode=True))],
    "max_pool3d": [(THREE, lambda f, x: f(x, 2))],
    "adaptive_max_pool1d": [(ONE, lambda f, x: f(x, 4))],
    "adaptive_max_pool2d": [(TWO, lambda f, x: f(x, (4, None)))],
    "adaptive_max_pool3d": [(THREE, lambda f, x: f(x, 3))],
    # What it pads with is for a maximum only, which no sum of steps may change.
    "pad_lowest": [(TWO, lambda f, x: F.max_pool2d(f(x, (1, 2, 2, 1)), 3))],
    "amax": [(TWO, lambda f, x: f(x, (2, 3))), (TWO, lambda f, x: f(x, dim=1, keepdim=True))],
}
_PLAIN = ("hardswish", "silu", "mish", "selu", "tanh", "softsign", "logsigmoid", "tanhshrink", "erf", "sin", "cos")
_PLAIN += ("sign", "relu", "sigmoid", "hardsigmoid", "exp", "square", "abs")
_ABOVE_ZERO = ("log", "sqrt", "rsqrt", "reciprocal")


def _plain(f: Function, x: Tensor) -> Any:
    return f(x)


def _above_zero(f: Function, x: Tensor) -> Any:
    return f(x.abs() + 0.1)


ACTIVATION: dict[str, list[Case]] = {
    **{name: [(TWO, _plain)] for name in _PLAIN},
    **{name: [(TWO, _above_zero)] for name in _ABOVE_ZERO},
    "leaky_relu": [(TWO, _plain), (TWO, lambda f, x: f(x, 0.3))],
    "prelu": [(TWO, lambda f, x: f(x, BIAS4)), (TWO, lambda f, x: f(x, BIAS4[:1]))],
    "rrelu": [(TWO, lambda f, x: f(x, 0.1, 0.4))],
    "hardtanh": [(TWO, _plain), (TWO, lambda f, x: f(x, -0.5, 2.0))],
    "gelu": [(TWO, _plain), (TWO, lambda f, x: f(x, approximate="tanh"))],
    "elu": [(TWO, lambda f, x: f(x, 0.5))],
    "celu": [(TWO, lambda f, x: f(x, 0.5))],
    "hardshrink": [(TWO, lambda f, x: f(x, 0.2))],
    "softshrink": [(TWO, lambda f, x: f(x, 0.2))],
    "threshold": [(TWO, lambda f, x: f(x, 0.1, 20.0))],
    "clamp": [(TWO, lambda f, x: f(x, 0.0, 0.5)), (TWO, lambda f, x: f(x, max=1.0))],
    "pow": [(TWO, lambda f, x: f(x, 3))],
    "softplus": [(TWO, lambda f, x: f(x, 2.0, 3.0))],
}
_COMPARE = ("gt", "ge", "lt", "le", "eq", "ne")
_REDUCE = ("std", "var", "prod", "logsumexp", "amin", "argmax")
ANALOG: dict[str, list[Case]] = {
    **{name: [(TWO, lambda f, x: f(x.round(), x.flip(1).round()))] for name in _COMPARE},
    "maximum": [(TWO, lambda f, x: f(x, x.flip(1))), (TWO, lambda f, x: f(x, SCALE))],
    "minimum": [(TWO, lambda f, x: f(x, x.flip(1))), (TWO, lambda f, x: f(x, SCALE))],
    **{name: [(TWO, lambda f, x: f(x, 1, keepdim=True)), (TWO, lambda f, x: f(x, dim=-1))] for name in _REDUCE},
    "layer_norm": [(TWO, lambda f, x: f(x, (6, 6))), ((4, 6), lambda f, x: f(x, [6], WL[0], WL[1]))],
    "group_norm": [(TWO, lambda f, x: f(x, 2, BIAS4, BIAS4))],
    "rms_norm": [(TWO, lambda f, x: f(x, (6,), WL[0]))],
    "instance_norm": [(TWO, lambda f, x: f(x, None, None, BIAS4))],
    "local_response_norm": [(TWO, lambda f, x: f(x, 3))],
    "normalize": [(TWO, lambda f, x: f(x, dim=1))],
    "log_softmax": [(TWO, lambda f, x: f(x, 1))],
    "softmax": [(TWO, lambda f, x: f(x, dim=-1))],
    "norm": [(TWO, lambda f, x: f(x, dim=1))],
    "vector_norm": [(TWO, lambda f, x: f(x, dim=(2, 3)))],
    "scaled_dot_product_attention": [(TWO, lambda f, x: f(x, x.flip(2), 2 * x))],
    "grid_sample": [(TWO, lambda f, x: f(x, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False))],
    "where": [(TWO, lambda f, x: f(x > 0, x, 2 * x))],
    "masked_fill": [(TWO, lambda f, x: f(x, x > 0, 1.5))],
    "argmin": [(TWO, lambda f, x: f(x, 1))],
    "to_dtype": [(TWO, lambda f, x: f(x > 0, torch.float64))],
    "gather": [(TWO, lambda f, x: f(x, 1, x.argsort(1)))],
}
CASES: dict[str, list[Case]] = SYNAPSES | LAYOUT | LINEAR | WINDOW | ACTIVATION | ANALOG
"""For each name in the table."""


def name_of(call: Any) -> str:
    """Return the name of a function or method, which is the same in every process; `str` has an address."""
    return call if isinstance(call, str) else f"{getattr(call, '__module__', None)}.{call.__qualname__}"

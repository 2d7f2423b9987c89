"""What the tracer puts in the place of a call, against that call."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.converter.graph import prepare
from snnconvert.converter.graph.decompositions import DECOMPOSITIONS, attend, normalise_instance
from snnconvert.converter.graph.operations import OPERATIONS
from snnconvert.converter.graph.spellings import SYNONYMS

from .operation_cases import name_of

_RANDOM = torch.Generator().manual_seed(0)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_RANDOM, dtype=torch.float64)


X, Y, Z, M = noise(3, 4), noise(3, 4), noise(3, 4), noise(4, 4)
B1, B2, B3 = noise(2, 3, 4), noise(2, 3, 5), noise(2, 5, 4)

CALLS: dict[Any, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    F.glu: [((X,), {}), ((B1, 2), {}), ((noise(2, 6, 3),), {"dim": 1})],
    F.softmin: [((X, 1), {}), ((B1,), {"dim": -1}), ((X.float(), 1), {"dtype": torch.float64})],
    torch.addcmul: [((X, Y, Z), {}), ((X, Y, Z), {"value": 0.5})],
    "addcmul": [((X, Y, Z), {}), ((X, Y, Z), {"value": -2.0})],
    torch.addmm: [((X, Y, M), {}), ((X, Y, M), {"beta": 0.5, "alpha": 2.0})],
    torch.baddbmm: [((B1, B2, B3), {}), ((B1, B2, B3), {"beta": 2.0, "alpha": 0.5})],
    torch.lerp: [((X, Y, 0.3), {}), ((X, Y), {"weight": Z})],
    "lerp": [((X, Y, 0.3), {}), ((X, Y, Z), {})],
    torch.rsub: [((X, Y), {}), ((X, 2.0), {})],
    **{key: [((X,), {})] for key in (torch.t, "t")},
    **{key: [((B1, 0, -1), {}), ((B1, (0, 1), (2, 0)), {})] for key in (torch.movedim, "movedim")},
    torch.zeros_like: [((X,), {})],
    torch.ones_like: [((X,), {})],
    "new_zeros": [((X, 2, 3), {}), ((X, (4,)), {})],
    "new_ones": [((X, 2, 3), {}), ((X, (4,)), {})],
}


@pytest.mark.parametrize("call", DECOMPOSITIONS, ids=name_of)
def test_each_computes_what_torch_computes(call: Any) -> None:
    assert call not in OPERATIONS
    assert call not in SYNONYMS
    function = getattr(torch.Tensor, call) if isinstance(call, str) else call
    for args, kwargs in CALLS[call]:
        expected = function(*args, **kwargs)
        found = DECOMPOSITIONS[call](*args, **kwargs)
        assert found.dtype is expected.dtype
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_they_reach_the_graph_in_functions_of_the_table(network: Any, images: Tensor, spikes: Any) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        a, b = m.relu(m.conv(x)), F.gelu(m.conv(x))
        y = F.glu(torch.cat([a, b], 1), 1) + F.softmin(a, 1) + torch.addcmul(a, b, m.scale, value=0.5)
        y = y + a.addcmul(m.scale, b) + torch.lerp(a, b, 0.25) + a.lerp(b, m.scale) + torch.rsub(a, 1.0)
        rows = m.conv2(y).flatten(2)
        return torch.addmm(
            m.fc.bias, torch.baddbmm(rows, rows, rows.transpose(1, 2) @ rows).mean(2), m.fc.weight.permute(1, 0)
        )

    spikes(network(forward), images * 0.3)


class Attention(nn.Module):
    def __init__(self, attention: nn.MultiheadAttention, **options: Any) -> None:
        super().__init__()
        self.attention, self.options = attention.double().eval(), options
        with torch.no_grad():
            for parameter in attention.parameters():
                parameter.copy_(noise(*parameter.shape) / 2)
        self.first, self.last = nn.Linear(4, 4).double(), nn.Linear(4, 2).double()

    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        if not self.attention.batch_first:
            x, y, z = (t.transpose(0, 1) for t in (x, y, z))
        result = self.attention(x, y, z, **self.options)[0]
        return self.last(result if self.attention.batch_first else result.transpose(0, 1))


MASK = noise(5, 6)
CAUSAL = nn.Transformer.generate_square_subsequent_mask(6).double()[:5]
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int]]] = {
    "batch first": ({"batch_first": True}, {}, (4, 4)),
    "time first": ({"batch_first": False}, {}, (4, 4)),
    "without bias": ({"batch_first": True, "bias": False}, {"need_weights": False}, (4, 4)),
    "separate widths": ({"batch_first": True, "kdim": 3, "vdim": 6}, {}, (3, 6)),
    "separate widths, time first": ({"kdim": 3, "vdim": 6, "bias": False}, {}, (3, 6)),
    "dropout": ({"batch_first": True, "dropout": 0.5}, {}, (4, 4)),
    "a mask of numbers": ({"batch_first": True}, {"attn_mask": MASK}, (4, 4)),
    "a mask of truth": ({"batch_first": True}, {"attn_mask": MASK > 0.5}, (4, 4)),
    "causal": ({"batch_first": True}, {"attn_mask": CAUSAL, "is_causal": True}, (4, 4)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_attention_is_that_of_torch(kind: str, converts: Any) -> None:
    made, called, (kdim, vdim) = KINDS[kind]
    model = Attention(nn.MultiheadAttention(4, 2, **made), **called)
    inputs = noise(3, 5, 4), noise(3, 6, kdim), noise(3, 6, vdim)
    order = inputs if made.get("batch_first") else tuple(x.transpose(0, 1) for x in inputs)
    with torch.no_grad():
        found, weights = attend(model.attention, *order, **called)
        expected, shares = model.attention(*order, **called)
        assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)
    if weights is not None:
        assert torch.allclose(weights, shares, rtol=1e-10, atol=1e-10)
    converts(model, *inputs)


REFUSED = r"with a padding mask or with added keys cannot be converted\)\nhint: write it with F.scaled_dot_product"


@pytest.mark.parametrize("made", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_added_keys_are_refused(made: dict[str, Any]) -> None:
    model = Attention(nn.MultiheadAttention(4, 2, batch_first=True, **made))
    with pytest.raises(ModelRefused, match=REFUSED):
        prepare(model, (noise(2, 5, 4), noise(2, 6, 4), noise(2, 6, 4)))


def test_a_padding_mask_is_refused(network: Any, images: Tensor) -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.relu(m.conv(x)).flatten(2).transpose(1, 2)
        return m.fc(m.attention(y, y, y, key_padding_mask=y.sum(2) > 0)[0].mean(1))

    model = network(forward, attention=nn.MultiheadAttention(4, 2, batch_first=True))
    with pytest.raises(ModelRefused, match=REFUSED):
        prepare(model, images)


@pytest.mark.parametrize("average", [True, False])
def test_the_weights_of_attention_can_be_used(network: Any, images: Tensor, converts: Any, average: bool) -> None:
    def forward(m: Any, x: Tensor) -> Any:
        y = m.relu(m.conv(x)).flatten(2).transpose(1, 2)
        return m.attention(y, y, y, average_attn_weights=average)

    converts(network(forward, attention=nn.MultiheadAttention(4, 2, batch_first=True)), images)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_transformer_layer_of_torch_converts(
    network: Any, images: Tensor, spikes: Any, norm_first: bool, activation: str
) -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, activation=activation, batch_first=True, norm_first=norm_first)
    forward = lambda m, x: m.fc(m.layer(m.relu(m.conv(x)).flatten(2).transpose(1, 2)).mean(1))  # noqa: E731
    graph = spikes(network(forward, layer=layer), images)
    assert sum(n.target is F.scaled_dot_product_attention for n in graph.module.graph.nodes) == 1


NORMS: list[nn.Module] = [
    nn.InstanceNorm2d(4),
    nn.InstanceNorm2d(4, affine=True),
    nn.InstanceNorm2d(4, eps=0.5),
    nn.InstanceNorm2d(4, track_running_stats=True),
    nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
]


@pytest.mark.parametrize("norm", NORMS, ids=repr)
def test_instance_norm_is_that_of_torch(network: Any, images: Tensor, converts: Any, norm: nn.InstanceNorm2d) -> None:
    norm = norm.double().eval()
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        if tensor is not None:
            nn.init.uniform_(tensor, 0.3, 2)
    x = noise(3, 4, 5, 5)
    assert torch.allclose(normalise_instance(norm, x), norm(x), rtol=1e-12, atol=1e-12)
    converts(network(lambda m, x: m.head(m.relu(m.norm(m.conv(x)))), norm=norm), images)

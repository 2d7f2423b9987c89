"""Name the activation sites of a graph: each call of an activation is one population of neurons.

The unit is the call site, not the module: torchvision's ResNet-18 has 9 ReLU modules and 17 call sites, and a swap by
module would give two layers one membrane.
"""

import math
from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


class Site(nn.Module):
    """A population of neurons in the place of an activation: a = min(max(z, 0), cap), or a = z where it is signed.

    Args:
        name: the path of the activation module or function, unique in its graph ("layer1.0.relu", "layer1.0.relu#2").
        cap: the largest output (6 for ReLU6), or None for none.
        signed: its neurons fire spikes of both signs, and the activation is the identity; the function before them,
            if any, is a node of the graph.
        opposite: the name of the site that carries the other sign of the same value; either may never fire.

    Attributes:
        shape: the shape of one image's activations here without dimension 0, such as [channels, ...]; known once the
            graph has been run on shapes.
        axis: the dimension of the channels, 1 or after; a threshold may differ for each. Known likewise.
    """

    def __init__(
        self,
        name: str,
        cap: float | None = None,
        shape: tuple[int, ...] = (),
        signed: bool = False,
        opposite: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.cap = cap
        self.shape = shape
        self.signed = signed
        self.opposite = opposite
        self.axis = 1

    @property
    def channels(self) -> int:
        """The size of the channel dimension."""
        return self.shape[self.axis - 1]

    @property
    def spikes(self) -> str:
        """What travels on the output wire: "binary" spikes, or "ternary" ones, -1, 0 and 1."""
        return "ternary" if self.signed else "binary"

    def forward(self, z: Tensor) -> Tensor:
        """Return the activation of the pre-activation ``z``, in the same shape [batch, ...]."""
        if self.signed:
            return z
        return F.relu(z) if self.cap is None else z.clamp(0, self.cap)

    def extra_repr(self) -> str:
        """Name and properties, for printing."""
        return f"{self.name}, {self.spikes}" + ("" if self.cap is None else f", cap={self.cap}")


_RELU: frozenset[Any] = frozenset({F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"})
_CLAMP: frozenset[Any] = frozenset({torch.clamp, torch.clip, "clamp", "clamp_", "clip", "clip_"})
_CLAMP_MIN: frozenset[Any] = frozenset({torch.clamp_min, "clamp_min", "clamp_min_"})
_HARDTANH: frozenset[Any] = frozenset({F.hardtanh, F.hardtanh_, F.relu6})
_THRESHOLD: frozenset[Any] = frozenset({F.threshold, torch.threshold_})
_MODULES = (nn.ReLU, nn.Hardtanh, nn.Threshold)


def _argument(node: fx.Node, position: int, names: tuple[str, ...], default: Any) -> Any:
    if len(node.args) > position:
        return node.args[position]
    return next((node.kwargs[name] for name in names if name in node.kwargs), default)


def site_cap(node: fx.Node) -> float | None:
    """Return the largest value that the activation call ``node`` passes, ``math.inf`` for ReLU, None if it is none.

    The ReLU family: relu, relu6, hardtanh(0, c), clamp(0[, c]), clamp_min(0), threshold(0, 0).
    """
    if node.op not in ("call_function", "call_method"):
        return None
    if node.target in _RELU:
        return math.inf
    if node.target in _HARDTANH:
        low, high = (0.0, 6.0) if node.target is F.relu6 else (-1.0, 1.0)
        low, high = _argument(node, 1, ("min_val",), low), _argument(node, 2, ("max_val",), high)
    elif node.target in _CLAMP:
        low, high = _argument(node, 1, ("min",), None), _argument(node, 2, ("max",), None)
        high = math.inf if high is None else high
    elif node.target in _CLAMP_MIN:
        low, high = _argument(node, 1, ("min",), None), math.inf
    elif node.target in _THRESHOLD:
        low, high = _argument(node, 1, ("threshold",), None), math.inf
        if _argument(node, 2, ("value",), None) != low:
            return None
    else:
        return None
    if not isinstance(low, int | float) or not isinstance(high, int | float):
        return None
    return float(high) if low == 0 and high > 0 else None


def name_sites(module: fx.GraphModule) -> None:
    """Replace every activation call in ``module`` by a call of its own `Site`, in place."""
    calls: Counter[str] = Counter()
    for node in list(module.graph.nodes):
        cap = site_cap(node)
        if cap is None:
            continue
        path = node.meta["path"]
        if not issubclass(node.meta["type"] or nn.Module, _MODULES):
            path = f"{path}.{getattr(node.target, '__name__', node.target)}".strip("._")
        calls[path] += 1
        name = path if calls[path] == 1 else f"{path}#{calls[path]}"
        insert_site(module, node, node.args[0], Site(name, None if cap == math.inf else cap))


def add_site(module: fx.GraphModule, site: Site) -> str:
    """Make ``site`` a child of ``module``, and return the child's name."""
    number = 0
    while hasattr(module, f"site_{number}"):
        number += 1
    module.add_module(f"site_{number}", site)
    return f"site_{number}"


def insert_site(module: fx.GraphModule, node: fx.Node, z: fx.Node, site: Site) -> fx.Node:
    """Put ``site``, fed by ``z``, in the place of ``node``, and return its node."""
    child = add_site(module, site)
    with module.graph.inserting_before(node):
        call = module.graph.call_module(child, (z,))
    call.meta = dict(node.meta)
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)
    return call


def site_of(node: fx.Node) -> Site | None:
    """Return the `Site` that ``node`` calls, or None."""
    if node.op != "call_module" or node.graph.owning_module is None:
        return None
    child = node.graph.owning_module.get_submodule(str(node.target))
    return child if isinstance(child, Site) else None

"""Put neurons wherever a value that is no spikes leads to weights.

The activations of the ReLU family are sites from the start. Any other nonlinear function whose value reaches the
weights of a convolution or linear layer, through linear operations and max-pooling alone, gets a site behind it: the
neurons fire the rounded value of the function at the mean of what they accumulated in their window,

    N = clip(round(T f(V / T) / theta), -T, T)

with V the accumulated input, and N >= 0 where f cannot be negative. An activation function and its site are one
population of neurons; the site after an analog operation (layer norm, attention, a gate) encodes its value for the
weights that follow, as in the multi-threshold conversion of transformers (Huang et al. 2024, arXiv 2502.21193, and
2025, arXiv 2503.00301; their neurons fire several magnitudes per step, ours one).
"""

from collections import Counter
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from . import functions
from .canonical import describe
from .operations import LAYOUT, SYNAPSES, Kind, Range
from .signals import constants, kind_of, nodes_in, operation_of
from .sites import Site, add_site, site_of

_NAMED_BY_PATH = (
    "torch.nn.modules.activation",
    "torch.nn.modules.normalization",
    "torch.nn.modules.pooling",
    "timm.layers.act",
    "timm.layers.norm",
)
"""Where the modules live whose path alone says what they are."""

_LAYOUT = frozenset(LAYOUT.values())
_WEIGHTS = frozenset({*SYNAPSES.values(), torch.matmul, torch.einsum})


def bring_images_first(module: fx.GraphModule) -> None:
    """Exchange dimensions around every site whose images are not in the first one, in place."""
    for node in list(module.graph.nodes):
        dimension = node.meta.get("batch")
        if site_of(node) is None or not dimension:
            continue
        source = node.all_input_nodes[0]
        with module.graph.inserting_before(node):
            first = module.graph.call_function(torch.transpose, (source, 0, dimension))
        with module.graph.inserting_after(node):
            back = module.graph.call_function(torch.transpose, (node, 0, dimension))
        for new in (first, back):
            new.meta = {k: v for k, v in node.meta.items() if k != "gaussian"}
        node.replace_all_uses_with(back, delete_user_cb=lambda user, back=back: user is not back)
        node.replace_input_with(source, first)


def is_synaptic(node: fx.Node, fixed: set[fx.Node]) -> bool:
    """Return whether ``node`` applies weights to a signal."""
    return (
        node.target in _WEIGHTS
        and kind_of(node, fixed) is Kind.LINEAR
        and any(n in fixed for n in nodes_in((node.args, node.kwargs)))
    )


def place_sites(module: fx.GraphModule) -> list[str]:
    """Put a `Site` behind every function that is not linear and feeds weights, in place, and say what was done."""
    fixed = constants(module.graph)
    kinds = {node: kind_of(node, fixed) for node in module.graph.nodes}
    feeding = _feeding_weights(module.graph, fixed, kinds)
    positive = never_negative(module.graph)
    names = Counter(child.name for child in module.children() if isinstance(child, Site))
    encoders = 0
    for node in list(module.graph.nodes):
        if kinds[node] in (None, Kind.LINEAR) or node in fixed or node not in feeding:
            continue
        if kinds[node] is Kind.WINDOW and all(kinds[reader] is Kind.WINDOW for reader in node.users):
            continue  # the last pool of a chain is encoded
        if node.target is functions.pad_lowest:  # what it pads with is for the maximum after it alone
            continue
        if kinds[node] is Kind.ACTIVATION:
            readers, at = list(node.users), node
        else:
            readers, at = _slide([n for n in node.users if n in feeding or is_synaptic(n, fixed)], node, feeding, fixed)
            encoders += 1
        if kinds[node] is Kind.WINDOW and at not in positive:
            _insert_pair(module, at, readers, _name(node, names))
        else:
            _insert(module, at, readers, Site(_name(node, names), signed=at not in positive))
    what = "1 value is" if encoders == 1 else f"{encoders} values are"
    return [f"{what} encoded as spikes for the weights that follow"] if encoders else []


def _feeding_weights(graph: fx.Graph, fixed: set[fx.Node], kinds: dict[fx.Node, Kind | None]) -> set[fx.Node]:
    """Return the nodes whose value reaches weights through linear operations and max-pooling alone."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        for reader in node.users:
            passes = kinds[reader] in (Kind.LINEAR, Kind.WINDOW) and reader in found
            if is_synaptic(reader, fixed) or passes:
                found.add(node)
    return found


def _slide(
    readers: list[fx.Node], node: fx.Node, feeding: set[fx.Node], fixed: set[fx.Node]
) -> tuple[list[fx.Node], fx.Node]:
    """Return what reads the spikes of ``node``, and where they start: behind the operations that only move numbers.

    There the channels that share a threshold are those of the weights that follow.
    """
    best = readers, node
    while len(readers) == 1 and readers[0].target in _LAYOUT and not is_synaptic(readers[0], fixed):
        node = readers[0]
        readers = [n for n in node.users if n in feeding or is_synaptic(n, fixed)]
        if node.meta["batch"] == 0 and len(node.meta["shape"]) > 1:
            best = readers, node
    return best


def _insert_pair(module: fx.GraphModule, node: fx.Node, readers: list[fx.Node], name: str) -> None:
    """Encode a value of both signs as two binary populations, v = max(v, 0) - max(-v, 0); a ReLU network stays one."""
    with module.graph.inserting_after(node):
        negative = module.graph.call_function(torch.neg, (node,))
    with module.graph.inserting_after(negative):
        difference = module.graph.call_function(torch.sub, (node, negative))
    for new in (negative, difference):
        new.meta = {k: v for k, v in node.meta.items() if k != "gaussian"}
    for reader in readers:
        reader.replace_input_with(node, difference)
    one, other = f"{name}.positive", f"{name}.negative"
    _insert(module, node, [difference], Site(one, opposite=other))
    _insert(module, negative, [difference], Site(other, opposite=one))


def _insert(module: fx.GraphModule, node: fx.Node, readers: list[fx.Node], site: Site) -> None:
    child = add_site(module, site)
    with module.graph.inserting_after(node):
        call = module.graph.call_module(child, (node,))
    call.meta = {k: v for k, v in node.meta.items() if k != "gaussian"}
    for reader in readers:
        reader.replace_input_with(node, call)


def _name(node: fx.Node, names: Counter[str]) -> str:
    path = node.meta.get("path") or ""
    kind = node.meta.get("type")
    if kind is None or not kind.__module__.startswith(_NAMED_BY_PATH):
        path = f"{path}.{describe(node)}".strip(".")
    names[path] += 1
    return path if names[path] == 1 else f"{path}#{names[path]}"


def never_negative(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes whose value cannot be negative, whatever the weights are."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        site, operation = site_of(node), operation_of(node)
        if site is not None:
            known = not site.signed or node.all_input_nodes[0] in found
        elif operation is None or operation.range is Range.ANY:
            known = _keeps_sign(node) and node.all_input_nodes[0] in found
        else:
            known = operation.range is Range.POSITIVE or (
                all(n in found for n in node.all_input_nodes) and not _has_negative_factor(node)
            )
        if known:
            found.add(node)
    return found


def _keeps_sign(node: fx.Node) -> bool:
    """Return whether a padding, interpolation or division, by its arguments, gives nothing negative for what is not."""
    args: tuple[Any, ...] = node.args
    if node.target is F.pad:
        value: Any = args[3] if len(args) > 3 else node.kwargs.get("value")
        return value is None or bool(value >= 0)
    if node.target is torch.clamp:
        low = args[1] if len(args) > 1 else node.kwargs.get("min")
        high = args[2] if len(args) > 2 else node.kwargs.get("max")
        return all(bound is None or (isinstance(bound, int | float) and bound >= 0) for bound in (low, high))
    if node.target is F.interpolate:
        return bool((args[3] if len(args) > 3 else node.kwargs.get("mode", "nearest")) != "bicubic")
    other: Any = args[1] if len(args) > 1 else node.kwargs.get("other")
    return node.target is torch.div and isinstance(other, int | float) and other > 0


def _has_negative_factor(node: fx.Node) -> bool:
    if node.target not in (torch.add, torch.mul):
        return False
    return any(isinstance(a, int | float) and a < 0 for a in (*node.args, *node.kwargs.values()))

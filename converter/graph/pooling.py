"""Move max-pooling before the activation it follows: max(relu(x)) = relu(max(x)).

Pooling spikes is wrong: the maximum of spike trains over-fires, more so with more steps. Pooling what enters the
neurons is right, because the activation is non-decreasing. The threshold is then calibrated where the site ends up.
"""

import torch
import torch.nn.functional as F
from torch import fx

from .operations import MAX_POOLS
from .sites import Site, insert_site, site_of

_NON_DECREASING = frozenset(
    {F.leaky_relu, F.elu, F.celu, F.selu, F.softplus, F.hardsigmoid, F.softsign, F.logsigmoid}
    | {torch.sigmoid, torch.tanh}
)
"""Activation functions that never fall where their parameters are not negative."""


def move_max_pools(module: fx.GraphModule) -> list[str]:
    """Exchange each max-pool of ``module`` with the sites before it, in place, and say what was done.

    A pool after a channel concat of sites moves into each branch. A site that something else reads too stays where it
    is, and the pool gets a site of its own. A maximum of all that an image has stays.
    """
    moved = split = 0
    waiting = [node for node in module.graph.nodes if node.target in MAX_POOLS]
    while waiting:
        pool = waiting.pop(0)  # in the order of the graph: a pool of a pool finds the first one moved
        if len(pool.meta["shape"]) < 2:  # a maximum of everything has no channels, so it can be no site
            continue
        source = pool.args[0]
        if _is_concat_of_sites(source) and pool.target is not torch.amax:  # which may take the maximum of channels
            waiting += _pool_each_branch(pool, source)
            continue
        site = site_of(source)
        if site is None and not _is_non_decreasing(source):
            continue
        moved += 1
        split += len(source.users) > 1
        waiting.append(_exchange_function(pool, source) if site is None else _exchange(module, pool, source, site))
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    notes = [f"{moved} max-pool{'s' * (moved > 1)} moved before the activation"] if moved else []
    if split:
        notes.append(f"{split} activation{'s' * (split > 1)} split, because something besides the max-pool reads them")
    return notes


def _is_concat_of_sites(node: fx.Node) -> bool:
    if node.target is not torch.cat or not isinstance(node.args[0], list | tuple):
        return False
    dimension = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
    return dimension in (1, 1 - len(node.meta["shape"])) and all(
        isinstance(n, fx.Node) and site_of(n) is not None for n in node.args[0]
    )


def _pool_each_branch(pool: fx.Node, concat: fx.Node) -> list[fx.Node]:
    pools = []
    with pool.graph.inserting_before(pool):
        for branch in concat.args[0]:  # type: ignore[union-attr]
            copy = pool.graph.node_copy(pool)
            copy.args = (branch, *pool.args[1:])
            pools.append(copy)
        joined = pool.graph.call_function(torch.cat, (pools, 1))
    joined.meta = dict(concat.meta)
    pool.replace_all_uses_with(joined)
    pool.graph.erase_node(pool)
    if not concat.users:
        pool.graph.erase_node(concat)
    return pools


def _is_non_decreasing(node: fx.Node) -> bool:
    parameters = [a for a in (*node.args[1:], *node.kwargs.values()) if isinstance(a, int | float)]
    return node.target is F.hardtanh or (node.target in _NON_DECREASING and all(a >= 0 for a in parameters))


def _exchange_function(pool: fx.Node, source: fx.Node) -> fx.Node:
    """Rewrite pool(f(z)) as f(pool(z)), and return the pool's new node."""
    with pool.graph.inserting_before(pool):
        first, second = pool.graph.node_copy(pool), pool.graph.node_copy(source)
        first.args = (source.args[0], *pool.args[1:])
    second.args = (first, *source.args[1:])
    second.meta["shape"] = pool.meta["shape"]
    pool.replace_all_uses_with(second)
    pool.graph.erase_node(pool)
    if not source.users:
        source.graph.erase_node(source)
    return first


def _exchange(module: fx.GraphModule, pool: fx.Node, source: fx.Node, site: Site) -> fx.Node:
    """Rewrite pool(site(z)) as site(pool(z)), and return the pool's new node."""
    names = {child.name for child in module.children() if isinstance(child, Site)}
    name = site.name
    while len(source.users) > 1 and name in names:
        name += ".pooled"
    z = source.all_input_nodes[0]
    with module.graph.inserting_before(pool):
        first = module.graph.node_copy(pool)
    first.args = (z, *pool.args[1:])
    if "gaussian" in z.meta:
        first.meta["gaussian"] = z.meta["gaussian"]
    call = insert_site(module, pool, first, Site(name, site.cap))
    call.meta["type"] = source.meta.get("type")
    if not source.users:
        module.graph.erase_node(source)
    return first

"""Check a model before any data or weights are there: what each of its operations would become, or why it cannot."""

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from ..errors import ModelRefused
from .audit import Audit, Entry, Role, audit, refusal
from .canonical import describe, respell, unsupported
from .claims import check_claims
from .on_shapes import OnShapes
from .operations import Kind
from .outputs import settle_outputs
from .prepare import copy_of, rewrite_traced
from .signals import constants, imageless, kind_of
from .sites import site_cap
from .specialise import inputs_of
from .tracing import first_line, trace


def check(model: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Audit:
    """Return what ``model`` would become; it is traced on shapes alone, and may lie on torch's meta device.

    Where it has weights, each operation is also run on noise against what is claimed of it.

    Args:
        model: any module.
        example: one batch [batch, channels, ...], or a tuple with one for each argument of ``forward``; on the meta
            device as well, if one likes.

    Raises:
        ModelRefused: the example is not one. What speaks against the model itself is in `Audit.reasons`.
    """
    given = inputs_of(example)
    try:
        real = copy_of(model)
    except ModelRefused as error:
        return Audit((), (str(error),))
    tensors = (*real.parameters(), *real.buffers())
    device = next((t.device for t in tensors), given[0].device)
    if any(t.is_meta for t in tensors):
        device = torch.device("meta")
    dtype = next((p.dtype for p in real.parameters() if p.is_floating_point()), torch.float32)
    inputs = tuple(torch.zeros(x.shape, dtype=dtype, device=device) for x in given)
    try:
        return _check(real.to(device), inputs)
    except ModelRefused as error:
        return Audit((), (str(error),))
    except Exception as error:
        without = " without weights" if device.type == "meta" else ""  # the meta device cannot do what needs numbers
        return Audit((), (f"cannot be checked{without} ({first_line(error)})",))


def _check(model: nn.Module, inputs: tuple[Tensor, ...]) -> Audit:
    on_shapes = OnShapes()
    module = trace(model, inputs, on_shapes)
    settle_outputs(module)
    found = unsupported(module)
    if found:
        return refusal(found, _others(module))
    module, _ = rewrite_traced(module, inputs, on_shapes)
    if not inputs[0].is_meta:
        check_claims(module, inputs)
    return audit(module)


def _others(module: fx.GraphModule) -> list[Entry]:
    """Return what the supported operations of a traced graph would become if there were no others."""
    respell(module)
    still, fixed = imageless(module.graph), constants(module.graph)
    entries = []
    for node in module.graph.nodes:
        kind = Kind.ACTIVATION if site_cap(node) is not None else kind_of(node, fixed)
        kind = Kind.LINEAR if node.target is F.batch_norm else kind
        if node not in still and kind is not None:
            entries.append(Entry(describe(node), _ROLES[kind], node.meta["path"], node.meta["source"]))
    return entries


_ROLES = {
    Kind.LINEAR: Role.LINEAR,
    Kind.WINDOW: Role.WINDOW,
    Kind.ACTIVATION: Role.SITE,
    Kind.ANALOG: Role.ANALOG,
}

"""Check a model before any data or weights are there: what each of its operations would become, or why it cannot."""

import copy

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ModelRefused
from .audit import Audit, Entry, Role, audit, refusal
from .canonical import describe, unsupported
from .on_shapes import OnShapes
from .operations import OPERATIONS, Kind
from .prepare import rewrite
from .signals import imageless
from .sites import site_cap
from .specialise import inputs_of
from .spellings import SYNONYMS
from .tracing import first_line, trace


def check(model: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Audit:
    """Return what ``model`` would become; it is traced on shapes alone, and may lie on torch's meta device.

    Args:
        model: any module.
        example: one batch [batch, channels, ...], or a tuple with one for each argument of ``forward``; on the meta
            device as well, if one likes.

    Raises:
        ModelRefused: the example is not one. What speaks against the model itself is in `Audit.reasons`.
    """
    inputs = tuple(x.to("meta") for x in inputs_of(example))
    real = copy.deepcopy(model).eval()
    found = _attempt(copy.deepcopy(real).to("meta"), inputs)
    if found.convertible or any(parameter.is_meta for parameter in real.parameters()):
        return found
    return _attempt(real, tuple(x.new_zeros(x.shape, device="cpu") for x in inputs))  # shapes alone may not do


def _attempt(model: nn.Module, inputs: tuple[Tensor, ...]) -> Audit:
    try:
        return _check(model, inputs)
    except ModelRefused as error:
        return Audit((), (error.message,))
    except Exception as error:  # the meta device cannot do what needs numbers
        return Audit((), (f"cannot be checked without weights ({first_line(error)})",))


def _check(model: nn.Module, inputs: tuple[Tensor, ...]) -> Audit:
    module = trace(model, inputs, OnShapes())
    found = unsupported(module)
    if found:
        still = imageless(module.graph)
        others = [
            Entry(describe(node), role, node.meta["path"], node.meta["source"])
            for node in module.graph.nodes
            if node not in still and (role := _likely_role(module, node)) is not None
        ]
        return refusal(found, others)
    return audit(rewrite(model, inputs)[0])


def _likely_role(module, node) -> Role | None:  # type: ignore[no-untyped-def]
    """Return what ``node`` of a traced graph would become if there were nothing unsupported beside it."""
    if site_cap(node) is not None:
        return Role.SITE
    if node.op == "call_module" and isinstance(module.get_submodule(str(node.target)), _BatchNorm):
        return Role.LINEAR
    operation = OPERATIONS.get(SYNONYMS.get(node.target, node.target))
    if operation is None:
        return None
    roles = {Kind.LINEAR: Role.LINEAR, Kind.WINDOW: Role.WINDOW, Kind.ACTIVATION: Role.SITE, Kind.ANALOG: Role.ANALOG}
    return roles[operation.kind]

"""Trace a model into a graph of function calls, each with the module and the source line that made it."""

import copy
import inspect
import math
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ModelRefused
from .concrete import join
from .decompositions import DECOMPOSITIONS, attend, normalise_instance
from .on_shapes import OnShapes
from .proxy import Pair, SizedProxy
from .sizes import Sizes
from .spellings import PAIRS, UNPACKED

LEAVES = (_BatchNorm,)
"""Modules whose own code cannot be traced: it looks at the rank of its input."""

BATCHES = (2, 3, 1, 7, 64, 256)
"""Numbers of images that code which handles the batch size itself is traced with, and must treat alike."""

_NOT_MODEL_CODE = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}", "<")

_TORCH = ("torch", "_operator", "operator", "math", "builtins")


def _is_model_code(filename: str) -> bool:
    return not filename.startswith(_NOT_MODEL_CODE)


class CallSiteTracer(fx.Tracer):
    """A torch.fx tracer that sees through every module but ``LEAVES``.

    ``nn.ReLU``, its subclasses and ``F.relu`` thus all become calls of one function, and a module that is called twice
    becomes two calls. Each node's ``meta`` holds ``path`` and ``type``, of the module that made the call, and
    ``source``, the line of the model's code.

    Args:
        inputs: the names of the arguments of ``forward`` that are given, the first ones.
        sizes: what shapes are known.
    """

    def __init__(self, inputs: list[str], sizes: Sizes) -> None:
        super().__init__()
        self.parameters = {id(parameter): name for name, parameter in sizes.root.named_parameters()}
        self.inputs = inputs
        self.sizes = sizes

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Make an input of each of ``inputs``; what else ``forward`` takes keeps its default."""
        return root_fn, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in self.inputs)]

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether ``m`` stays one node of the graph."""
        return isinstance(m, LEAVES) and type(m).forward.__module__.startswith("torch.nn")

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return what stands for ``node``'s value in the model's code."""
        return SizedProxy(node, self)

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *rest: Any, **named: Any
    ) -> Any:
        """Make a node of a call, or trace what the called function is made of."""
        parts = DECOMPOSITIONS.get(target) if kind in ("call_function", "call_method") else None
        if parts is None and kind == "call_function" and _is_foreign(target):
            parts = target
        if parts is not None:
            return parts(*args, **kwargs)
        proxy: Any = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        several = kind in ("call_function", "call_method") and (target in UNPACKED or target in PAIRS)
        found = self.sizes.value(proxy.node) if several else None
        if not isinstance(found, tuple | list):
            return proxy
        results = tuple(proxy[i] for i in range(len(found)))
        return Pair(*results) if target in PAIRS else results

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Trace into a module, or into what is written here in its place."""
        if isinstance(m, nn.MultiheadAttention):
            forward = partial(attend, m)
        elif isinstance(m, nn.modules.instancenorm._InstanceNorm):
            forward = partial(normalise_instance, m)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Return what stands for a module's attribute; torch searches all parameters each time."""
        name = self.parameters.get(id(attr_val))
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def path_of_module(self, mod: nn.Module) -> str:
        """Return the path of ``mod``; one that is made in a forward pass, ``nn.ReLU()(x)``, goes by its class."""
        try:
            return super().path_of_module(mod)
        except NameError:
            if self.is_leaf_module(mod, ""):
                raise
            return f"{self.scope.module_path}.{type(mod).__name__}".lstrip(".")

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Add a node, and remember where in the model it comes from."""
        node = super().create_node(*args, **kwargs)
        _put_first_argument_first(node)
        self.sizes.add(node)
        node.meta["path"], node.meta["type"] = self.scope.module_path, self.scope.module_type
        frame = sys._getframe(1)
        while not _is_model_code(frame.f_code.co_filename):
            if frame.f_code is trace.__code__ or frame.f_back is None:  # the model is all torch's: name its class
                kind = self.scope.module_type or type(self.root)
                node.meta["source"] = f"{kind.__module__}.{kind.__qualname__}"
                return node
            frame = frame.f_back
        node.meta["source"] = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        return node


def _is_foreign(target: Any) -> bool:
    """Return whether ``target`` is a library's Python function, which asked torch.fx not to look inside."""
    module = str(getattr(target, "__module__", None)).partition(".")[0]
    own = getattr(target, "__module__", "").startswith(__name__.partition(".")[0])
    return inspect.isfunction(target) and module not in _TORCH and not own and not hasattr(target, "operation")


def _put_first_argument_first(node: fx.Node) -> None:
    """Rewrite ``cat(tensors=[x])`` as ``cat([x])``, so that what an operation works on is ``args[0]``."""
    name = next((n for n in ("input", "tensors", "tensor") if n in node.kwargs), None)
    if node.op == "call_function" and not node.args and name is not None:
        node.args = (node.kwargs[name],)
        node.kwargs = {k: v for k, v in node.kwargs.items() if k != name}


def trace(model: nn.Module, example: tuple[Tensor, ...], on_shapes: OnShapes) -> fx.GraphModule:
    """Return the graph of ``model``'s forward pass on inputs like ``example``, one tensor [batch, ...] an argument.

    Arguments beyond those keep their defaults. Sizes other than that of the batch count as known numbers.

    Raises:
        ModelRefused: the forward pass takes fewer or more arguments, or cannot be traced (its control flow depends on
            the data); the message names the line.
    """
    _refuse_recurrence(model)
    try:
        return _trace(model, example, on_shapes)
    except ModelRefused as refusal:
        try:
            return join({batch: _trace(model, example, on_shapes, batch) for batch in BATCHES})
        except Exception:  # what the first way found is closer to the model's code
            raise refusal from None


def _trace(
    model: nn.Module, example: tuple[Tensor, ...], on_shapes: OnShapes, batch: int | None = None
) -> fx.GraphModule:
    """Trace with a symbolic number of images, or with that in ``batch``."""
    model = _with_same_tensors(model)
    names = _argument_names(model, len(example))
    tracer = CallSiteTracer(names, Sizes(model, example, on_shapes, batch))
    try:
        graph = tracer.trace(model)
    except Exception as error:
        hint = _ASSERTION_HINT if isinstance(error, AssertionError) else _TRACE_HINT
        raise ModelRefused(_explain(model, error), getattr(error, "hint", None) or hint) from error
    for node in graph.nodes:
        node.meta.pop("is_wrapped", None)  # torch would wrap the function for all later traces of the process
        if batch is not None:
            node.meta["known"] = tracer.sizes.known(node)
    return fx.GraphModule(tracer.root, graph, type(model).__name__)


def _argument_names(model: nn.Module, inputs: int) -> list[str]:
    parameters = list(inspect.signature(model.forward).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    most: float = math.inf if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(positional)
    if not required <= inputs <= most:
        raise ModelRefused(
            f"{type(model).__name__}.forward takes {required} to {most} tensors, got {inputs}",
            "give the example as a tuple with one tensor for each argument",
        )
    return [p.name for p in positional][:inputs] + [f"input_{i}" for i in range(len(positional), inputs)]


def _with_same_tensors(model: nn.Module) -> nn.Module:
    """Return a copy of ``model`` for its code to write to: some models keep what they computed, here of proxies."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _refuse_recurrence(model: nn.Module) -> None:
    recurrent = [f"  {name}: {type(m).__name__}" for name, m in model.named_modules() if isinstance(m, nn.RNNBase)]
    if recurrent:
        raise ModelRefused(
            "recurrent layers carry a state of their own through time, which cannot be combined with spikes:\n"
            + "\n".join(recurrent),
            "convert the part of the model before or after them",
        )


_ASSERTION_HINT = "the model itself says what it expects: check the size and the number of channels of the input"
_TRACE_HINT = "rewrite that line so that it does not depend on the values in a tensor, or convert a submodule"


def _explain(model: nn.Module, error: Exception) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_model_code(f.filename)]
    where = f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else "its forward method"
    return f"{type(model).__name__} cannot be traced at {where} ({first_line(error)})"


def first_line(error: Exception) -> str:
    """Return the kind of ``error`` and the first line of its message."""
    return ": ".join([type(error).__name__, *str(error).splitlines()[:1]])

"""Trace a model into a graph of function calls, each with the module and the source line that made it."""

import inspect
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import ModelRefused
from .signals import downstream

LEAVES = (_BatchNorm, nn.MultiheadAttention, nn.RNNBase, nn.modules.instancenorm._InstanceNorm)
"""Modules whose own code cannot be traced: it looks at the values or the rank of its input."""

_NOT_MODEL_CODE = (f"{Path(torch.__file__).parent}{os.sep}", f"{Path(__file__).parent}{os.sep}", "<")


def _is_model_code(filename: str) -> bool:
    return not filename.startswith(_NOT_MODEL_CODE)


class CallSiteTracer(fx.Tracer):
    """A torch.fx tracer that sees through every module but ``LEAVES``.

    ``nn.ReLU``, its subclasses and ``F.relu`` thus all become calls of one function, and a module that is called twice
    becomes two calls. Each node's ``meta`` holds ``path`` and ``type``, of the module that made the call, and
    ``source``, the line of the model's code.
    """

    def __init__(self) -> None:
        super().__init__(param_shapes_constant=True)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether ``m`` stays one node of the graph."""
        return isinstance(m, LEAVES) and type(m).__module__.startswith("torch.nn")

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Add a node, and remember where in the model it comes from."""
        node = super().create_node(*args, **kwargs)
        node.meta["path"], node.meta["type"] = self.scope.module_path, self.scope.module_type
        frame = sys._getframe(1)
        while frame.f_back is not None and not _is_model_code(frame.f_code.co_filename):
            frame = frame.f_back
        node.meta["source"] = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        return node


def trace(model: nn.Module, inputs: int) -> fx.GraphModule:
    """Return the graph of ``model``'s forward pass with its first ``inputs`` arguments.

    Arguments beyond those keep their defaults.

    Raises:
        ModelRefused: the forward pass takes fewer or more arguments, or cannot be traced (its control flow depends on
            the data); the message names the line.
    """
    tracer = CallSiteTracer()
    parameters = list(inspect.signature(model.forward).parameters.values())
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = sum(p.default is p.empty for p in positional)
    if not required <= inputs <= len(positional):
        raise ModelRefused(
            f"{type(model).__name__}.forward takes {required} to {len(positional)} tensors, got {inputs}",
            "give the example as a tuple with one tensor for each argument",
        )
    defaults = {p.name: p.default for p in positional[inputs:]}
    try:
        graph = tracer.trace(model, concrete_args=defaults or None)
    except Exception as error:
        raise ModelRefused(_explain(model, error), _TRACE_HINT) from error
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    unused = downstream(graph, placeholders[inputs:])  # the inputs left at their defaults, and the checks of them
    for node in reversed(list(graph.nodes)):
        if node in unused:
            graph.erase_node(node)
    return fx.GraphModule(tracer.root, graph)


_TRACE_HINT = "rewrite that line so that it does not depend on the values in a tensor, or convert a submodule"


def _explain(model: nn.Module, error: Exception) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_model_code(f.filename)]
    where = f"{frames[-1].filename}:{frames[-1].lineno}: {frames[-1].line}" if frames else "its forward method"
    return f"{type(model).__name__} cannot be traced at {where} ({type(error).__name__}: {str(error).splitlines()[0]})"

"""The .snn file: a spiking network as data.

Its tensors are the network's constants (``weights.*``) and thresholds (``threshold.*``); its JSON document holds the
graph, the sites, the neuron, and how it was made. Functions are names from the table in `graph.operations`, so opening
a file runs no code of the model, and needs neither the model's library nor pickle. An unknown name is an error, never
an attribute look-up, and no name in a file becomes a Python name: torch.fx writes a graph's names into source code.
float32 tensors whose numbers all fit in half precision are stored so, and come back as they were.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from .errors import ArtefactRefused, ModelRefused, SnnconvertError
from .graph import PreparedGraph, Proof, Site, audit
from .graph.canonical import attribute
from .graph.on_shapes import OnShapes
from .graph.operations import BY_NAME, OPERATIONS, SYNAPSES
from .graph.shapes import record_shapes
from .graph.sites import site_of
from .neurons import Correction
from .simulation import SpikingModel
from .tensor_file import read_tensors, write_tensors
from .thresholds import Thresholds

FORMAT = 4
"""The version of the file format; a file with a larger one is refused."""

_KEY = "snnconvert"
_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


def save(path: Path | str, model: SpikingModel, about: dict[str, Any]) -> None:
    """Write ``model`` to ``path``, all or nothing.

    Args:
        about: what else to remember, JSON-able: where the model came from, preprocessing, measured accuracy.

    Raises:
        ArtefactRefused: the file cannot be written.
        ModelRefused: the graph holds an argument that has no JSON form.
    """
    module, graph = model.ann, model.graph
    thresholds = model.thresholds.to(graph)  # the model may have changed its type of number since
    nodes, sites, tensors = [], {}, {}
    for node in module.graph.nodes:
        nodes.append(_encode_node(node))
        site = site_of(node)
        if site is not None:
            sites[str(node.target)] = {
                "name": site.name,
                "cap": site.cap,
                "signed": site.signed,
                "opposite": site.opposite,
            }
            tensors[f"threshold.{node.target}"] = thresholds.values[site.name]
            correction = thresholds.corrections.get(site.name, Correction())
            tensors |= {f"{k}.{node.target}": v for k, v in correction._asdict().items() if v is not None}
        if node.op == "get_attr":
            tensors[f"weights.{node.target}"] = attribute(module, str(node.target))
    tensors |= {f"changed.{name}": value for name, value in thresholds.weights.items()}
    document = {
        "format": FORMAT,
        "conversion": {
            "neuron": model.neuron,
            "steps": model.steps,
            "shuffle": model.shuffle,
            "seed": model.seed,
            "options": model.options,
        },
        "thresholds": {
            "steps": thresholds.steps,
            "rule": thresholds.rule,
            "per": thresholds.per,
            "source": thresholds.source,
            "warnings": list(thresholds.warnings),
            "neuron": thresholds.neuron,
            "bursts": thresholds.bursts,
        },
        "proof": {"absolute": graph.proof.absolute, "relative": graph.proof.relative, "images": graph.proof.images},
        "input_shapes": [list(shape) for shape in graph.input_shapes],
        "notes": list(graph.notes),
        "audit": {k: v for k, v in audit(module).to_json().items() if k not in ("operations", "neurons", "executors")},
        "about": about,
        "sites": sites,
        "nodes": nodes,
    }
    write_tensors(path, {name: _narrow(tensor) for name, tensor in tensors.items()}, _KEY, document)


def load(path: Path | str) -> tuple[SpikingModel, dict[str, Any]]:
    """Return the spiking network in ``path``, and what ``save`` was told about it.

    Raises:
        ArtefactRefused: the file is missing, truncated, foreign, damaged, or from a later version.
    """
    tensors, document = read_tensors(path, _KEY, FORMAT, ".snn")
    tensors = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}
    try:
        return _decode_model(tensors, document), dict(document["about"])
    except ArtefactRefused as error:
        raise ArtefactRefused(f"{path}: {error.message}", error.hint) from error
    except Exception as error:  # the content can be wrong in more ways than there are names for
        what = error.message if isinstance(error, SnnconvertError) else error
        raise ArtefactRefused(
            f"{path} is a damaged .snn file: {type(error).__name__}: {what}", "convert the model again"
        ) from error


def _narrow(tensor: Tensor) -> Tensor:
    """Return a float32 tensor in half precision if that loses nothing; a prepared network holds no half itself."""
    narrow = tensor.half() if tensor.dtype == torch.float32 else tensor
    return narrow if torch.equal(narrow.to(tensor.dtype), tensor) else tensor


def _encode_node(node: fx.Node) -> dict[str, Any]:
    encoded: dict[str, Any] = {"name": node.name, "op": node.op}
    if node.op == "call_function":
        encoded["target"] = OPERATIONS[node.target].name  # type: ignore[index]
    elif node.op != "output":
        encoded["target"] = str(node.target)
    if node.op in ("call_function", "call_module", "output"):
        encoded["args"] = [encode(a) for a in node.args]
    if node.op == "call_function" and node.meta.get("path"):
        encoded["path"] = node.meta["path"]
    if node.kwargs:
        encoded["kwargs"] = {k: encode(v) for k, v in node.kwargs.items()}
    return encoded


def encode(value: Any) -> Any:
    """Return a JSON form of an argument: plain numbers, strings and lists stay, all else is an object with one key.

    Raises:
        ModelRefused: the value has no such form.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"float": str(value)}
        case fx.Node():
            return {"node": value.name}
        case slice():
            return {"slice": [encode(v) for v in (value.start, value.stop, value.step)]}
        case list():
            return [encode(v) for v in value]
        case tuple():
            return {"tuple": [encode(v) for v in value]}
        case dict():
            return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
        case torch.dtype() if value in _DTYPES.values():
            return {"dtype": str(value).removeprefix("torch.")}
        case _ if value is Ellipsis:
            return {"ellipsis": True}
    raise ModelRefused(f"an argument of type {type(value).__name__} ({value!r}) has no place in a .snn file")


def decode(value: Any, nodes: dict[str, fx.Node]) -> Any:
    """Return the argument that `encode` made ``value`` from.

    Raises:
        ArtefactRefused: it is no such form, or names a node that does not come before.
    """
    if isinstance(value, list):
        return [decode(v, nodes) for v in value]
    if not isinstance(value, dict):
        return value
    (form, content), *more = value.items()
    decoders: dict[str, Callable[[Any], Any]] = {
        "float": float,
        "node": lambda c: _earlier(c, nodes),
        "slice": lambda c: slice(*(decode(v, nodes) for v in c)),
        "tuple": lambda c: tuple(decode(v, nodes) for v in c),
        "dict": lambda c: {decode(k, nodes): decode(v, nodes) for k, v in c},
        "dtype": _DTYPES.__getitem__,
        "ellipsis": lambda c: Ellipsis,
    }
    if more or form not in decoders:
        raise ArtefactRefused(f"a damaged .snn file: unknown form of argument {form!r}", "convert the model again")
    return decoders[form](content)


def _earlier(name: str, nodes: dict[str, fx.Node]) -> fx.Node:
    if name not in nodes:
        raise ArtefactRefused(
            f"a damaged .snn file: node {name!r} is read before it is there", "convert the model again"
        )
    return nodes[name]


def _decode_model(tensors: dict[str, Tensor], document: dict[str, Any]) -> SpikingModel:
    shapes = tuple(tuple(shape) for shape in document["input_shapes"])
    module = _decode_graph(tensors, document)
    weights = [tensor for name, tensor in tensors.items() if name.startswith("weights.")]
    dtype = next((t.dtype for t in weights if t.is_floating_point()), torch.float32)
    record_shapes(module, shapes, dtype, OnShapes())
    _check_biases(module)
    values = {site["name"]: tensors[f"threshold.{child}"] for child, site in document["sites"].items()}
    corrections = {
        site["name"]: Correction(**{kind: tensors.get(f"{kind}.{child}") for kind in Correction._fields})
        for child, site in document["sites"].items()
    }
    targets = _targets(tensors)
    changed = {t: tensors[f"changed.{name}"] for name, t in targets.items() if f"changed.{name}" in tensors}
    made = document["thresholds"]
    return SpikingModel(
        PreparedGraph(module, Proof(**document["proof"]), shapes, tuple(document["notes"])),
        Thresholds(values, **made | {"warnings": tuple(made["warnings"])}, corrections=corrections, weights=changed),
        **document["conversion"],
    )


def _targets(tensors: dict[str, Tensor]) -> dict[str, str]:
    """Return the name that each constant of a file gets in the graph: no name in a file becomes a Python name."""
    names = [name.removeprefix("weights.") for name in tensors if name.startswith("weights.")]
    return {name: f"weight_{number}" for number, name in enumerate(names)}


def _decode_graph(tensors: dict[str, Tensor], document: dict[str, Any]) -> fx.GraphModule:
    root, graph = nn.Module(), fx.Graph()
    targets: dict[tuple[str, str], Any] = {("call_function", name): op.function for name, op in BY_NAME.items()}
    for name, target in _targets(tensors).items():
        targets["get_attr", name] = target
        root.register_buffer(target, tensors[f"weights.{name}"])
    for number, (child, site) in enumerate(document["sites"].items()):
        targets["call_module", child] = f"site_{number}"
        root.add_module(f"site_{number}", _decode_site(site))
    nodes: dict[str, fx.Node] = {}
    for encoded in document["nodes"]:
        if encoded["op"] == "placeholder":
            targets["placeholder", encoded["target"]] = f"input_{len(nodes)}"
        nodes[encoded["name"]] = _decode_node(graph, encoded, nodes, targets)
    graph.output_node()  # raises where there is none
    graph.lint()
    return fx.GraphModule(root, graph).eval()


def _check_biases(module: fx.GraphModule) -> None:
    """Raise ArtefactRefused where a bias does not fit its layer, which shapes alone do not tell torch."""
    for node in module.graph.nodes:
        bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
        if node.target not in SYNAPSES.values() or not isinstance(bias, fx.Node) or bias.op != "get_attr":
            continue
        channels = node.meta["shape"][-1 if node.target is SYNAPSES["linear"] else 1]
        found = tuple(attribute(module, str(bias.target)).shape)
        if found != (channels,):
            raise ArtefactRefused(f"{node.name} has a bias of shape {found}, not ({channels},)", "convert again")


def _decode_site(site: dict[str, Any]) -> Site:
    return Site(site["name"], site["cap"], signed=site.get("signed", False), opposite=site.get("opposite"))


_KINDS = {"call_function": "operation", "get_attr": "weight", "call_module": "site", "placeholder": "input"}


def _decode_node(
    graph: fx.Graph, encoded: dict[str, Any], nodes: dict[str, fx.Node], targets: dict[tuple[str, str], Any]
) -> fx.Node:
    """Append the node that ``encoded`` describes; ``targets`` holds everything that a node may call or read."""
    op, name = encoded["op"], encoded["name"]
    args = tuple(decode(a, nodes) for a in encoded.get("args", []))
    kwargs = {k: decode(v, nodes) for k, v in encoded.get("kwargs", {}).items()}
    if op == "output":
        return graph.create_node(op, "output", args, kwargs, name)
    if op not in _KINDS:
        raise ArtefactRefused(f"unknown kind of node {op!r} in a .snn file", "convert the model again")
    if (op, encoded["target"]) not in targets:
        raise ArtefactRefused(
            f"unknown {_KINDS[op]} {encoded['target']!r} in a .snn file",
            "register it with snnconvert.activation if it is yours, else upgrade snnconvert or convert again",
        )
    if not all(k.isidentifier() for k in kwargs):
        raise ArtefactRefused(f"{name} has arguments without a name in a .snn file", "convert the model again")
    node = graph.create_node(op, targets[op, encoded["target"]], args, kwargs, name)
    node.meta["path"] = str(encoded.get("path", ""))
    return node


__all__ = ["FORMAT", "load", "save"]

"""The .snn file: a spiking network as data.

A .snn file is a safetensors file. Its tensors are the network's constants (``weights.*``) and thresholds
(``threshold.*``); its header holds one JSON document, ``snnconvert``, with the graph, the sites, the neuron, and how
it was made. Functions are names from the table in `graph.operations`, so opening a file runs no code of the model,
and needs neither the model's library nor pickle. An unknown name is an error, never an attribute look-up.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, fx, nn

from .errors import ArtefactRefused, ModelRefused, SnnconvertError
from .graph import PreparedGraph, Proof, Site
from .graph.canonical import attribute
from .graph.operations import BY_NAME, OPERATIONS
from .graph.sites import site_of
from .simulation import SpikingModel
from .thresholds import Thresholds

FORMAT = 1
"""The version of the file format; a file with a larger one is refused."""

_KEY = "snnconvert"
_DTYPES = {str(d).removeprefix("torch."): d for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}


def save(path: Path, model: SpikingModel, about: dict[str, Any]) -> None:
    """Write ``model`` to ``path``, all or nothing.

    Args:
        about: what else to remember, JSON-able: where the model came from, preprocessing, measured accuracy.

    Raises:
        ArtefactRefused: the file cannot be written.
        ModelRefused: the graph holds an argument that has no JSON form.
    """
    module, graph = model.ann, model.graph
    nodes, sites, tensors = [], {}, {}
    for node in module.graph.nodes:
        nodes.append(_encode_node(node))
        site = site_of(node)
        if site is not None:
            sites[str(node.target)] = {"name": site.name, "cap": site.cap, "shape": list(site.shape)}
            tensors[f"threshold.{node.target}"] = model.thresholds.values[site.name]
        if node.op == "get_attr":
            tensors[f"weights.{node.target}"] = attribute(module, str(node.target))
    thresholds = model.thresholds
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
        },
        "proof": {"absolute": graph.proof.absolute, "relative": graph.proof.relative, "images": graph.proof.images},
        "input_shapes": [list(shape) for shape in graph.input_shapes],
        "notes": list(graph.notes),
        "about": about,
        "sites": sites,
        "nodes": nodes,
    }
    write_tensors(path, {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, _KEY, document)


def load(path: Path) -> tuple[SpikingModel, dict[str, Any]]:
    """Return the spiking network in ``path``, and what ``save`` was told about it.

    Raises:
        ArtefactRefused: the file is missing, truncated, foreign, damaged, or from a later version.
    """
    tensors, document = read_tensors(path, _KEY, FORMAT, ".snn")
    try:
        graph = PreparedGraph(
            _decode_graph(document, tensors),
            Proof(**document["proof"]),
            tuple(tuple(shape) for shape in document["input_shapes"]),
            tuple(document["notes"]),
        )
        values = {site["name"]: tensors[f"threshold.{child}"] for child, site in document["sites"].items()}
        thresholds = Thresholds(
            values, **document["thresholds"] | {"warnings": tuple(document["thresholds"]["warnings"])}
        )
        model = SpikingModel(graph, thresholds, **document["conversion"])
        about: dict[str, Any] = dict(document["about"])
    except ArtefactRefused as error:
        raise ArtefactRefused(f"{path}: {error.message}", error.hint) from error
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SnnconvertError) as error:
        raise ArtefactRefused(
            f"{path} is a damaged .snn file: {type(error).__name__}: {error}", "convert the model again"
        ) from error
    return model, about


def write_tensors(path: Path, tensors: dict[str, Tensor], key: str, document: dict[str, Any]) -> None:
    """Write ``tensors`` and the JSON ``document`` under ``key`` in the header of a safetensors file, all or nothing.

    Raises:
        ArtefactRefused: the folder does not exist or cannot be written, or ``path`` is a folder.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            save_file(tensors, name, {key: json.dumps(document, allow_nan=False)})
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise ArtefactRefused(
            f"cannot write {path}: {error.strerror or error}", "choose another place with -o"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def read_tensors(path: Path, key: str, version: int, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file, and the JSON document under ``key`` in its header.

    Args:
        version: the latest format that can be read.
        kind: the file's ending, for messages.

    Raises:
        ArtefactRefused: the file is missing, truncated, foreign, or from a later version.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ArtefactRefused(f"{path} {what}, expected a {kind} file", "check the path")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if key in header else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ArtefactRefused(
            f"{path} is not a {kind} file, or is truncated ({error})", "write it again with snnconvert"
        ) from error
    if key not in header:
        raise ArtefactRefused(
            f"{path} is a safetensors file, but not a {kind} file", "convert or calibrate a model to make one"
        )
    try:
        document = json.loads(header[key])
        found = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtefactRefused(
            f"{path} is a damaged {kind} file: its header cannot be read", "write it again"
        ) from error
    if not isinstance(found, int) or found > version:
        raise ArtefactRefused(
            f"{path} has format {found}, this version of snnconvert reads up to {version}", "upgrade snnconvert"
        )
    return tensors, document


def _encode_node(node: fx.Node) -> dict[str, Any]:
    encoded: dict[str, Any] = {"name": node.name, "op": node.op}
    if node.op == "call_function":
        encoded["target"] = OPERATIONS[node.target].name  # type: ignore[index]
    elif node.op != "output":
        encoded["target"] = str(node.target)
    if node.op in ("call_function", "call_module", "output"):
        encoded["args"] = [encode(a) for a in node.args]
    if node.kwargs:
        encoded["kwargs"] = {k: encode(v) for k, v in node.kwargs.items()}
    if "shape" in node.meta:
        encoded["shape"] = list(node.meta["shape"])
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
            return {"dict": {str(k): encode(v) for k, v in value.items()}}
        case torch.dtype():
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
        "node": nodes.__getitem__,
        "slice": lambda c: slice(*(decode(v, nodes) for v in c)),
        "tuple": lambda c: tuple(decode(v, nodes) for v in c),
        "dict": lambda c: {k: decode(v, nodes) for k, v in c.items()},
        "dtype": _DTYPES.__getitem__,
        "ellipsis": lambda c: Ellipsis,
    }
    if more or form not in decoders:
        raise ArtefactRefused(f"a damaged .snn file: unknown form of argument {form!r}", "convert the model again")
    return decoders[form](content)


def _decode_graph(document: dict[str, Any], tensors: dict[str, Tensor]) -> fx.GraphModule:
    root = nn.Module()
    for name, tensor in tensors.items():
        if name.startswith("weights."):
            _register(root, name.removeprefix("weights."), tensor)
    for child, site in document["sites"].items():
        root.add_module(child, Site(site["name"], site["cap"], tuple(site["shape"])))
    graph = fx.Graph()
    nodes: dict[str, fx.Node] = {}
    for encoded in document["nodes"]:
        node = _decode_node(graph, encoded, nodes, document["sites"])
        if "shape" in encoded:
            node.meta["shape"] = tuple(encoded["shape"])
        nodes[encoded["name"]] = node
    graph.lint()
    return fx.GraphModule(root, graph)


def _decode_node(graph: fx.Graph, encoded: dict[str, Any], nodes: dict[str, fx.Node], sites: dict[str, Any]) -> fx.Node:
    op, target, name = encoded["op"], encoded.get("target"), encoded["name"]
    args = tuple(decode(a, nodes) for a in encoded.get("args", []))
    kwargs = {k: decode(v, nodes) for k, v in encoded.get("kwargs", {}).items()}
    if op == "call_function":
        if target not in BY_NAME:
            raise ArtefactRefused(
                f"unknown operation {target!r} in a .snn file", "upgrade snnconvert, or convert again"
            )
        return graph.create_node(op, BY_NAME[target].function, args, kwargs, name)
    if op == "call_module" and target not in sites:
        raise ArtefactRefused(f"unknown site {target!r} in a .snn file", "convert the model again")
    if op not in ("placeholder", "get_attr", "call_module", "output"):
        raise ArtefactRefused(f"unknown kind of node {op!r} in a .snn file", "convert the model again")
    return graph.create_node(op, target or "output", args, kwargs, name)


def _register(root: nn.Module, path: str, tensor: Tensor) -> None:
    *parents, name = path.split(".")
    module = root
    for parent in parents:
        if not hasattr(module, parent):
            module.add_module(parent, nn.Module())
        module = module.get_submodule(parent)
    module.register_buffer(name, tensor)


__all__ = ["FORMAT", "load", "read_tensors", "save", "write_tensors"]

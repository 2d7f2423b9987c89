"""Tensors and one JSON document in a file: a safetensors file, written all or nothing, with a hash of what it holds.

Artefacts and calibrations are such files. The document stands under a key of its own in the safetensors header, beside
the hash, so that a bit that changed on the way is found instead of simulated.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import ArtefactRefused, UsageError
from .whole_file import written_whole

_HASH = "sha256"


def write_tensors(path: Path | str, tensors: dict[str, Tensor], key: str, document: dict[str, Any]) -> None:
    """Write ``tensors`` and the JSON ``document`` under ``key`` in the header of a safetensors file, all or nothing.

    Raises:
        ArtefactRefused: the folder does not exist or cannot be written, or ``path`` is a folder.
        UsageError: the document holds something that JSON does not.
    """
    path = Path(path)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    try:
        text = json.dumps(document, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{path} keeps numbers, texts, lists and dictionaries of them, got something else: {error}",
            "leave it out, or write it as text",
        ) from error
    try:
        with written_whole(path) as part:
            save_file(tensors, part, {key: text, _HASH: _hash(tensors, text)})
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtefactRefused(f"cannot write {path}: {reason}", "choose another place with -o") from error


def _hash(tensors: dict[str, Tensor], text: str) -> str:
    found = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def read_tensors(path: Path | str, key: str, version: int, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a safetensors file, and the JSON document under ``key`` in its header.

    Args:
        version: the latest format that can be read.
        kind: the file's ending, for messages.

    Raises:
        ArtefactRefused: the file is missing, truncated, foreign, damaged, or from a later version.
    """
    path = Path(path)
    header, tensors = _open(path, key, kind)
    try:
        document = json.loads(header[key])
        found = document["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtefactRefused(
            f"{path} is a damaged {kind} file: its header cannot be read", "write it again"
        ) from error
    if type(found) is not int or not 1 <= found <= version:
        raise ArtefactRefused(
            f"{path} has format {found}, this version of snnconvert reads up to {version}", "upgrade snnconvert"
        )
    if header.get(_HASH) != _hash(tensors, header[key]):
        raise ArtefactRefused(
            f"{path} is a damaged {kind} file: its content is not what was written", "copy or write it again"
        )
    return tensors, document


def _open(path: Path, key: str, kind: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ArtefactRefused(f"{path} {what}, expected a {kind} file", "check the path")
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()} if key in header else {}  # noqa: SIM118
    except OSError as error:
        raise ArtefactRefused(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    except Exception as error:  # whatever safetensors makes of bytes that are not its own
        raise ArtefactRefused(
            f"{path} is not a {kind} file, or is truncated ({error})", "write it again with snnconvert"
        ) from error
    if key not in header:
        raise ArtefactRefused(
            f"{path} is a safetensors file, but not a {kind} file", "convert or calibrate a model to make one"
        )
    return header, tensors


__all__ = ["read_tensors", "write_tensors"]

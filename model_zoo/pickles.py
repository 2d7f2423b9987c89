"""Reading PyTorch checkpoint files, without running what they contain unless the user insists."""

import pickle
import re
import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from snnconvert.converter.errors import ModelRefused

from .importing import working_directory_importable

TRUST_HINT = "if you trust the author of the file, insist with --trust: it runs the code in the file"
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def read_pickle(path: Path, trust: bool) -> Any:
    """Return what ``torch.save`` wrote into ``path``.

    Args:
        path: an existing file.
        trust: unpickle arbitrary objects, which runs code that the file names.

    Raises:
        ModelRefused: the file is no checkpoint, is truncated, holds TorchScript or an exported program, or holds
            objects that need code and ``trust`` is false.
    """
    _check_kind(path)
    try:
        with warnings.catch_warnings(), working_directory_importable() if trust else nullcontext():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        raise (_damaged(path, error) if trust else _needs_code(path, str(error))) from error
    except (AttributeError, ImportError) as error:
        raise ModelRefused(
            f"{path} holds objects whose code cannot be imported: {error}",
            "run from the folder that holds this code, or save model.state_dict() instead",
        ) from error
    except Exception as error:  # torch.load has no error of its own for broken files
        raise _damaged(path, error) from error


def _check_kind(path: Path) -> None:
    """Refuse files that are no pickled checkpoint by their first bytes and the names inside the archive."""
    with path.open("rb") as file:
        start = file.read(4)
    if not start.startswith((_ZIP, _PICKLE)):
        raise ModelRefused(
            f"{path} is not a PyTorch checkpoint: it starts with {start!r}",
            "expected a file written by torch.save or a .safetensors file",
        )
    if start != _ZIP:
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise _damaged(path, error) from error
    kind = _archive_kind(members)
    if kind is not None:
        raise ModelRefused(
            f"{path} is {kind}, expected the weights of a model",
            "save model.state_dict() of the Python model it was made from",
        )


def _archive_kind(members: list[str]) -> str | None:
    if any(name.endswith("constants.pkl") for name in members):
        return "a TorchScript archive"
    if any(name.endswith(("archive_format", "serialized_exported_program.json")) for name in members):
        return "an exported program (torch.export)"
    if not any(name.endswith("data.pkl") for name in members):
        return "a zip archive without a checkpoint"
    return None


def _needs_code(path: Path, message: str) -> ModelRefused:
    named = re.search(r"GLOBAL ([\w.]+)", message)
    reason = f"a pickle that needs code ({named.group(1)})" if named else "a pickle of more than tensors"
    return ModelRefused(
        f"{path} is {reason}, not a plain state_dict: reading it could run anything",
        f"save model.state_dict() instead; {TRUST_HINT}",
    )


def _damaged(path: Path, error: Exception) -> ModelRefused:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ModelRefused(f"{path} is truncated or damaged: {reason}", "fetch or save it again")

"""Reading weights: a file in, tensors by name out, whatever wrappers training left around them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused, listed

from .pickles import read_pickle

SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights", "params", "state_dict_ema", "model_ema")
PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile
TRAINING_ONLY = ("aux1.", "aux2.", "AuxLogits.")  # evaluation does not use these heads


@dataclass(frozen=True)
class Checkpoint:
    """What a file of weights holds.

    Args:
        state: tensors by name, wrappers removed; empty where ``module`` is given.
        module: the pickled network itself; only where the user trusted the file.
        notes: what was removed, for people.
    """

    state: dict[str, Tensor]
    module: nn.Module | None = None
    notes: tuple[str, ...] = ()


def read_weights(path: Path, *, trust: bool = False) -> Checkpoint:
    """Return the tensors in the file ``path``.

    Args:
        path: .safetensors, or anything that ``torch.save`` wrote.
        trust: allow a pickle that runs code.

    Raises:
        ModelRefused: there is no such file, it cannot be read, it needs code, it holds no tensors by name, or some of
            its numbers are NaN or infinite.
    """
    _check_path(path)
    content = _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path, trust)
    content, notes = _unwrap(path, content)
    if isinstance(content, nn.Module):
        _check_finite(path, content.state_dict())
        return Checkpoint({}, content.eval(), (*notes, "a pickled network, used as it is (trusted)"))
    state, removed = _without_prefixes(content)
    _check_finite(path, state)
    return Checkpoint(state, notes=(*notes, *removed))


def without_training_heads(checkpoint: Checkpoint) -> Checkpoint:
    """Return ``checkpoint`` less the auxiliary heads of GoogLeNet and Inception, which the zoo builds without them."""
    kept = {key: value for key, value in checkpoint.state.items() if not key.startswith(TRAINING_ONLY)}
    if len(kept) == len(checkpoint.state):
        return checkpoint
    note = f"{len(checkpoint.state) - len(kept)} tensors of heads that only training uses left out"
    return Checkpoint(kept, checkpoint.module, (*checkpoint.notes, note))


def _check_path(path: Path) -> None:
    if path.is_dir():
        raise ModelRefused(
            f"{path} is a folder, expected a file of weights", f"name one of {', '.join(SUFFIXES)} in it"
        )
    if not path.exists():
        raise ModelRefused(f"{path} does not exist", "check the path, or name a model: `snnconvert zoo` lists some")
    if path.stat().st_size == 0:
        raise ModelRefused(f"{path} is empty", "fetch or save it again")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ModelRefused(f"{path} is not a complete safetensors file: {error}", "fetch or save it again") from error


def _unwrap(path: Path, content: Any) -> tuple[dict[str, Tensor] | nn.Module, list[str]]:
    """Return the state_dict or network inside ``content``, and under which names it lay."""
    notes: list[str] = []
    while not _is_state(content):
        if isinstance(content, nn.Module):
            return content, notes
        if not isinstance(content, Mapping):
            raise _no_state(path, f"a {type(content).__name__}")
        inner = [key for key in content if _is_state(content[key]) or isinstance(content[key], nn.Module)]
        inner = inner or [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        chosen = next((key for key in WRAPPERS if key in inner), inner[0] if len(inner) == 1 else None)
        if chosen is None:
            raise _no_state(path, f"a dictionary with {_contents(content)}")
        others = [repr(key) for key in inner if key != chosen]
        notes.append(f"weights under {chosen!r}" + (f", not {listed(others)}" if others else ""))
        content = content[chosen]
    return dict(content), notes


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    )


def _no_state(path: Path, got: str) -> ModelRefused:
    return ModelRefused(f"{path}: expected tensors by name (a state_dict), got {got}", "save model.state_dict()")


def _contents(content: Mapping[Any, Any]) -> str:
    odd = [f"{key!r}: {type(value).__name__}" for key, value in content.items() if not isinstance(value, Tensor)]
    return listed(odd) if odd else "no entries"


def _without_prefixes(state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    removed = []
    while prefix := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), None):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
        removed.append(f"prefix {prefix!r} removed")
    return state, removed


def _check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    bad = [key for key, value in state.items() if value.is_floating_point() and not torch.isfinite(value.float()).all()]
    if bad:
        raise ModelRefused(
            f"{path}: {len(bad)} of {len(state)} tensors hold NaN or infinite numbers: {listed(bad)}",
            "the training diverged, or the file is damaged",
        )

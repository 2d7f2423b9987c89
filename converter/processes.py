"""Several processes that share one piece of work, as torchrun starts them, or the only one that there is.

Each does its part; then each `gather`s what all of them found, and goes on with the same numbers. What goes wrong in
one process goes wrong in all: an exchange carries an error in the place of a result, and a process that ends early
takes part in the exchange that the others come to next. Whoever starts the processes joins them into torch's default
group first; without a group there is one process, and nothing is sent.
"""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import ProcessLost, SnnconvertError

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Outcome:
    """What one process brings to an exchange: a result, or an error; and whether it expects no more results."""

    found: Any = None
    error: Exception | None = None
    leaves: bool = False


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _joined() else 0


def count() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _joined() else 1


def gather(work: Callable[[], Found]) -> list[Found]:
    """Return what ``work`` finds in each process, in the order of their ranks, to all of them.

    Raises:
        Exception: what ``work`` raised; of several processes the first one's error, in all of them.
        ProcessLost: another process is gone, or does not answer.
    """
    if count() == 1:
        return [work()]
    try:
        mine = _Outcome(work())
    except ProcessLost:
        raise
    except Exception as error:
        mine = _Outcome(error=_portable(error))
    outcomes = _exchange(mine)
    _raise_first(outcomes)
    ended = [number for number, outcome in enumerate(outcomes) if outcome.leaves]
    if ended:
        raise SnnconvertError(
            f"process {ended[0]} of {count()} has ended, and process {rank()} expects results of it",
            "start all processes with the same words",
        )
    return [outcome.found for outcome in outcomes]


def add(tensors: list[Tensor]) -> None:
    """Put the sum over all processes in the place of each tensor: the same bits in every process.

    Raises:
        ProcessLost: another process is gone, or does not answer.
    """
    if count() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    _together(lambda: dist.all_reduce(flat))
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def align(tensors: list[Tensor]) -> None:
    """Put the values of the first process in the place of each tensor: the same bits in every process.

    Raises:
        ProcessLost: another process is gone, or does not answer.
    """
    if rank():
        for tensor in tensors:
            tensor.zero_()
    add(tensors)


def leave(error: Exception | None = None) -> None:
    """Wait until no process expects results any more; those that still do get ``error``.

    Raises:
        Exception: what another process ended with, where this one has no error of its own.
        ProcessLost: another process is gone, or does not answer.
    """
    if count() == 1:
        return
    mine = _Outcome(error=None if error is None else _portable(error), leaves=True)
    others: Exception | None = None
    while True:
        outcomes = _exchange(mine)
        others = others or next((outcome.error for outcome in outcomes if outcome.error is not None), None)
        if all(outcome.leaves for outcome in outcomes):
            break
    if error is None and others is not None:
        raise others


def _raise_first(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        if outcome.error is not None:
            raise outcome.error


def _exchange(mine: _Outcome) -> list[_Outcome]:
    outcomes: list[_Outcome | None] = [None] * count()
    _together(lambda: dist.all_gather_object(outcomes, mine))
    return outcomes  # type: ignore[return-value]


def _portable(error: Exception) -> Exception:
    """Return ``error`` if it can be sent, else one that says the same."""
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # whatever its class makes of being copied
        pass
    return SnnconvertError(f"process {rank()} of {count()}: unexpected {type(error).__name__}: {error}")


def _together(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:  # every back end has its own words
        raise ProcessLost(
            f"process {rank()} of {count()} lost another one while they exchanged results: {error}",
            "look at the messages of the others, and run the command again: what was finished is kept where the "
            "command can go on",
        ) from error

"""Several processes that share one piece of work, as torchrun starts them, or the only one that there is.

Each takes the batches whose number is its `rank` modulo `count`; then each `gather`s what all of them found, and goes
on with the same numbers. Whoever starts the processes joins them into torch's default group first; without a group
there is one process, and nothing is sent.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from .errors import SnnconvertError

Found = TypeVar("Found")


def _joined() -> bool:
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if _joined() else 0


def count() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if _joined() else 1


def gather(found: Found) -> list[Found]:
    """Return what each process ``found``, in the order of their ranks, to all of them.

    Raises:
        SnnconvertError: another process is gone, or does not answer.
    """
    if count() == 1:
        return [found]
    results: list[Found | None] = [None] * count()
    _together(lambda: dist.all_gather_object(results, found))
    return results  # type: ignore[return-value]


def add(tensors: list[Tensor]) -> None:
    """Put the sum over all processes in the place of each tensor: the same bits on every process.

    Raises:
        SnnconvertError: another process is gone, or does not answer.
    """
    if count() == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    _together(lambda: dist.all_reduce(flat))
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _together(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:  # every back end has its own words
        raise SnnconvertError(
            f"process {rank()} of {count()} lost another one while they exchanged results: {error}",
            "look at the messages of the others, and run the command again: what was finished is kept where the "
            "command can go on",
        ) from error

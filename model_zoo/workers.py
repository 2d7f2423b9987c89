"""Processes that read batches ahead of the computation, so that it never waits for a decoder."""

import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.multiprocessing.reductions import shared_cache
from torch.utils.data import DataLoader, Dataset

from snnconvert.converter.errors import SnnconvertError

Key = TypeVar("Key")

_EXPECTED = (
    "This DataLoader will create",  # more processes than cores: they wait for disks, too
    "This process .* is multi-threaded, use of fork",  # Python 3.12; ours only read files
)
_DEATH = "DataLoader worker (pid"


class _Reading(Dataset[Tensor | SnnconvertError], Generic[Key]):
    def __init__(self, read: Callable[[Key], Tensor], keys: Sequence[Key]) -> None:
        self.read = read
        self.keys = keys

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, number: int) -> Tensor | SnnconvertError:
        try:
            return self.read(self.keys[number])
        except SnnconvertError as error:  # as a value: raised here, torch would wrap it in words of its own
            return error


def read_ahead(
    read: Callable[[Key], Tensor], keys: Sequence[Key], workers: int, *, pinned: bool = False
) -> Iterator[Tensor]:
    """Return an iterator of ``read(key)`` for each of ``keys``, in their order, computed in ``workers`` processes.

    The processes start with the first ``next`` and end with the iterator, however far it got. Torch's random numbers
    are left alone.

    Args:
        read: gives a tensor on the CPU; what it raises of SnnconvertError arrives as it was.
        keys: what to call it with.
        workers: number of processes, at least 1.
        pinned: give tensors in page-locked memory, which CUDA copies from while it computes.

    Raises:
        SnnconvertError: a process died.
    """
    iterator = _start(_Reading(read, keys), workers, pinned)
    try:
        for outcome in iterator:
            if isinstance(outcome, SnnconvertError):
                raise outcome
            _forget_dead()
            yield outcome
    except RuntimeError as error:
        if _DEATH not in str(error):
            raise
        raise SnnconvertError(
            f"one of {workers} processes that read images ahead died: {error}",
            "memory, or shared memory (/dev/shm), may have run out: take fewer --workers, 0 to read without, "
            "or a smaller --batch-size",
        ) from error
    finally:
        del iterator  # ends the processes now, even if a traceback keeps this frame


def _start(dataset: _Reading[Key], workers: int, pinned: bool) -> Iterator[Tensor | SnnconvertError]:
    handler = signal.getsignal(signal.SIGCHLD)
    with warnings.catch_warnings():
        for message in _EXPECTED:
            warnings.filterwarnings("ignore", message)
        loader = DataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            pin_memory=pinned,
            multiprocessing_context="fork" if sys.platform == "linux" else None,  # the others would import torch again
            generator=torch.Generator(),
        )
        iterator = iter(loader)
    if handler is not None and signal.getsignal(signal.SIGCHLD) is not handler:
        signal.signal(signal.SIGCHLD, handler)  # torch's raises wherever the consumer is; ``next`` notices deaths, too
    return iterator


def _forget_dead() -> None:
    """Let go of what torch remembers of batches that are no more.

    It keeps 128 of them, a hundred bytes each, where malloc may put them between large tensors: the gaps are never
    filled again, and memory grows by a batch each time.
    """
    with shared_cache.lock:
        shared_cache.free_dead_references()

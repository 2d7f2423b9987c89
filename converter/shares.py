"""Which batches of a data set are this process's, where several processes share the work."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from . import processes

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class Numbered(Generic[Batch]):
    """Batches that are read by their numbers, so that no process reads those of another.

    Args:
        read: some numbers, in ascending order -> these batches, in that order.
        count: how many batches there are.
    """

    read: Callable[[list[int]], Iterable[Batch]]
    count: int

    def __iter__(self) -> Iterator[Batch]:
        """Yield all batches."""
        yield from self.read(list(range(self.count)))


def shared(batches: Iterable[Batch], finished: Collection[int] = ()) -> Iterator[tuple[int, Batch]]:
    """Yield those of ``batches`` that are this process's, each after its number, from 0.

    Of those that are not ``finished``, process r of n takes the r-th and every n-th after it. Batches that are not
    `Numbered` are read by every process, and those of the others passed over.

    Args:
        batches: all of them, the same ones in every process.
        finished: numbers that need not be done again.
    """
    mine, every = processes.rank(), processes.count()
    if isinstance(batches, Numbered):
        numbers = [number for number in range(batches.count) if number not in finished][mine::every]
        yield from zip(numbers, batches.read(numbers), strict=True)
        return
    place = 0
    for number, batch in enumerate(batches):
        if number in finished:
            continue
        if place % every == mine:
            yield number, batch
        place += 1

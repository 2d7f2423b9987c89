"""What processes exchange: results, errors, sums; and what becomes of the others when one ends or dies."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch

from snnconvert.converter import processes
from snnconvert.converter.errors import DataRefused, ProcessLost, SnnconvertError
from snnconvert.converter.shares import Numbered, shared


class Odd(Exception):
    """An error that cannot be sent: it is made of two words."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(one + other)


def refuse() -> None:
    raise DataRefused("a damaged image", "replace it")


def be_odd() -> None:
    raise Odd("a", "b")


def outcome(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except SnnconvertError as error:
        return type(error).__name__, error.message, error.hint


def exchange() -> dict[str, Any]:
    rank, count = processes.rank(), processes.count()
    found: dict[str, Any] = {"rank": rank, "count": count, "gather": processes.gather(lambda: rank * 10)}
    found["refused"] = outcome(lambda: processes.gather(refuse if rank == 1 else lambda: None))
    found["odd"] = outcome(lambda: processes.gather(be_odd if rank == 1 else lambda: None))
    sums = [torch.full((2, 3), 1.0 + rank), torch.tensor(0.1 * rank)]
    processes.add(sums)
    found["sums"] = [part.tolist() for part in sums]
    aligned = [torch.tensor([0.1 + rank])]
    processes.align(aligned)
    found["aligned"] = aligned[0].item()
    found["mine"] = list(shared("abcdefg", finished={0, 3}))
    read: list[int] = []
    numbered = Numbered(lambda numbers: [read.append(n) or "abcdefg"[n] for n in numbers], 7)  # type: ignore[func-returns-value]
    found["numbered"], found["read"] = list(shared(numbered, finished={0, 3})), read
    return found


def test_what_is_exchanged(together: Callable[..., list[Any]]) -> None:
    for rank, found in enumerate(together(exchange)):
        assert (found["rank"], found["count"], found["gather"]) == (rank, 2, [0, 10])
        assert found["refused"] == ("DataRefused", "a damaged image", "replace it")
        assert found["odd"] == ("SnnconvertError", "process 1 of 2: unexpected Odd: ab", None)
        assert found["sums"] == [[[3.0] * 3] * 2, pytest.approx(0.1)]
        assert found["aligned"] == pytest.approx(0.1)
        assert found["mine"] == found["numbered"] == [(n, "abcdefg"[n]) for n in (1, 2, 4, 5, 6)[rank::2]]
        assert found["read"] == [1, 2, 4, 5, 6][rank::2]


def test_one_process_sends_nothing() -> None:
    found = exchange()
    assert (found["rank"], found["count"], found["gather"]) == (0, 1, [0])
    assert found["sums"] == [[[1.0] * 3] * 2, 0.0]
    assert found["mine"] == found["numbered"] == [(n, "abcdefg"[n]) for n in (1, 2, 4, 5, 6)]
    processes.leave()
    assert list(Numbered(lambda numbers: numbers, 3)) == [0, 1, 2]
    with pytest.raises(Odd):
        processes.gather(be_odd)


def end_early() -> list[Any]:
    if processes.rank() == 1:
        processes.leave(DataRefused("a damaged image"))
        return []
    found = [outcome(lambda: processes.gather(lambda: 0))]
    return [*found, outcome(processes.leave)]


def end_before_the_others() -> list[Any]:
    if processes.rank() == 1:
        return [outcome(processes.leave)]
    found = [outcome(lambda: processes.gather(lambda: 0))]
    return [*found, outcome(processes.leave)]


def test_a_process_that_ends_tells_those_that_expect_results(together: Callable[..., list[Any]]) -> None:
    first, _ = together(end_early)
    assert first[0] == ("DataRefused", "a damaged image", None)
    first, other = together(end_before_the_others)
    assert first[0][1].startswith("process 1 of 2 has ended, and process 0 expects results of it")
    assert first[1] is other[0] is None


def die() -> str:
    if processes.rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    try:
        processes.gather(lambda: 0)
    except ProcessLost as error:
        return error.message
    return ""


def test_a_process_that_dies_is_missed_at_once(start: Callable[..., list[Any]]) -> None:
    survivor, victim = start(die)
    assert "process 0 of 2 lost another one while they exchanged results" in survivor.result
    assert victim.wait() == -signal.SIGKILL

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.reductions import shared_cache

from snnconvert.converter.errors import SnnconvertError
from snnconvert.model_zoo.workers import read_ahead


def square(key: int) -> torch.Tensor:
    return torch.tensor([key * key, os.getpid()])


def test_reads_in_order_in_other_processes() -> None:
    found = torch.stack(list(read_ahead(square, range(20), 3)))
    assert found[:, 0].tolist() == [key * key for key in range(20)]
    processes = set(found[:, 1].tolist())
    assert len(processes) == 3
    assert os.getpid() not in processes


def test_slow_batches_do_not_change_the_order() -> None:
    def read(key: int) -> torch.Tensor:
        time.sleep(0.1 if key % 2 else 0)
        return torch.tensor(key)

    assert [int(found) for found in read_ahead(read, range(6), 2)] == list(range(6))


def test_nothing_is_remembered_of_batches_that_are_gone() -> None:
    before = len(shared_cache)
    for _ in read_ahead(square, range(50), 2):
        assert len(shared_cache) <= before + 2


def test_torchs_random_numbers_are_left_alone() -> None:
    before = torch.get_rng_state()
    list(read_ahead(square, range(4), 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_more_processes_than_cores_are_no_reason_to_warn() -> None:
    """A warning is an error in these tests."""
    workers = len(os.sched_getaffinity(0)) + 1
    assert len(list(read_ahead(square, range(2 * workers), workers))) == 2 * workers


def test_nothing_starts_before_the_first_is_asked_for_and_all_end_with_the_consumer() -> None:
    before = set(multiprocessing.active_children())
    reading = read_ahead(square, range(100), 2)
    assert set(multiprocessing.active_children()) == before
    next(reading)
    assert len(set(multiprocessing.active_children()) - before) == 2
    del reading
    assert set(multiprocessing.active_children()) == before


def test_an_error_of_ours_arrives_as_it_was_and_ends_the_processes() -> None:
    def read(key: int) -> torch.Tensor:
        if key == 1:
            raise SnnconvertError("cannot read 1", "leave it out")
        return torch.tensor(key)

    before = set(multiprocessing.active_children())
    reading = read_ahead(read, range(100), 2)
    assert int(next(reading)) == 0
    with pytest.raises(SnnconvertError, match=r"^cannot read 1\nhint: leave it out$"):
        next(reading)
    assert set(multiprocessing.active_children()) == before


def test_a_bug_keeps_its_kind_and_traceback() -> None:
    def read(key: int) -> torch.Tensor:
        return torch.zeros(2) @ torch.zeros(3)

    with pytest.raises(RuntimeError, match=r"(?s)in read.*inconsistent tensor size"):
        next(read_ahead(read, range(2), 1))


def test_a_process_that_is_killed_is_told_by_the_next_batch(tmp_path: Path) -> None:
    """While the consumer computes, nothing is raised into its midst."""

    def read(key: int) -> torch.Tensor:
        if key == 1:
            (tmp_path / "pid").write_text(str(os.getpid()))
            time.sleep(60)
        return torch.tensor(key)

    handler = signal.getsignal(signal.SIGCHLD)
    reading = read_ahead(read, range(4), 2)
    assert int(next(reading)) == 0
    assert signal.getsignal(signal.SIGCHLD) is handler
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    time.sleep(0.2)
    with pytest.raises(SnnconvertError, match=r"one of 2 processes that read images ahead died: (?s:.*)--workers"):
        next(reading)

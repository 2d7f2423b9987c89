"""Property tests draw the same examples every time: a suite that passes once passes on every machine.

And work in several processes: they are forked from a server that has imported torch, once for all tests.
"""

import multiprocessing
import os
import pickle
import runpy
import socket
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

PATIENCE = 120.0
"""Seconds after which a process counts as one that hangs."""


@dataclass(frozen=True)
class Worker:
    """One of several processes, and the folder with what it says and returns."""

    process: ForkServerProcess
    folder: Path

    def wait(self) -> int:
        """Return the exit code; a process that does not end is killed, and fails the test."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            pytest.fail(f"a process hangs; it said: {self.stderr}")
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        return (self.folder / "stdout").read_text()

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def result(self) -> Any:
        """What the function returned; an error of the process is one here."""
        assert self.wait() == 0, self.stderr
        return pickle.loads((self.folder / "result").read_bytes())


def pytest_configure(config: pytest.Config) -> None:
    """Share the cores among the processes that run tests, or each would start as many threads as there are cores."""
    share = getattr(config, "workerinput", None)
    if share is not None:
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // share["workercount"]))


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Worker]]:
    """Start a function of a test module in ``count`` processes with the environment of torchrun, which ``join``."""
    context = multiprocessing.get_context("forkserver")
    commands = [f"snnconvert.cli.{name}" for name in ("main", "conversion", "measurement")]
    context.set_forkserver_preload(["torch._dynamo", "torch.distributed", "pytest", "hypothesis", *commands])

    def start(function: Callable[..., Any], *arguments: Any, count: int = 2, join: bool = True) -> list[Worker]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        workers = []
        for rank in range(count):
            folder = tmp_path_factory.mktemp(f"process-{rank}-")
            numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port, "OMP_NUM_THREADS": 1}
            plan = {
                "environment": {name: str(n) for name, n in numbers.items()} | {"MASTER_ADDR": "127.0.0.1"},
                "work": (function.__code__.co_filename, function.__name__, arguments),
                "folder": folder,
                "join": join and count > 1,
            }
            process = context.Process(target=runpy.run_path, args=(__file__, {"PLAN": plan}, "worker"), daemon=True)
            process.start()
            workers.append(Worker(process, folder))
        return workers

    return start


@pytest.fixture(scope="session")
def together(start: Callable[..., list[Worker]]) -> Callable[..., list[Any]]:
    """Return what a function of a test module returns in each of ``count`` processes that share its work."""
    return lambda function, *arguments, count=2: [each.result for each in start(function, *arguments, count=count)]


def _work(environment: dict[str, str], work: tuple[str, str, tuple[Any, ...]], folder: Path, join: bool) -> None:
    import torch
    import torch.distributed as dist

    os.environ |= environment
    torch.set_num_threads(1)
    path, name, arguments = work
    with (
        (folder / "stdout").open("w", 1) as stdout,
        (folder / "stderr").open("w", 1) as stderr,
        redirect_stdout(stdout),
        redirect_stderr(stderr),
    ):
        if join:
            dist.init_process_group("gloo", timeout=timedelta(seconds=PATIENCE / 2))
        found = runpy.run_path(path, run_name="worker")[name](*arguments)
        (folder / "result").write_bytes(pickle.dumps(found))
        if join:
            dist.destroy_process_group()
        sys.exit(found if isinstance(found, int) else 0)


if __name__ == "worker":
    _work(**globals()["PLAN"])

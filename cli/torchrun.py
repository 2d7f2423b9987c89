"""Commands in several processes, as torchrun starts them: joining, parting, and who speaks.

All processes do the same; where the work of `calibration` and `evaluation` can be shared, each does its part. The first
process alone prints and writes. Torch is imported where processes are joined, so not for words about words.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import wraps
from typing import Any, TypeVar

from snnconvert.converter.errors import ProcessLost, UsageError

TIMEOUT = timedelta(hours=2)
"""How long processes wait for one that neither answers nor dies, such as one on a machine that lost its network."""

_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")

Found = TypeVar("Found")


def started() -> bool:
    """Return whether this process is one of several that torchrun started."""
    return all(os.environ.get(name) for name in _NAMES) and int(os.environ["WORLD_SIZE"]) > 1


def follows() -> bool:
    """Return whether another process speaks and writes for this one."""
    return started() and int(os.environ["RANK"]) > 0


def local_rank() -> int:
    """Return the number of this process among those on its machine."""
    return int(os.environ["LOCAL_RANK"]) if started() else 0


def together(work: Callable[[], Found]) -> Found:
    """Return what ``work`` finds, in processes that are joined if torchrun started them.

    What goes wrong in one of them goes wrong in all, so the first one can tell.

    Raises:
        ProcessLost: another process is gone, or cannot be joined.
    """
    if not started():
        return work()
    _join()
    from snnconvert.converter import processes

    try:
        try:
            found = work()
        except ProcessLost:
            raise
        except Exception as error:
            processes.leave(error)
            raise
        processes.leave()
    except (ProcessLost, KeyboardInterrupt):
        _part()
        raise
    return found


def alone(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """Return the ``command`` called ``name`` such that torchrun cannot start it several times over."""

    @wraps(command)
    def run(**words: Any) -> None:
        if started():
            raise UsageError(
                f"`snnconvert {name}` has no work for {os.environ['WORLD_SIZE']} processes", "run it without torchrun"
            )
        command(**words)

    return run


def end(code: int) -> None:
    """Wait until the first process has said how it went, then part: torchrun ends the others with the first to end.

    Args:
        code: with which this process is going to exit. It then does so without taking Python down: threads of gloo
            outlive their group, and one that lets go of a Python object while that happens aborts the process.
    """
    if started() and (distributed := sys.modules.get("torch.distributed")) and distributed.is_initialized():
        from snnconvert.converter import processes

        with suppress(ProcessLost):
            processes.leave()
        _part()
        atexit.register(_exit, code)


def in_turn(work: Callable[[], Found]) -> Found:
    """Return what ``work`` finds; on each machine one process goes ahead, so that what it downloads is there."""
    from snnconvert.converter import processes

    found: list[Found] = []
    ahead = local_rank() == 0
    processes.gather(lambda: found.append(work()) if ahead else None)
    return found[0] if ahead else work()


def _join() -> None:
    import torch
    import torch.distributed as dist

    number, count = os.environ["RANK"], os.environ["WORLD_SIZE"]
    if not dist.is_available():
        raise UsageError(f"this torch has no torch.distributed, and {count} processes need it", "run without torchrun")
    nccl = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise ProcessLost(
            f"process {number} of {count} cannot join the others: {error}", "check torchrun's own options"
        ) from error
    signal.signal(signal.SIGTERM, _told_to_end)


def _told_to_end(number: int, frame: object) -> None:
    raise ProcessLost(
        f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} was told to end, as torchrun does when another "
        "one died",
        "look at the messages of the others, and run the command again",
    )


def _exit(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _part() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()

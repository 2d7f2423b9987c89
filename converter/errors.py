"""The errors of snnconvert, one tree; each message says what was expected, what came, where, and what to do next.

SnnconvertError             unexpected state inside the tool                    exit code 1
├── UsageError              wrong words: unknown neuron, T = 0, a bad flag      exit code 2
├── ProcessLost             a process that shares the work is gone          exit code 1
└── Refused                 what was given cannot be taken                      exit code 3
    ├── ModelRefused        a model that cannot be read, traced or converted
    ├── DataRefused         a data set that cannot be read, or does not fit the model
    ├── CalibrationRefused  thresholds that cannot be computed, or do not fit the graph
    └── ArtefactRefused     a .snn or .calib file that is foreign, truncated or from the future
BarMissed                   an evaluation below a bar that the user stated      exit code 4
"""

from collections.abc import Iterable


class SnnconvertError(Exception):
    """Base of every error that snnconvert raises on purpose.

    Args:
        message: what was expected, what came, and where.
        hint: the next step, one sentence; the command line prints it on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message if hint is None else f"{message}\nhint: {hint}")
        self.message = message
        self.hint = hint


class UsageError(SnnconvertError):
    """A name or number that no call could accept."""

    exit_code = 2


class ProcessLost(SnnconvertError):
    """Another process that shares the work is gone, or does not answer."""


class Refused(SnnconvertError):
    """An input that was understood and cannot be taken."""

    exit_code = 3


class ModelRefused(Refused):
    """A model that cannot be read, traced or converted."""


class DataRefused(Refused):
    """A data set that cannot be read or does not fit the model."""


class CalibrationRefused(Refused):
    """Thresholds that cannot be computed, or that were computed for something else."""


class ArtefactRefused(Refused):
    """A .snn or .calib file that is foreign, truncated or from a later version."""


class BarMissed(SnnconvertError):
    """An evaluation below a bar that the user stated."""

    exit_code = 4


MAX_STEPS = 65536
"""The longest window: as many levels are finer than float32 can tell apart."""


def check_steps(steps: int) -> None:
    """Check that T is a whole number from 1 to ``MAX_STEPS``.

    Raises:
        UsageError: it is not.
    """
    if type(steps) is not int or not 1 <= steps <= MAX_STEPS:
        raise UsageError(f"the number of steps T must be a whole number from 1 to {MAX_STEPS}, got {steps!r}")


def check_seed(seed: int) -> None:
    """Check that ``seed`` is a whole number of 64 bits.

    Raises:
        UsageError: it is not.
    """
    if type(seed) is not int or not -(2**63) <= seed < 2**63:
        raise UsageError(f"the seed must be a whole number of 64 bits, got {seed!r}")


def choice(kind: str, given: str, known: tuple[str, ...]) -> str:
    """Return ``given`` if it is one of ``known``.

    Args:
        kind: what is being named, for the message ("neuron", "rule").

    Raises:
        UsageError: ``given`` is not in ``known``; the message lists them and the closest one.
    """
    if given in known:
        return given
    import difflib

    close = difflib.get_close_matches(str(given), known, 1)
    raise UsageError(
        f"unknown {kind} {given!r}: expected one of {', '.join(known)}",
        f"did you mean {close[0]!r}?" if close else None,
    )


def listed(names: Iterable[str], separator: str = ", ", shown: int = 3) -> str:
    """Return the first ``shown`` of ``names``, and how many more there are."""
    names = list(names)
    return separator.join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")

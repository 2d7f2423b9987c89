"""Neurons in one pass over memory: C functions that are compiled when they are first needed, plain torch elsewhere.

A site is bound by memory, not by arithmetic. What plain torch does in a chain of five to thirty operations, `native.c`
does in one, with the same bits, compiled in half a second for any shape and kept in a folder of the user. Each function
here answers None where it cannot run, and then the caller computes: no compiler, another device than the CPU, other
numbers than float32, or a tensor with gaps.
"""

import ctypes
import functools
import hashlib
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .fused import compiler

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
_LEVELS = {"AVX2": ("-march=x86-64-v3",), "AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512")}
_TILE = 512
"""Elements of a row that goes through the channels several times: long enough for loops, short enough for caches."""

MOST = 255
"""The largest count that a byte holds."""


class Library(NamedTuple):
    """The compiled functions, or the reason why there are none."""

    functions: ctypes.CDLL | None
    reason: str


class _Rows(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("images", "per_image", "length", "channels", "spread", "position", "channel", "threads")
    ]


class _Site(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("theta", "offset", "worth")),
        *((name, ctypes.c_float) for name in ("steps", "low", "most")),
    ]


class Population(NamedTuple):
    """The neurons of a site, as the C functions take them.

    Args:
        axis: the dimension of the channels.
        theta: threshold, in units of the activation, one number or one for each channel.
        offset: what is added to the input of the window, or of the step, likewise; None for nothing.
        worth: by what spikes are multiplied, likewise; None for 1.
        steps: T.
        low, most: the fewest and the most spikes of a window.
    """

    axis: int
    theta: Tensor
    offset: Tensor | None
    worth: Tensor | None
    steps: int
    low: int
    most: int


@functools.cache
def library() -> Library:
    """Return the functions of `SOURCE`, compiled now or by an earlier process."""
    path = compiler()
    if path is None:
        return Library(None, "no C++ compiler was found")
    if sys.byteorder != "little":
        return Library(None, "they are written for little-endian processors")
    intel = platform.machine() in ("x86_64", "AMD64")
    flags = (*FLAGS, *(_LEVELS.get(torch.backends.cpu.get_cpu_capability(), ()) if intel else ()))
    try:
        made_of = SOURCE.read_bytes() + "|".join((path, *flags, platform.machine())).encode()
        name = f"neurons-{hashlib.sha256(made_of).hexdigest()[:16]}"
        try:
            target = cache_folder() / f"{name}.so"
            return Library(_kept(target) or _compiled(path, flags, target), f"compiled by {path}, kept in {target}")
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
            with tempfile.TemporaryDirectory() as folder:
                functions = _compiled(path, flags, Path(folder, f"{name}.so"))
            return Library(functions, f"compiled by {path} in each process anew, because they cannot be kept: {error}")
    except (OSError, subprocess.SubprocessError) as error:
        words = getattr(error, "stderr", None) or str(error)
        return Library(None, f"{path} did not compile them: {words.strip()[:300]}")


def cache_folder() -> Path:
    """Return where compiled functions are kept: $XDG_CACHE_HOME/snnconvert, by default ~/.cache/snnconvert."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "snnconvert"


def _kept(target: Path) -> ctypes.CDLL | None:
    """Return the functions that an earlier process kept, None where there are none or they are damaged."""
    digest = _digest_of(target)  # a library that was cut short ends the process when it is opened
    if not target.is_file() or not digest.is_file():
        return None
    whole = hashlib.sha256(target.read_bytes()).hexdigest() == digest.read_text(errors="replace")
    return ctypes.CDLL(str(target)) if whole else None


def _digest_of(target: Path) -> Path:
    return target.with_suffix(".sha256")


def _compiled(path: str, flags: tuple[str, ...], target: Path) -> ctypes.CDLL:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, target.name)
        command = [path, "-x", "c", *flags, str(SOURCE), "-o", str(made), "-lm"]
        quiet: dict[str, Any] = {"capture_output": True, "text": True, "errors": "replace", "timeout": 120}
        if subprocess.run([*command, "-fopenmp"], **quiet).returncode:  # some compilers have no threads
            subprocess.run(command, check=True, **quiet)
        functions = ctypes.CDLL(str(made))
        _digest_of(made).write_text(hashlib.sha256(made.read_bytes()).hexdigest())
        for part in (made, _digest_of(made)):
            os.replace(part, target.with_suffix(part.suffix))
    return functions


def two_phase(x: Tensor, neurons: Population, *, counts: bool = False) -> Tensor | None:
    """Return N worth for the mean input ``x`` [batch, ...] of a window, None where that cannot be done here.

    N = clip(floor((x T + offset) / theta + 1/2), low, most)

    Args:
        counts: return N itself, in bytes.
    """
    run = _Run.of(x, neurons, len(x), counts)
    if run is None:
        return None
    out = torch.empty_like(x, dtype=run.dtype)
    failed = run.functions.two_phase(*run.arguments, _at(x), _at(out), int(counts))
    return None if failed else out


def tpp(
    x: Tensor, neurons: Population, table: Tensor, grid: int, key: int, images: Tensor, *, counts: bool = False
) -> Tensor | None:
    """Return N worth for the mean input ``x`` [batch, ...] of a window, None where that cannot be done here.

    N = floor(E[N] + u), with u the random number of each neuron

    Args:
        table: E[N] at intervals of theta / ``grid`` and its rise over the interval, float32 [entries, 2].
        key, images: the hash of site and step, and that of each image, int64; as in `noise`.
        counts: return N itself, in bytes.
    """
    run = _Run.of(x, neurons, len(images), counts)
    if run is None or images.device.type != "cpu":
        return None
    out = torch.empty_like(x, dtype=run.dtype)
    how = _at(table), ctypes.c_float(grid), ctypes.c_uint64(key % 2**64), _at(images)
    failed = run.functions.tpp(*run.arguments, _at(x), _at(out), int(counts), *how)
    return None if failed else out


def integrate_and_fire(
    potential: Tensor, currents: Tensor, neurons: Population, *, counts: bool = False
) -> Tensor | None:
    """Return the train s worth [steps, batch, ...], or None where that cannot be done here.

    v <- v + I + offset;  s = 1[v >= theta];  v <- v - theta s

    Args:
        potential: v [batch, ...]; it is changed.
        currents: I [steps, batch, ...], in memory like ``potential`` at each step.
        counts: return s itself, in bytes.
    """
    run = _Run.of(potential, neurons, len(potential), counts)
    if run is None or currents.dtype != potential.dtype or not _alike(currents, potential):
        return None
    out = train_like(currents, potential, run.dtype)
    steps, apart, out_apart = (ctypes.c_int64(n) for n in (len(currents), currents.stride(0), out.stride(0)))
    run.functions.integrate_and_fire(
        *run.arguments, steps, _at(currents), apart, _at(potential), _at(out), out_apart, int(counts)
    )
    return out


def train_like(currents: Tensor, potential: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return an empty train in the shape of ``currents`` [steps, batch, ...], each step in memory as ``potential``."""
    numbers, strides = potential.numel(), potential.stride()
    if not potential.movedim(1, -1).is_contiguous():
        return torch.empty_like(currents, memory_format=torch.contiguous_format, dtype=dtype)
    return potential.new_empty(len(currents) * numbers, dtype=dtype).as_strided(currents.shape, (numbers, *strides))


def _alike(currents: Tensor, potential: Tensor) -> bool:
    """Return whether each step of ``currents`` lies in memory as ``potential`` does."""
    sides = zip(potential.shape, currents.stride()[1:], potential.stride(), strict=True)
    return all(size == 1 or one == other for size, one, other in sides)


class _Run(NamedTuple):
    """The functions, and the arguments that all of them take; ``kept`` must outlive the call."""

    functions: ctypes.CDLL
    arguments: tuple[Any, ...]
    kept: tuple[Any, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, x: Tensor, neurons: Population, images: int, counts: bool) -> "_Run | None":
        """Return what a call needs for ``x``, the inputs of ``neurons``; None where it must not be made."""
        if not _readable(x) or x.requires_grad or not x.numel() or len(x) % images or _watched(x):
            return None
        if counts and (neurons.low < 0 or neurons.most > MOST):
            return None
        rows = _rows(x, neurons.axis, images)
        functions = library().functions
        if rows is None or functions is None:
            return None
        given = neurons.theta, neurons.offset, neurons.worth
        if any(p is not None and (p.numel() not in (1, rows.channels) or not _readable(p)) for p in given):
            return None  # one for each neuron
        kept = tuple(None if p is None else p.reshape(-1).expand(rows.channels).contiguous() for p in given)
        site = _Site(*map(_at, kept), neurons.steps, neurons.low, neurons.most)
        return cls(
            functions, (ctypes.byref(rows), ctypes.byref(site)), (rows, site, kept), torch.uint8 if counts else x.dtype
        )


def _readable(x: Tensor) -> bool:
    """Return whether ``x`` holds numbers that the C functions can read."""
    return x.device.type == "cpu" and x.dtype == torch.float32


def _watched(x: Tensor) -> bool:
    """Return whether torch traces, wraps or fakes ``x``, and would not see what C writes."""
    wrapped: bool = torch._C._functorch.is_functorch_wrapped_tensor(x)
    return (
        type(x) is not Tensor or wrapped or torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()
    )


def _at(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _rows(x: Tensor, axis: int, images: int) -> _Rows | None:
    """Return how ``x`` lies in memory, None where it has gaps or an order of its own."""
    channels, inner = x.shape[axis], math.prod(x.shape[axis + 1 :])  # the stride of one channel may be any number
    per_image = x.numel() // images
    threads = torch.get_num_threads()
    if x.is_contiguous():
        if inner > 1:
            return _Rows(images, per_image // inner, inner, channels, 0, 0, 0, threads)
        position, channel = channels, 1
    elif axis == 1 and len(x) == images and x.movedim(1, -1).is_contiguous():  # channels last
        position, channel = 1, per_image // channels
    else:
        return None
    times = _times(per_image // channels, max(1, _TILE // channels))
    length = times * channels
    return _Rows(images, per_image // length, length, channels, 1, position, channel, threads)


@functools.lru_cache(maxsize=256)
def _times(positions: int, most: int) -> int:
    """Return the largest divisor of ``positions`` up to ``most``."""
    return next(n for n in range(min(positions, most), 0, -1) if positions % n == 0)

"""Neurons in one pass over memory: C functions that are compiled when they are first needed, plain torch elsewhere.

A site is bound by memory, not by arithmetic. What plain torch does in a chain of five to thirty operations, `native.c`
does in one, with the same bits, compiled in a second for any shape, together with `tables.c` (of `spike_tables`), and
kept in a folder of the user. Each function here answers None where it cannot run, and then the caller computes: no
compiler, another device than the CPU, other numbers than float32, or a tensor with gaps.
"""

import ctypes
import functools
import hashlib
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
from .population import Population, Rows, alike, lie_alike, rows_of, train_like

SOURCES = tuple(Path(__file__).with_name(name) for name in ("native.c", "tables.c"))
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
_LEVELS = {"AVX2": ("-march=x86-64-v3",), "AVX512": ("-march=x86-64-v4", "-mprefer-vector-width=512")}
_TILE = 512
"""Elements of a tile that goes through the channels several times: long enough for loops, short enough for caches."""

_TILES = 16
"""Tiles in a row of neurons that are hashed once for all images, so that jumps from image to image are far apart."""

_SHARES = 4
"""Rows, at least, for each thread where there are several tiles in a row."""

MOST = 255
"""The largest count that a byte holds."""


class Library(NamedTuple):
    """The compiled functions, or the reason why there are none."""

    functions: ctypes.CDLL | None
    reason: str


class _Rows(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("images", "per_image", "length", "tile", "channels", "spread", "position", "channel", "threads")
    ]


class _Site(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("theta", "offset", "worth")),
        *((name, ctypes.c_float) for name in ("steps", "low", "most")),
        ("offsets", ctypes.c_int64),
    ]


@functools.cache
def library() -> Library:
    """Return the functions of `SOURCES`, compiled now or by an earlier process."""
    path = compiler()
    if path is None:
        return Library(None, "no C++ compiler was found")
    if sys.byteorder != "little":
        return Library(None, "they are written for little-endian processors")
    intel = platform.machine() in ("x86_64", "AMD64")
    flags = (*FLAGS, *(_LEVELS.get(torch.backends.cpu.get_cpu_capability(), ()) if intel else ()))
    try:
        made_of = (
            b"".join(source.read_bytes() for source in SOURCES) + "|".join((path, *flags, platform.machine())).encode()
        )
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
        sources = [word for source in SOURCES for word in ("-x", "c", str(source))]
        command = [path, *flags, *sources, "-o", str(made), "-lm"]
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
    failed = run.functions.two_phase(*run.arguments, at(x), at(out), int(counts))
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
    run = _Run.of(x, neurons, len(images), counts, _TILES)
    if run is None or images.device.type != "cpu":
        return None
    out = torch.empty_like(x, dtype=run.dtype)
    how = at(table), ctypes.c_float(grid), ctypes.c_uint64(key % 2**64), at(images)
    failed = run.functions.tpp(*run.arguments, at(x), at(out), int(counts), *how)
    return None if failed else out


def integrate_and_fire(
    potential: Tensor, currents: Tensor, neurons: Population, *, counts: bool = False
) -> tuple[Tensor, Tensor] | None:
    """Return the train s worth [steps, batch, ...] and v after it, or None where that cannot be done here.

    v <- v + I + offset[t];  s = 1[v >= theta];  v <- v - theta s

    Args:
        potential: v [batch, ...]; it is changed.
        currents: I [steps, batch, ...], in memory like ``potential`` at each step.
        counts: return s itself, in bytes.
    """
    if neurons.by_step and not (neurons.offset is not None and 0 < len(neurons.offset) == len(currents)):
        return None
    run = _Run.of(potential, neurons, len(potential), counts)
    if run is None or not alike(currents, potential):
        return None
    out = train_like(currents, potential, run.dtype)
    steps, apart, out_apart = (ctypes.c_int64(n) for n in (len(currents), currents.stride(0), out.stride(0)))
    run.functions.integrate_and_fire(
        *run.arguments, steps, at(currents), apart, at(potential), at(out), out_apart, int(counts)
    )
    return out, potential


def values(counts: Tensor, neurons: Population, plus: Tensor | None = None) -> Tensor | None:
    """Return N worth, or N worth + ``plus``, for ``counts`` in bytes, None where that cannot be done here."""
    out = torch.empty_like(counts, dtype=torch.float32)
    run = _Run.of(out, neurons, len(out), False)
    if run is None or not lie_alike(counts, out):
        return None
    if plus is not None and (plus.dtype != out.dtype or plus.requires_grad or not lie_alike(plus, out)):
        return None
    run.functions.values(*run.arguments, at(counts), at(plus), at(out))
    return out


class _Run(NamedTuple):
    """The functions, and the arguments that all of them take; ``kept`` must outlive the call."""

    functions: ctypes.CDLL
    arguments: tuple[Any, ...]
    kept: tuple[Any, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, x: Tensor, neurons: Population, images: int, counts: bool, tiles: int = 1) -> "_Run | None":
        """Return what a call needs for ``x``, the inputs of ``neurons``; None where it must not be made."""
        if counts and (neurons.low < 0 or neurons.most > MOST):
            return None
        offset, offsets = neurons.offset, 1
        if offset is not None and neurons.by_step:
            offsets, neurons = len(offset), neurons._replace(offset=offset[0], by_step=False)
        rows = rows_of(x, neurons, images) if x.device.type == "cpu" else None
        functions = None if rows is None else library().functions
        if rows is None or functions is None:
            return None
        channels = (None if p is None else p.reshape(-1).expand(rows.channels) for p in (neurons.theta, neurons.worth))
        each = None if offset is None else offset.reshape(offsets, -1).expand(offsets, rows.channels)
        theta, worth, each = (None if p is None else p.contiguous() for p in (*channels, each))
        site = _Site(at(theta), at(each), at(worth), neurons.steps, neurons.low, neurons.most, offsets)
        long = _long(rows, tiles)
        arguments = ctypes.byref(long), ctypes.byref(site)
        return cls(functions, arguments, (long, site, theta, each, worth), torch.uint8 if counts else x.dtype)


def at(x: Tensor | None) -> ctypes.c_void_p:
    """Return where the numbers of ``x`` lie."""
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def _long(rows: Rows, tiles: int) -> _Rows:
    """Return ``rows`` as C takes them, where spread several joined to a tile, and up to ``tiles`` of them to a row."""
    images, per_image, length, *rest = rows
    tile, threads = length, torch.get_num_threads()
    if rows.spread:
        times = _times(per_image, max(1, _TILE // length))
        tile, per_image = length * times, per_image // times
        tiles = _times(per_image, max(1, min(tiles, images * per_image // (_SHARES * threads))))
        per_image, length = per_image // tiles, tile * tiles
    return _Rows(images, per_image, length, tile, *rest, threads)


@functools.lru_cache(maxsize=256)
def _times(positions: int, most: int) -> int:
    """Return the largest divisor of ``positions`` up to ``most``."""
    return next(n for n in range(min(positions, most), 0, -1) if positions % n == 0)

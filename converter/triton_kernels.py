"""The neurons of one site in one pass over memory, as Triton kernels; `triton_neurons` alone imports and launches them.

Each kernel does the operations of its namesake in `native.c`, in the same order, so it gives the same bits: it must be
launched without fusion of products and sums, and its division is the rounded one. NaN goes through. On NVIDIA's GPUs
`tl.floor` takes subnormal numbers for zeros, which is harmless: none below zero comes to it.

A program has a tile of ROWS rows by COLUMNS elements of `population.Rows`. Parameters lie ``apart`` by 1, or by 0 where
one is for all channels; None stands for an offset of 0, and for a worth of 1.
"""

import triton
import triton.language as tl

GOLDEN = tl.constexpr(0x9E3779B97F4A7C15)
FIRST = tl.constexpr(0xBF58476D1CE4E5B9)
SECOND = tl.constexpr(0x94D049BB133111EB)


@triton.jit
def clip(x, low, high):
    """Return x between ``low`` and ``high``, NaN where it is NaN."""
    x = tl.where(x < low, low, x)
    return tl.where(x > high, high, x)


@triton.jit
def mix(x):
    """Return the SplitMix64 finaliser of each uint64, as in `noise`."""
    x = (x ^ (x >> 30)) * FIRST
    x = (x ^ (x >> 27)) * SECOND
    return x ^ (x >> 31)


@triton.jit
def rows_of_tile(ROWS: tl.constexpr):
    """Return the numbers of the rows of this program's tile, [ROWS, 1]."""
    return tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]


@triton.jit
def columns_of_tile(COLUMNS: tl.constexpr):
    """Return the numbers of the columns of this program's tile, [1, COLUMNS]."""
    return tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]


@triton.jit
def channel_of(row, column, channels, SPREAD: tl.constexpr):
    """Return the number of the channel, [ROWS, 1] or [1, COLUMNS]."""
    if SPREAD:
        return column
    else:  # noqa: RET505 - a branch that is left out must not be compiled
        return row % channels


@triton.jit
def given(parameter, apart, channel, channels):
    """Return the parameter of each channel."""
    return tl.load(parameter + channel * apart, mask=channel < channels, other=1.0)


@triton.jit
def two_phase(
    x,
    out,
    theta,
    theta_apart,
    offset,
    offset_apart,
    worth,
    worth_apart,
    rows,
    columns,
    channels,
    steps,
    low,
    most,
    SPREAD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """N worth with N = clip(floor((x T + offset) / theta + 1/2), low, most)."""
    row, column = rows_of_tile(ROWS), columns_of_tile(COLUMNS)
    here = (row < rows) & (column < columns)
    at = row.to(tl.int64) * columns + column
    channel = channel_of(row, column, channels, SPREAD)
    total = tl.load(x + at, mask=here) * steps
    if offset is not None:
        total += given(offset, offset_apart, channel, channels)
    counts = clip(tl.floor(tl.div_rn(total, given(theta, theta_apart, channel, channels)) + 0.5), low, most)
    if worth is not None:
        counts *= given(worth, worth_apart, channel, channels)
    tl.store(out + at, counts, mask=here)


@triton.jit(do_not_specialize=["key"])  # or every sixteenth site would be compiled anew
def tpp(
    x,
    out,
    theta,
    theta_apart,
    offset,
    offset_apart,
    worth,
    worth_apart,
    rows,
    columns,
    channels,
    steps,
    most,
    table,
    grid,
    last,
    key,
    images,
    per_image,
    position,
    neighbour,
    SIGNED: tl.constexpr,
    SPREAD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """N worth with N = floor(E[N] + u), E[N] and its rise from ``table``, of which ``last`` is the last entry.

    u is the random number that ``key``, ``images`` (the hash of each) and the neuron select; the neuron's number grows
    by ``position`` from row to row and by ``neighbour`` along a row.
    """
    row, column = rows_of_tile(ROWS), columns_of_tile(COLUMNS)
    here = (row < rows) & (column < columns)
    at = row.to(tl.int64) * columns + column
    channel = channel_of(row, column, channels, SPREAD)
    number = row % per_image * position + column * neighbour
    neuron = mix(key.to(tl.uint64) + (number + 1).to(tl.uint64) * GOLDEN)
    image = tl.load(images + row // per_image, mask=row < rows, other=0).to(tl.uint64)
    uniform = (mix(image + neuron) >> 40).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08  # 2^-24
    total = tl.load(x + at, mask=here, other=0.0) * steps
    if offset is not None:
        total += given(offset, offset_apart, channel, channels)
    v = tl.div_rn(tl.abs(total) if SIGNED else total, given(theta, theta_apart, channel, channels))
    place = clip(v, 0.0, most) * grid
    left = tl.floor(place)
    left = tl.where(left >= 0, left, 0.0)  # NaN must not select an entry
    left = tl.where(left > last, last, left)
    entry = left.to(tl.int32) * 2
    below, rise = tl.load(table + entry, mask=here), tl.load(table + entry + 1, mask=here)
    counts = tl.floor(below + (place - left) * rise + uniform)
    counts = tl.where(counts > most, most, counts)
    if SIGNED:
        counts *= (total > 0).to(tl.float32) - (total < 0).to(tl.float32)
    if worth is not None:
        counts *= given(worth, worth_apart, channel, channels)
    tl.store(out + at, counts, mask=here)


@triton.jit
def integrate_and_fire(
    potential,
    after,
    currents,
    currents_apart,
    train,
    train_apart,
    theta,
    theta_apart,
    offset,
    offset_apart,
    worth,
    worth_apart,
    rows,
    columns,
    channels,
    steps,
    SPREAD: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """``steps`` steps of v <- v + I + offset, s = 1[v >= theta], v <- v - theta s; v stays in registers.

    Currents and train lie ``apart`` from step to step.
    """
    row, column = rows_of_tile(ROWS), columns_of_tile(COLUMNS)
    here = (row < rows) & (column < columns)
    at = row.to(tl.int64) * columns + column
    channel = channel_of(row, column, channels, SPREAD)
    threshold = given(theta, theta_apart, channel, channels)
    drive = given(offset, offset_apart, channel, channels) if offset is not None else 0.0
    height = given(worth, worth_apart, channel, channels) if worth is not None else 1.0
    v = tl.load(potential + at, mask=here, other=0.0)
    for _ in range(steps):
        v += tl.load(currents + at, mask=here, other=0.0)
        if offset is not None:
            v += drive
        spikes = (v >= threshold).to(tl.float32)
        v -= threshold * spikes
        tl.store(train + at, spikes * height, mask=here)
        currents += currents_apart
        train += train_apart
    tl.store(after + at, v, mask=here)

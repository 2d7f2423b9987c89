"""Whether the compiled neurons say the same as plain torch on this machine, and which neurons run in which way.

A compiler may err, and a file in a cache may be damaged; a few thousand numbers of every kind tell.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from . import native, triton_neurons
from .fused import compiler
from .neurons import CONVERTIBLE, NEURONS, Neuron, Noise, Place

STEPS = 8
_SHAPE = 8, 16, 12, 12  # enough for several threads to have a part each
_SPECIAL = 0.0, -0.0, torch.nan, torch.inf, -torch.inf, 3e38, -3e38, 1e-45


class Comparison(NamedTuple):
    """What one neuron model says when it is compiled.

    Args:
        neuron: its name, one of `CONVERTIBLE`.
        numbers: how many were compared.
        different: how many of them are not what plain torch says, bit by bit.
    """

    neuron: str
    numbers: int
    different: int


def check(device: str = "cpu") -> list[Comparison]:
    """Return each neuron model compared, in both orders of memory and with both kinds of spikes; [] if none compiles.

    Inputs are normal numbers, multiples of 1/16, which are ties, and what is special: zeros, infinities, NaN.

    Args:
        device: "cpu" for the functions in C, "cuda" for Triton's kernels and what takes the place of those given up.
    """
    if (native.library().functions if device == "cpu" else triton_neurons.kernels().module) is None:
        return []
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(_SHAPE, generator=draw)
    flat = x.view(-1)
    flat[::3] = (flat[::3] * 16).round() / 16
    for number, value in enumerate(_SPECIAL):
        flat[number :: 5 * len(_SPECIAL)] = value
    found = []
    for name in CONVERTIBLE:
        kind = NEURONS[name]
        numbers = different = 0
        for signed in (False,) if kind.streaming else (False, True):
            theta = torch.rand(_SHAPE[1], generator=draw) + 0.25
            neuron = kind(theta.to(device), STEPS, Place(1, 4, signed=signed))
            for order in (torch.contiguous_format, torch.channels_last):
                given = x.to(device).contiguous(memory_format=order)
                if device != "cpu":
                    _both(neuron, given)  # where it is compared itself, which plain torch answers
                one, other = _both(neuron, given)
                numbers += one.numel()
                different += int((_bits(one) != _bits(other)).sum())
        found.append(Comparison(name, numbers, different))
    return found


def given_up() -> dict[str, str]:
    """Return why Triton's kernel for a neuron model was given up in this process, for those for which it was."""
    kernels = ((name, way.kernel) for name in CONVERTIBLE if (way := NEURONS[name].ways) is not None)
    return {name: kernel.failure for name, kernel in kernels if kernel.failure is not None}


def executor(neuron: str) -> str:
    """Return the executor that runs networks of these neurons unless another is asked for, and how it goes about it."""
    return "layers, all steps of a few images at a time" if NEURONS[neuron].streaming else "counts, one pass"


def path(device: str) -> str:
    """Return by what the neurons run on "cpu" or "cuda", in float32."""
    if device == "cpu":
        return "plain torch" if native.library().functions is None else "compiled C"
    if triton_neurons.kernels().module is None:
        return "plain torch"  # torch.compile needs it too
    second = "" if compiler() is None else "else torch.compile, "
    return f"Triton where it gives the same numbers, {second}else plain torch"


def _both(neuron: Neuron, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``neuron`` says to ``x``, and what it would without compiled functions: `Neuron`'s own methods."""
    noise, worth = Noise(0, torch.arange(len(x), device=x.device)), neuron.height / STEPS
    if not neuron.streaming:
        return neuron.window(x, noise, worth), Neuron.window(neuron, x, noise, worth)
    currents = x.expand(STEPS, *x.shape)
    models = type(neuron), Neuron
    runs = (model.spike_train(neuron, neuron.start(x), currents, 0, noise, worth) for model in models)
    one, other = (torch.cat([train, potential[None]]) for train, potential in runs)
    return one, other


def _bits(x: Tensor) -> Tensor:
    return torch.where(x.isnan(), torch.nan, x).contiguous().view(torch.int32)

"""Convert: a prepared network and thresholds become a spiking network."""

import math

from .errors import UsageError, choice
from .graph import PreparedGraph
from .neurons import CONVERTIBLE
from .simulation import SpikingModel
from .thresholds import Thresholds


def convert(
    graph: PreparedGraph,
    thresholds: Thresholds,
    *,
    neuron: str = "tpp",
    steps: int = 8,
    initial_potential: float | None = None,
    shift: bool = False,
    shuffle: str = "none",
    seed: int = 0,
) -> SpikingModel:
    """Return ``graph`` with each activation site replaced by neurons; wires carry theta s.

    Weights stay as they are, but for those that calibration changed (`Thresholds.weights`).

    Args:
        thresholds: theta for each site, computed for this ``steps``.
        neuron: "if", "two-phase" or "tpp".
        steps: T, the number of steps of a window.
        initial_potential: v0 of integrate-and-fire neurons in units of theta; theta / 2 by default, 0 with ``shift``.
        shift: add theta / (2 T) to integrate-and-fire neurons at every step (Deng and Gu 2021).
        shuffle: re-order each site's spikes over time: "none", "shared" or "per-neuron".
        seed: selects the random numbers.

    Raises:
        UsageError: an unknown name, T not a whole number above 0, a seed beyond 64 bits, or an option that this
            neuron does not have.
        CalibrationRefused: the thresholds belong to another network or another T.
    """
    choice("neuron", neuron, CONVERTIBLE)
    options: dict[str, float] = {}
    if neuron == "if":
        options["initial_potential"] = (0.0 if shift else 0.5) if initial_potential is None else initial_potential
        options["shift"] = 0.5 if shift else 0.0
    elif initial_potential is not None or shift:
        raise UsageError(
            f"initial potential and shift belong to integrate-and-fire neurons, got neuron {neuron!r}",
            "use neuron 'if', or leave them out",
        )
    if not math.isfinite(options.get("initial_potential", 0.0)):
        raise UsageError(f"the initial potential must be a finite number, got {initial_potential}")
    thresholds = thresholds.to(graph)
    return SpikingModel(graph, thresholds, neuron=neuron, steps=steps, shuffle=shuffle, seed=seed, options=options)

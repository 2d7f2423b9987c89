"""Energy by named models: pure functions of counted operations, each with its source, and no figure without its model.

A model knows nothing of a chip: what a spike costs to route, leakage and idle time are in none of them. They compare
networks, and an SNN with the ANN of the same graph under the same prices; they predict no measurement.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from torch import Tensor

from snnconvert.converter.errors import UsageError, choice
from snnconvert.converter.graph.canonical import attribute
from snnconvert.converter.simulation import SpikingModel

from .operations import LayerOperations, Operations


@dataclass(frozen=True)
class Energy:
    """The energy of one image under one model.

    Args:
        model: one of `ENERGY_MODELS`.
        network: "snn" or "ann".
        picojoules: in all, the sum of ``parts``.
        parts: by what costs it.
    """

    model: str
    network: str
    picojoules: float
    parts: dict[str, float]


@dataclass(frozen=True)
class Energies:
    """The spiking network's energy and that of its ANN, under the same model.

    ``once`` says whether what stays equal at every step, such as the first layer, was computed once.
    """

    snn: Energy
    ann: Energy
    once: bool

    @property
    def ratio(self) -> float:
        """How many times the spiking network's energy the ANN's is; infinity where the former is zero."""
        return self.ann.picojoules / self.snn.picojoules if self.snn.picojoules else math.inf

    def as_json(self) -> dict[str, Any]:
        """Return the same as nested dictionaries that json.dumps takes."""
        return asdict(self)


class Prices(NamedTuple):
    """Picojoules of one operation: a multiply-accumulate is ``multiply`` + ``add``."""

    add: float
    multiply: float


FLOAT32 = Prices(0.9, 3.7)
"""32-bit floating point in 45 nm at 0.9 V (Horowitz, Computing's energy problem, ISSCC 2014)."""

INT32 = Prices(0.1, 3.1)
"""32-bit integers, from the same table."""

WORD = 32
"""Bits of a weight, a potential, an activation or an address in memory."""

_SRAM = ((2**13, 10.0), (2**15, 20.0), (2**20, 100.0))
"""Bytes of a memory, and picojoules of one 64-bit access to it, from the same source."""


def sram_access(size: float) -> float:
    """Return the picojoules of one access to a memory of ``size`` bytes: linear in log(size) between known sizes.

    8 KB 10 pJ, 32 KB 20 pJ, 1 MB 100 pJ; 10 pJ below, and on along the last line above. One word is one access.

    Raises:
        UsageError: a size below zero.
    """
    if not size >= 0:
        raise UsageError(f"expected the bytes of a memory, got {size}")
    if size <= _SRAM[0][0]:
        return _SRAM[0][1]
    (small, low), (large, high) = _SRAM[:2] if size < _SRAM[1][0] else _SRAM[1:]
    return low + (high - low) * math.log(size / small) / math.log(large / small)


def _horowitz(found: Operations, once: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Arithmetic alone, 32-bit floating point in 45 nm: AC 0.9 pJ, MAC 3.7 + 0.9 = 4.6 pJ.

    E = 0.9 (synaptic operations + additions + neuron updates + spikes) + 4.6 MACs

    Source: Horowitz 2014 for the prices. Assumed: a neuron update is one addition (the comparison is free) and a
    reset, one per spike, another; most papers leave both out, and a reader can: they are parts of their own.
    """
    mac = FLOAT32.add + FLOAT32.multiply
    snn = {
        "synaptic operations": FLOAT32.add * found.synaptic_operations,
        "analog macs": mac * found.macs(once),
        "analog additions": FLOAT32.add * found.additions(once),
        "neuron updates": FLOAT32.add * found.updates,
        "resets": FLOAT32.add * found.spikes,
    }
    return snn, {"macs": mac * found.ann_macs, "additions": FLOAT32.add * found.ann_additions}


def _lemaire(found: Operations, once: bool) -> tuple[dict[str, float], dict[str, float]]:
    """Arithmetic, addressing and memory traffic of a chip with a memory of its own for each layer.

    A spiking layer, for its events (spikes that arrive) and its synaptic operations S:
    inputs: each event is read from a queue; weights: S reads, and at each step the biases of all outputs;
    potentials: S reads and S writes, and one of each for a neuron update; outputs: each spike is written to a queue;
    operations: S + updates + spikes additions; addressing: S additions, and two MACs an event in a convolution, for
    two coordinates.
    A formal layer of M MACs: inputs: M reads in a convolution, each input once elsewhere; weights: M reads, and the
    biases of all outputs; outputs: each written once; operations: M MACs, and an addition for each output;
    addressing: inputs + outputs + weights additions in a convolution, M elsewhere.

    Source: Lemaire et al. 2022, An analytical estimation of spiking neural networks energy efficiency, ICONIP
    (arXiv 2210.13107); int32 prices and SRAM of Horowitz 2014. The article could not be read here: this is a
    reconstruction from its equations 1 to 17, as the authors' group quotes them in its tool (the SNN plug-in of
    Qualia), with that tool's corrections: factors of T for updates and biases, and N_out, not N_in N_out, additions
    for an event in a linear layer.

    Where we differ or assume: S is the real fan-out (theirs whole kernels, or ceil(k / stride)^2); a queue holds a
    layer's inputs; an access grows with log(size), theirs with size; words have 32 bits, each an access; every layer
    has biases; all weights of a convolution are addressed once (theirs of one input channel); analog values are charged
    as a formal layer's, as often as they are computed; a two-phase neuron is charged both phases (theirs have one).
    """
    snn = dict.fromkeys(("inputs", "weights", "potentials", "outputs", "operations", "addressing"), 0.0)
    ann = dict.fromkeys(("inputs", "weights", "outputs", "operations", "addressing"), 0.0)
    for layer in found.layers:
        _add(snn, _spiking_layer(layer, found.steps))
        if layer.connections:
            times = (layer.analog_once if once else layer.analog) / layer.connections
            _add(snn, _formal_layer(layer), times)
        if layer.operation != "identity":
            _add(ann, _formal_layer(layer))
    for site in found.sites:
        memory = _access(site.neurons)
        snn["potentials"] += 2 * site.updates * memory
        snn["outputs"] += site.spikes * memory
        snn["operations"] += (site.updates + site.spikes) * INT32.add
    return snn, ann


def _spiking_layer(layer: LayerOperations, steps: int) -> dict[str, float]:
    events, caused = layer.events, layer.synaptic_operations
    biases = 0 if layer.analog else steps * layer.outputs  # those of a formal layer are read there
    coordinates = 2 * events if layer.operation.startswith("conv") else 0.0
    return {
        "inputs": events * _access(layer.inputs),
        "weights": (caused + biases) * _access(layer.weights) if layer.weighted else 0.0,
        "potentials": 2 * caused * _access(layer.outputs),
        "operations": caused * INT32.add,
        "addressing": caused * INT32.add + coordinates * (INT32.add + INT32.multiply),
    }


def _formal_layer(layer: LayerOperations) -> dict[str, float]:
    count, convolution = layer.connections, layer.operation.startswith("conv")
    addresses = layer.inputs + layer.outputs + layer.weights if convolution else count
    price = INT32.add + INT32.multiply if layer.weighted else INT32.add
    return {
        "inputs": (count if convolution else layer.inputs) * _access(layer.inputs),
        "weights": (count + layer.outputs) * _access(layer.weights) if layer.weighted else 0.0,
        "outputs": layer.outputs * _access(layer.outputs),
        "operations": count * price + layer.outputs * INT32.add * layer.weighted,
        "addressing": addresses * INT32.add,
    }


def _access(words: float) -> float:
    return sram_access(words * WORD / 8)


def _add(total: dict[str, float], parts: dict[str, float], times: float = 1.0) -> None:
    for name, picojoules in parts.items():
        total[name] += times * picojoules


Model = Callable[[Operations, bool], tuple[dict[str, float], dict[str, float]]]

ENERGY_MODELS: dict[str, Model] = {"horowitz-45nm": _horowitz, "lemaire": _lemaire}
"""Name to a function of counted operations that returns the parts of the SNN's and of the ANN's energy; their
docstrings hold equations and sources."""


def energy(found: Operations, model: str, *, once: bool = False) -> Energies:
    """Return the energy of one image under ``model``, and that of the ANN beside it.

    Args:
        found: what was counted, `operations`.
        model: one of ``ENERGY_MODELS``.
        once: what stays equal at every step is computed once and kept, as the executors do; by default at each step
            anew, as a chip without memory for currents must.

    Raises:
        UsageError: an unknown model.
    """
    snn, ann = ENERGY_MODELS[choice("energy model", model, tuple(ENERGY_MODELS))](found, once)
    return Energies(Energy(model, "snn", sum(snn.values()), snn), Energy(model, "ann", sum(ann.values()), ann), once)


@dataclass(frozen=True)
class Storage:
    """The bits that a spiking network stores, at the width that they have now.

    Args:
        weights: weights, biases and other constants of the graph, each once.
        thresholds: of the neurons, one for a layer or for each channel.
        corrections: biases, potentials and heights of spikes that calibration added.
    """

    weights: int
    thresholds: int
    corrections: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.thresholds + self.corrections


def weight_bits(model: SpikingModel) -> Storage:
    """Return the bits of stored numbers: numbers times the bits of their type, summed over tensors.

    A binarised tensor [outputs, ...], in which all weights of an output have one magnitude, takes a bit for each weight
    and a number for each output.
    """
    names = {str(node.target) for node in model.schedule.graph.nodes if node.op == "get_attr"}
    weights = [attribute(model.network.module, name) for name in names]
    neurons = model.network.neurons.values()
    corrections = [getattr(n, name) for n in neurons for name in ("bias", "potential", "own_height")]
    thresholds = [n.threshold for n in neurons]
    return Storage(*(sum(_bits(x) for x in part if x is not None) for part in (weights, thresholds, corrections)))


def _bits(tensor: Tensor) -> int:
    word = 8 * tensor.element_size()
    whole = word * tensor.numel()
    if tensor.ndim < 2 or tensor.is_complex() or not tensor.numel():
        return whole
    magnitudes = tensor.abs().flatten(1)
    alike = bool((magnitudes == magnitudes[:, :1]).all())
    return min(whole, tensor.numel() + word * len(tensor)) if alike else whole

"""Numbers about spiking models: accuracy next to the ANN, synaptic operations, and energy by named models."""

from .accuracy import evaluate
from .energy import ENERGY_MODELS, Energies, Energy, Storage, energy, weight_bits
from .operations import LayerOperations, Operations, SiteOperations, operations
from .result import Evaluation
from .shards import Shards

__all__ = [
    "ENERGY_MODELS",
    "Energies",
    "Energy",
    "Evaluation",
    "LayerOperations",
    "Operations",
    "Shards",
    "SiteOperations",
    "Storage",
    "energy",
    "evaluate",
    "operations",
    "weight_bits",
]

"""Numbers about spiking models: accuracy next to the ANN, synaptic operations, energy by named models, and a table."""

from .accuracy import evaluate
from .energy import ENERGY_MODELS, Energies, Energy, Storage, energy, weight_bits
from .operations import LayerOperations, Operations, SiteOperations, operations
from .result import Evaluation
from .rows import Row, ann_row, pairs, quantised, quantised_row, spiking_row
from .shards import Shards
from .trains import spike_trains, window_starts

__all__ = [
    "ENERGY_MODELS",
    "Energies",
    "Energy",
    "Evaluation",
    "LayerOperations",
    "Operations",
    "Row",
    "Shards",
    "SiteOperations",
    "Storage",
    "ann_row",
    "energy",
    "evaluate",
    "operations",
    "pairs",
    "quantised",
    "quantised_row",
    "spike_trains",
    "spiking_row",
    "weight_bits",
    "window_starts",
]

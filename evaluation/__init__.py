"""Numbers about spiking models: accuracy next to the ANN, with intervals."""

from .accuracy import evaluate
from .result import Evaluation
from .shards import Shards

__all__ = ["Evaluation", "Shards", "evaluate"]

"""Numbers about spiking models: accuracy next to the ANN, with intervals."""

from .accuracy import evaluate
from .result import Evaluation

__all__ = ["Evaluation", "evaluate"]

"""snnconvert: convert trained neural networks to spiking neural networks, and prove what was done.

graph = prepare(model, example)                        # trace, canonicalise, compare with the model
thresholds = calibrate(graph, batches, steps=8)        # one pass over unlabelled images
snn = convert(graph, thresholds, neuron="tpp", steps=8)
logits = snn(images)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calibration import calibrate, observe, thresholds_from_batch_norm
    from .converter.artifact import load, save
    from .converter.convert import convert
    from .converter.graph import activation, check, prepare
    from .evaluation import evaluate
    from .model_zoo import load_model, open_dataset

__version__ = "0.1.0"

_WHERE = {
    "activation": "converter.graph",
    "check": "converter.graph",
    "calibrate": "calibration",
    "convert": "converter.convert",
    "evaluate": "evaluation",
    "load": "converter.artifact",
    "load_model": "model_zoo",
    "observe": "calibration",
    "open_dataset": "model_zoo",
    "prepare": "converter.graph",
    "save": "converter.artifact",
    "thresholds_from_batch_norm": "calibration",
}

__all__ = [
    "__version__",
    "activation",
    "calibrate",
    "check",
    "convert",
    "evaluate",
    "load",
    "load_model",
    "observe",
    "open_dataset",
    "prepare",
    "save",
    "thresholds_from_batch_norm",
]


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import snnconvert`` does not import torch."""
    if name not in _WHERE:
        raise AttributeError(f"module 'snnconvert' has no attribute {name!r}")
    return getattr(import_module(f".{_WHERE[name]}", __name__), name)

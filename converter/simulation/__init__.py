"""Run a converted network: `counts` in one pass, `layers` operation by operation, `steps` step by step."""

from .spiking_model import EXECUTORS, SpikingModel

__all__ = ["EXECUTORS", "SpikingModel"]

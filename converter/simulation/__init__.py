"""Run a converted network: `counts` in one pass, `layers` operation by operation, `steps` step by step."""

from .network import channels_last
from .spiking_model import EXECUTORS, SpikingModel

__all__ = ["EXECUTORS", "SpikingModel", "channels_last"]

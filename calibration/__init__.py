"""Floor 2: data come in, thresholds go out."""

from .batch_norm import thresholds_from_batch_norm
from .calibration import Calibration
from .observer import calibrate, observe
from .rules import PER, RULES

__all__ = ["PER", "RULES", "Calibration", "calibrate", "observe", "thresholds_from_batch_norm"]

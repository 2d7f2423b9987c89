"""Floor 2: data come in; thresholds, corrections and weights go out."""

from .batch_norm import thresholds_from_batch_norm
from .calibration import Calibration
from .observer import observe
from .recipes import RECIPES, Recipe, calibrate, find_recipe, follow, from_document, to_document, to_toml
from .reconstruction import Progress
from .rules import PER, RULES
from .search import Point, powers_of_two, search

__all__ = [
    "PER",
    "RECIPES",
    "RULES",
    "Calibration",
    "Point",
    "Progress",
    "Recipe",
    "calibrate",
    "find_recipe",
    "follow",
    "from_document",
    "observe",
    "powers_of_two",
    "search",
    "thresholds_from_batch_norm",
    "to_document",
    "to_toml",
]

"""Floor 2: data come in; thresholds, corrections and weights go out."""

from .adequacy import Adequacy, observe_halves, split_half
from .attribution import Attribution, attribute
from .batch_norm import thresholds_from_batch_norm
from .batches import first
from .calibration import Calibration
from .drift import Drift, drift
from .follow import calibrate, follow
from .observer import observe
from .recipes import CORRECTIONS, RECIPES, Recipe, find_recipe, from_document, to_document, to_toml
from .reconstruction import Progress
from .rules import PER, RULES
from .search import Point, powers_of_two, search

__all__ = [
    "CORRECTIONS",
    "PER",
    "RECIPES",
    "RULES",
    "Adequacy",
    "Attribution",
    "Calibration",
    "Drift",
    "Point",
    "Progress",
    "Recipe",
    "attribute",
    "calibrate",
    "drift",
    "find_recipe",
    "first",
    "follow",
    "from_document",
    "observe",
    "observe_halves",
    "powers_of_two",
    "search",
    "split_half",
    "thresholds_from_batch_norm",
    "to_document",
    "to_toml",
]

"""Neuron models, one a file: pure functions with the equations, and a thin module around them."""

from .correction import Correction
from .integrate_and_fire import IntegrateAndFire
from .neuron import Neuron, Place
from .noise import Noise
from .shuffle import SHUFFLES, shuffle
from .tpp import TwoPhaseProbabilistic
from .two_phase import TwoPhase

NEURONS: dict[str, type[Neuron]] = {"if": IntegrateAndFire, "two-phase": TwoPhase, "tpp": TwoPhaseProbabilistic}
"""The neuron models, by the name that the command line and artefacts use."""

__all__ = [
    "NEURONS",
    "SHUFFLES",
    "Correction",
    "IntegrateAndFire",
    "Neuron",
    "Noise",
    "Place",
    "TwoPhase",
    "TwoPhaseProbabilistic",
    "shuffle",
]

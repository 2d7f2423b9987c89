"""Neuron models, one a file: pure functions with the equations, and a thin module around them."""

from .correction import Correction
from .integrate_and_fire import IntegrateAndFire
from .leaky import LeakyIntegrateAndFire
from .neuron import Neuron, Place
from .noise import Noise
from .shuffle import SHUFFLES, shuffle
from .tpp import TwoPhaseProbabilistic
from .two_phase import TwoPhase

NEURONS: dict[str, type[Neuron]] = {
    "if": IntegrateAndFire,
    "two-phase": TwoPhase,
    "tpp": TwoPhaseProbabilistic,
    "lif": LeakyIntegrateAndFire,
}
"""The neuron models, by the name that the command line and artefacts use."""

CONVERTIBLE = ("if", "two-phase", "tpp")
"""Those that an ANN's activations become; a leaky neuron's rate is no function of its mean input, so it is trained."""

__all__ = [
    "CONVERTIBLE",
    "NEURONS",
    "SHUFFLES",
    "Correction",
    "IntegrateAndFire",
    "LeakyIntegrateAndFire",
    "Neuron",
    "Noise",
    "Place",
    "TwoPhase",
    "TwoPhaseProbabilistic",
    "shuffle",
]

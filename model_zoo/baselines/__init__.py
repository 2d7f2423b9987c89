"""Directly trained spiking networks, one method a file, and the trainer of all."""

from .albsnn import Albsnn
from .ann import Ann
from .dsr import Dsr
from .lif import Lif
from .method import Method
from .mt_lif import MultiThresholdLif
from .qcfs import Qcfs
from .slssnn import Slssnn

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (Lif, MultiThresholdLif, Albsnn, Slssnn, Dsr, Qcfs, Ann)
}
"""The methods, by the name that the command line uses."""

__all__ = ["METHODS", "Method"]

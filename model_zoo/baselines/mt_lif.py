"""`mt-lif`: leaky neurons with several thresholds, for one or two steps. A reconstruction from the abstract.

    u[t] = k (u[t-1] - theta s[t-1]) + I[t];   s[t] = clip(floor(u[t] / theta), 0, m);   output theta s[t]

Source: Xu, Liu and Yang 2021 (arXiv 2112.07426; Symmetry 14(9) 1933, 2022). Its text could not be read: the reset, the
leak, m, and the formulas of its three surrogate derivatives are our reading. At T = 1 the neuron is a ReLU with m + 1
levels, rounded down. A spike of m is a burst of m spikes and is counted as m synaptic operations: compare with other
networks at equal levels and operations, not at equal T alone.
"""

from dataclasses import dataclass
from typing import ClassVar

from .lif import Lif


@dataclass(frozen=True)
class MultiThresholdLif(Lif):
    """Settings of `mt-lif`: those of `lif`, and

    Args:
        thresholds: m, the number of thresholds theta, 2 theta, ...
    """

    name: ClassVar[str] = "mt-lif"
    about: ClassVar[str] = "leaky neurons with several thresholds (Xu et al. 2021; reconstruction from the abstract)"

    threshold: float = 0.5
    surrogate: str = "mt-ste"
    thresholds: int = 4

    @property
    def most(self) -> int:
        """The most spikes of a neuron in a step."""
        return self.thresholds

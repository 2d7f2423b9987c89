"""Settings of a reconstruction: what learns, from what, and how fast."""

import math
from dataclasses import dataclass

from snnconvert.converter.errors import UsageError, choice

SCOPES = ("layer", "block", "network")
"""What learns together: each layer, each block, or the whole network."""

LEARNED = ("threshold", "bias", "weight")
"""What can be learned."""


@dataclass(frozen=True)
class Settings:
    """How to reconstruct.

    Args:
        scope: what learns together, one of `SCOPES`.
        iterations: steps of the optimiser.
        learn: what changes, of `LEARNED`.
        weight_rate: the first learning rate of weights, per unit of their tensor's root mean square.
        threshold_rate: that of the logarithms of thresholds, and of biases in units of theta.
        temperature: of the distillation.
        hint: what the error of sites counts for besides that of the output, where they do not learn by themselves: so
            many times its mean over sites, each in units of its activation's mean square (Romero et al. 2015, whose
            hint is one layer). An activation says more of an image than the output does: it pays where images are few.
        mixed: run convolutions and products of matrices in bfloat16 where the machine computes with such numbers; what
            a site adds up and rounds stays in the type of the weights.
    """

    scope: str = "network"
    iterations: int = 500
    learn: tuple[str, ...] = LEARNED
    weight_rate: float = 3e-3
    threshold_rate: float = 1e-3
    temperature: float = 1.0
    hint: float = 0.0
    mixed: bool = True

    def check(self) -> None:
        """Check every name and number.

        Raises:
            UsageError: one that does not exist, or nothing to do.
        """
        choice("scope", self.scope, SCOPES)
        for name in self.learn:
            choice("thing to learn", name, LEARNED)
        if self.iterations < 1 or not self.learn:
            raise UsageError(
                f"expected at least one iteration and one thing to learn, got {self.iterations} of {list(self.learn)}"
            )
        if not 0 <= self.hint < math.inf:
            raise UsageError(f"hint must be a number, 0 or more, got {self.hint}")
        if self.hint and self.scope == "layer":
            raise UsageError("hint is for scope network or block: of layer, each site learns by itself", "use hint = 0")
        for name in ("weight_rate", "threshold_rate", "temperature"):
            if not 0 < (value := getattr(self, name)) < math.inf:
                raise UsageError(f"{name} must be a number above 0, got {value}")

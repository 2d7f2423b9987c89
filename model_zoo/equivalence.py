"""Whether two networks with the same tensors compute the same function, by trying one random input."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

SMALL_SIZE = 64
TOLERANCE = 1e-6  # of the outputs' spread, in float64: far above rounding, below a batch norm's other epsilon


def random_weights(model: nn.Module, seed: int = 0) -> dict[str, Tensor]:
    """Return float64 weights for ``model`` that let differences show.

    Matrices and kernels have variance 2 / fan-in, vectors lie around 1 (weights) or 0 (biases, means), and the
    variances of batch norm are spread over [0.01, 1] so that its epsilon counts. Integer tensors are kept.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str, value: Tensor) -> Tensor:
        if not value.is_floating_point():
            return value
        normal = torch.randn(value.shape, generator=generator, dtype=torch.float64)
        if value.ndim > 1:
            return normal * math.sqrt(2 / max(1, value[0].numel()))
        if name.endswith("running_var"):
            return 10 ** (torch.rand(value.shape, generator=generator, dtype=torch.float64) * 2 - 2)
        return normal * 0.1 + (0 if name.endswith(("bias", "running_mean")) else 1)

    return {name: draw(name, value) for name, value in model.state_dict().items()}


def output(build: Callable[[], nn.Module], weights: dict[str, Tensor], size: tuple[int, int, int]) -> Tensor | None:
    """Return what the network computes for one random image of ``size``; None where it takes no such image."""
    model = build().double().eval()
    model.load_state_dict(weights)
    image = torch.randn((1, *size), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    try:
        with torch.inference_mode():
            result = model(image)
    except (AssertionError, RuntimeError, ValueError):
        return None
    return result if isinstance(result, Tensor) else None


def difference(one: Tensor | None, other: Tensor | None) -> float:
    """Return max |one - other| over the standard deviation of ``one``; infinite where they cannot be compared."""
    if one is None or other is None or one.shape != other.shape:
        return math.inf
    value = float((one - other).abs().max() / one.std())
    return value if math.isfinite(value) else math.inf

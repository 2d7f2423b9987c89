import math

import torch
from torch import nn

from snnconvert.model_zoo.equivalence import TOLERANCE, difference, output, random_weights


def normalised(epsilon: float) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=epsilon), nn.ReLU(), nn.Flatten())


def test_a_different_epsilon_is_a_different_function() -> None:
    weights = random_weights(normalised(1e-5))
    first, same, other = (output(lambda e=e: normalised(e), weights, (3, 9, 9)) for e in (1e-5, 1e-5, 1e-3))  # type: ignore[misc]
    assert difference(first, same) <= TOLERANCE < difference(first, other)


def test_the_variances_of_batch_norm_are_positive_and_the_counters_kept() -> None:
    weights = random_weights(normalised(1e-5))
    assert 0.01 <= float(weights["1.running_var"].min()) <= float(weights["1.running_var"].max()) <= 1
    assert weights["1.num_batches_tracked"] == 0
    assert weights["0.weight"].dtype == torch.float64


def test_an_image_that_the_network_refuses_gives_no_output() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 2))

    weights = random_weights(build())
    assert output(build, weights, (3, 3, 3)) is None
    assert difference(None, output(build, weights, (3, 2, 2))) == math.inf

from torch import nn

from snnconvert.model_zoo.architecture import Architecture
from snnconvert.model_zoo.preprocessing import Preprocessing

PREPROCESSING = Preprocessing((1, 2, 2), (0.5,), (0.5,))


class NeedsNumbers(nn.Module):
    """Computes with tensors while it is built, which the meta device cannot."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = nn.Linear(4, 3).weight.abs().int().tolist()
        self.fc = nn.Linear(len(widths), classes)


def test_knows_its_shapes_and_where_the_classes_are() -> None:
    for build in (NeedsNumbers, lambda classes: nn.ModuleDict({"fc": nn.Linear(3, classes)})):
        architecture = Architecture("zoo:test", build, PREPROCESSING, 10)
        assert architecture.shapes(7) == {"fc.weight": (7, 3), "fc.bias": (7,)}
        assert architecture.head() == (("fc.weight", 0), ("fc.bias", 0))

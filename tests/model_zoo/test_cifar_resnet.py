import pytest
import torch
from torch import nn

from snnconvert.model_zoo.cifar_resnet import BasicBlock, CifarResNet


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_has_the_depth_and_parameters_of_the_paper(depth: int, millions: float) -> None:
    """He et al. 2016, table 6."""
    model = CifarResNet(depth)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert len(layers) == depth
    assert sum(value.numel() for value in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.03)


def test_the_shortcut_subsamples_and_pads_channels_on_both_sides() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    result = BasicBlock(2, 4, 2).shortcut(x)
    assert torch.equal(result[0, 1:3], x[0, :, ::2, ::2])
    assert not result[0, [0, 3]].any()

import pytest
import torch

from snnconvert.model_zoo.zoo_models import ZOO


@pytest.mark.parametrize("name", sorted(ZOO))
def test_every_network_maps_its_images_to_its_classes(name: str) -> None:
    architecture = ZOO[name]
    model = architecture.build(7).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, *architecture.preprocessing.size)).shape == (2, 7)
    assert architecture.name == f"zoo:{name}"

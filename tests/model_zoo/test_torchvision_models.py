import pytest

from snnconvert.model_zoo.torchvision_models import find, names


def test_lists_classifiers_only() -> None:
    assert {"resnet18", "googlenet"} <= set(names())
    assert not {name for name in names() if "rcnn" in name or "quantized" in name}
    assert find("fasterrcnn_resnet50_fpn") is None


@pytest.mark.parametrize(("stem", "resize"), [("resnet50-0676ba61", 256), ("resnet50-11ad3fa6", 232), ("mine", 232)])
def test_the_published_name_of_a_file_decides_between_sets_of_weights(stem: str, resize: int) -> None:
    found = find("resnet50", stem)
    assert found is not None
    assert found.preprocessing.resize == resize
    assert found.classes == 1000


@pytest.mark.parametrize("name", ["googlenet", "resnet18"])
def test_builds_any_number_of_classes_without_heads_for_training(name: str) -> None:
    found = find(name)
    assert found is not None
    shapes = found.shapes(7)
    assert shapes["fc.weight"][0] == 7
    assert not [key for key in shapes if key.startswith("aux")]

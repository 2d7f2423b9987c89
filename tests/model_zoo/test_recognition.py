from dataclasses import replace

import pytest
import torch
from torch import Tensor

from snnconvert.converter.errors import ModelRefused
from snnconvert.model_zoo.cifar_resnet import CifarResNet
from snnconvert.model_zoo.index import Entry, index
from snnconvert.model_zoo.libraries import timm, torchvision
from snnconvert.model_zoo.recognition import recognise


def names_of(state: dict[str, Tensor], stem: str = "weights") -> tuple[str, int]:
    found = recognise(state, stem, index())
    return found.name, found.classes


@pytest.mark.parametrize(("depth", "classes"), [(20, 10), (32, 100), (110, 2)])
def test_recognises_the_residual_networks_for_small_images(depth: int, classes: int) -> None:
    assert names_of(CifarResNet(depth, classes).state_dict()) == (f"zoo:resnet{depth}", classes)


def test_recognises_files_from_before_batch_norm_counted() -> None:
    state = CifarResNet(20).state_dict()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(old) < len(state)
    assert names_of(old) == ("zoo:resnet20", 10)


@pytest.mark.parametrize("classes", [1000, 10])
@pytest.mark.parametrize("stem", ["resnet18", "my_resnet18-v2", "resnet18-f37072fd"])
def test_networks_that_compute_the_same_count_as_one_and_the_file_name_excludes_the_others(
    stem: str, classes: int
) -> None:
    state = torchvision().models.resnet18(weights=None, num_classes=classes).state_dict()
    found = recognise(state, stem, index())
    assert (found.name, found.classes) == ("torchvision:resnet18", classes)
    assert "timm:resnetblur18 with another function" in found.why


def test_the_longest_name_in_the_file_name_decides() -> None:
    state = timm().create_model("efficientnet_lite0", num_classes=5).state_dict()
    assert names_of(state, "tf_efficientnet_lite0_best") == ("timm:tf_efficientnet_lite0", 5)
    assert names_of(state, "efficientnet_lite0") == ("timm:efficientnet_lite0", 5)


def test_asks_where_the_file_name_says_nothing() -> None:
    state = torchvision().models.resnet18(weights=None).state_dict()
    with pytest.raises(ModelRefused, match=r"(?s)2 architectures that differ .*resnetblur18.*--arch torchvision"):
        recognise(state, "weights", index())


@pytest.mark.parametrize("stem", ["resnet188", "xresnet18"])
def test_a_part_of_a_word_is_no_name(stem: str) -> None:
    state = torchvision().models.resnet18(weights=None).state_dict()
    with pytest.raises(ModelRefused, match="architectures that differ"):
        recognise(state, stem, index())


def test_other_shapes_are_another_architecture() -> None:
    state = CifarResNet(20).state_dict()
    state["conv1.weight"] = torch.zeros(16, 3, 5, 5)
    with pytest.raises(ModelRefused, match=r"closest is zoo:resnet20.*conv1.weight \(expected \[16, 3, 3, 3\], got"):
        recognise(state, "resnet20", index())


def test_parts_of_the_head_must_agree() -> None:
    state = CifarResNet(20).state_dict()
    state["linear.bias"] = torch.zeros(11)
    with pytest.raises(ModelRefused, match=r"linear.weight, linear.bias disagree about the number of classes"):
        recognise(state, "resnet20", index())


def test_never_builds_a_network() -> None:
    state = CifarResNet(20).state_dict()
    unbuildable = [replace(entry, name="nowhere:" + entry.name) for entry in index()]
    found = recognise(state, "weights", tuple(unbuildable))
    assert found.name == "nowhere:zoo:resnet20"


def test_the_first_of_equals_is_taken() -> None:
    entry = next(entry for entry in index() if entry.name == "zoo:resnet20")
    twins: tuple[Entry, ...] = (entry, replace(entry, name="timm:twin"))
    found = recognise(CifarResNet(20).state_dict(), "weights", twins)
    assert (found.name, found.why) == ("zoo:resnet20", "timm:twin computes the same")
    assert recognise(CifarResNet(20).state_dict(), "twin", twins).name == "timm:twin"

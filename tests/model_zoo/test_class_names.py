"""Names of classes, against those that torchvision and files of the data sets tell."""

from pathlib import Path

import numpy as np
import pytest

from snnconvert.model_zoo import DATASETS
from snnconvert.model_zoo.class_names import CLASS_NAMES
from snnconvert.model_zoo.libraries import torchvision


def test_every_data_set_that_has_a_name_names_its_classes() -> None:
    assert {name: len(set(names)) for name, names in CLASS_NAMES.items()} == {
        name: 100 if name == "cifar100" else 10 for name in DATASETS
    }


@pytest.mark.parametrize("name", ["fashion-mnist", "fashion-mnist-sample"])
def test_garments_are_those_of_torchvision(name: str) -> None:
    assert list(CLASS_NAMES[name]) == [each.lower() for each in torchvision().datasets.FashionMNIST.classes]


def test_digits_are_their_labels() -> None:
    assert list(CLASS_NAMES["mnist"]) == [each[0] for each in torchvision().datasets.MNIST.classes]


def test_cifar10_as_a_file_of_it_says(shared: Path) -> None:
    with np.load(shared / "data/cifar10_test.npz") as file:
        assert list(CLASS_NAMES["cifar10"]) == file["classes"].tolist()


def test_cifar100_is_in_alphabetical_order() -> None:
    names = CLASS_NAMES["cifar100"]
    assert list(names) == sorted(names)
    assert (names[0], names[52], names[72], names[99]) == ("apple", "oak tree", "seal", "worm")

from typing import Any

import pytest

from snnconvert.converter.errors import UsageError
from snnconvert.model_zoo import architectures, timm_models, torchvision_models
from snnconvert.model_zoo.architectures import find_architecture, known_architectures
from snnconvert.model_zoo.index import Entry


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("resnet20", "zoo:resnet20"),
        ("zoo:fashion-resnet8", "zoo:fashion-resnet8"),
        ("resnet18", "torchvision:resnet18"),  # timm's computes the same
        ("timm:resnet18", "timm:resnet18"),
        ("mobilenet_v2", "torchvision:mobilenet_v2"),
        ("mobilenetv2_100", "timm:mobilenetv2_100"),
        ("resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
    ],
)
def test_finds_names_with_and_without_their_library(name: str, full: str) -> None:
    assert find_architecture(name).name == full


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet188", "unknown architecture 'resnet188'\n.*did you mean torchvision:resnet18"),
        ("zoo:resnet21", "unknown architecture 'zoo:resnet21'\n.*did you mean .*zoo:resnet20"),
        ("resnet50.a1_in99k", "unknown architecture"),
        ("keras:resnet50", "unknown library 'keras' in 'keras:resnet50': expected one of zoo, torchvision, timm"),
        ("", "unknown architecture ''\nhint: `snnconvert zoo` lists"),
    ],
)
def test_unknown_names_get_a_suggestion(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_architecture(name)


def test_a_name_of_two_different_networks_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry(name: str) -> Entry:
        return Entry(name, "k", "s", (), name, False, frozenset())

    monkeypatch.setattr(architectures, "index", lambda: (entry("torchvision:resnet18"), entry("timm:resnet18")))
    with pytest.raises(UsageError, match=r"(?s)different networks.*write torchvision:resnet18 or timm:resnet18"):
        find_architecture("resnet18")


def test_lists_what_is_known_without_the_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("imported")

    monkeypatch.setattr(torchvision_models, "torchvision", fail)
    monkeypatch.setattr(timm_models, "timm", fail)
    known = {architecture.name: architecture for architecture in known_architectures()}
    assert known["zoo:resnet20"].weights == "none"
    assert known["zoo:fashion-resnet8"].weights == "embedded"
    assert known["timm:resnet18"].weights == "library"
    assert known["timm:resnet18"].same_as == "torchvision:resnet18"

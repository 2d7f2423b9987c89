from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from snnconvert.converter.artifact import save
from snnconvert.converter.convert import convert
from snnconvert.converter.errors import ArtefactRefused, ModelRefused, UsageError
from snnconvert.converter.graph import prepare
from snnconvert.converter.thresholds import Thresholds
from snnconvert.model_zoo import load_model, models, open_dataset
from snnconvert.model_zoo.cifar_resnet import CifarResNet
from snnconvert.model_zoo.libraries import timm, torchvision
from snnconvert.model_zoo.preprocessing import Preprocessing
from snnconvert.model_zoo.zoo_models import CIFAR, ZOO

Save = Callable[..., Path]
NETS = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 7))

def wrong():
    return "a network"

def needy(classes):
    return small()

def informed():
    from snnconvert.model_zoo import Preprocessing
    model = small()
    model.preprocessing = Preprocessing((1, 3, 3), (0.5,), (0.25,))
    return model
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "zoo_test_factories.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return "zoo_test_factories"


def resnet18(classes: int = 1000) -> Any:
    torch.manual_seed(0)
    return torchvision().models.resnet18(weights=None, num_classes=classes).eval()


@pytest.mark.parametrize("classes", [1000, 10])
def test_a_bare_file_becomes_the_network_it_was(saved: Save, classes: int) -> None:
    original = resnet18(classes)
    loaded = load_model(str(saved(original.state_dict(), "resnet18.pt")))
    assert (loaded.name, loaded.classes) == ("torchvision:resnet18", classes)
    assert loaded.preprocessing == Preprocessing(
        (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256, "bilinear"
    )
    assert not loaded.preprocessing_assumed
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.model(image), original(image))
    assert loaded.notes[0].startswith(f"architecture torchvision:resnet18 with {classes} classes: named by the file")


def test_safetensors_wrappers_and_half_precision_make_no_difference(tmp_path: Path, saved: Save) -> None:
    state = CifarResNet(20, 100).state_dict()
    halved = {f"module.{key}": value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file(halved, tmp_path / "a.safetensors")
    loaded = load_model(str(tmp_path / "a.safetensors"))
    assert (loaded.name, loaded.classes, loaded.preprocessing) == ("zoo:resnet20", 100, CIFAR)
    assert loaded.notes[0] == "prefix 'module.' removed"
    assert {value.dtype for value in loaded.model.parameters()} == {torch.float32}
    again = load_model(str(saved({"state_dict": halved, "epoch": 1}, "b.pth.tar")))
    assert all(
        torch.equal(one, other) for one, other in zip(loaded.model.parameters(), again.model.parameters(), strict=True)
    )


def test_the_heads_of_googlenet_are_left_out(saved: Save) -> None:
    original = torchvision().models.googlenet(weights=None, init_weights=False, num_classes=10)
    loaded = load_model(str(saved(original.state_dict(), "mine.pt")))
    assert loaded.name == "torchvision:googlenet"
    assert "heads that only training uses left out" in loaded.notes[0]


def test_arch_overrides_recognition_and_the_file_name(saved: Save) -> None:
    path = saved(timm().create_model("efficientnet_lite0", num_classes=5).state_dict(), "efficientnet_lite0.pt")
    loaded = load_model(str(path), arch="tf_efficientnet_lite0.in1k")
    assert (loaded.name, loaded.classes) == ("timm:tf_efficientnet_lite0.in1k", 5)
    same = load_model("tf_efficientnet_lite0.in1k", weights=path)
    assert replace(same, model=loaded.model) == loaded


def test_other_tensors_than_the_architecture_has_are_listed(saved: Save) -> None:
    state = CifarResNet(20).state_dict()
    state["conv1.weight"] = torch.zeros(16, 1, 3, 3)
    state["extra"] = state.pop("bn1.bias")
    message = (
        r"does not fit zoo:resnet20: 1 missing: bn1.bias; 1 unexpected: extra; "
        r"1 of another shape: conv1.weight \(expected \[16, 3, 3, 3\], got \[16, 1, 3, 3\]\)"
    )
    with pytest.raises(ModelRefused, match=message):
        load_model(str(saved(state)), arch="resnet20")
    with pytest.raises(ModelRefused, match=r"73 missing: .* and 68 more|missing: .* and \d+ more"):
        load_model(str(saved(CifarResNet(20).state_dict())), arch="resnet32")


def test_the_embedded_network_is_as_good_as_its_documentation_says() -> None:
    loaded = load_model("fashion-resnet8")
    assert (loaded.source, loaded.classes) == ("embedded weights", 10)
    data = open_dataset("fashion-mnist-sample", split="test", preprocessing=loaded.preprocessing)
    with torch.inference_mode():
        correct = sum(int((loaded.model(x).argmax(1) == y).sum()) for x, y, _ in data.batches(500))
    assert correct / data.count > 0.92


@pytest.mark.parametrize("name", ["resnet20", "zoo:resnet110", "torchvision:resnet18", "timm:mobilenetv2_035"])
def test_a_named_architecture_without_its_weights_is_random_from_the_seed(name: str) -> None:
    torch.manual_seed(3)
    first = load_model(name, pretrained=False)
    torch.manual_seed(3)
    again = load_model(name, pretrained=False)
    assert first.source == "random weights"
    assert not first.model.training
    assert all(
        torch.equal(one, other) for one, other in zip(first.model.parameters(), again.model.parameters(), strict=True)
    )


def test_pretrained_weights_come_from_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    original = resnet18(1000)
    monkeypatch.setattr(
        torchvision().models.ResNet18_Weights, "get_state_dict", lambda *_, **__: original.state_dict(), raising=False
    )
    loaded = load_model("resnet18")
    assert loaded.source == "pretrained weights of torchvision"
    assert torch.equal(loaded.model.get_parameter("fc.weight"), original.fc.weight)


def test_weights_that_cannot_be_fetched_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host\nand more lines")

    monkeypatch.setattr(torchvision().models.ResNet18_Weights, "get_state_dict", offline, raising=False)
    monkeypatch.setattr(timm(), "create_model", offline)
    for name in ("torchvision:resnet18", "timm:resnet18"):
        with pytest.raises(ModelRefused, match=r"cannot be fetched \(OSError: no route to host\)\n.*--weights FILE"):
            load_model(name)
    with pytest.raises(ModelRefused, match=r"no pretrained weights for zoo:resnet20\n.*--weights FILE"):
        load_model("resnet20")


def test_a_factory_gives_its_own_weights_or_takes_a_file(nets: str, saved: Save) -> None:
    own = load_model(f"{nets}:small")
    assert (own.name, own.source, own.classes) == (f"{nets}:small", "as the factory made them", 7)
    assert own.preprocessing_assumed
    assert own.preprocessing.size[0] == 1
    assert "no metadata about preprocessing" in own.notes[0]
    path = saved(own.model.state_dict())
    for loaded in (load_model(f"{nets}:small", weights=path), load_model(str(path), arch=f"{nets}:small")):
        assert torch.equal(loaded.model.get_parameter("3.weight"), own.model.get_parameter("3.weight"))
        assert (loaded.name, loaded.source) == (f"{nets}:small", str(path))


def test_a_factory_may_state_its_preprocessing(nets: str) -> None:
    loaded = load_model(f"{nets}:informed")
    assert loaded.preprocessing == Preprocessing((1, 3, 3), (0.5,), (0.25,))
    assert not loaded.preprocessing_assumed


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong", "expected a factory of torch.nn.Module, got str"),
        ("needy", r"(?s)calling the factory without arguments fails: TypeError.*a function without arguments"),
        ("absent", "has no 'absent'"),
    ],
)
def test_factories_that_give_no_network_are_explained(nets: str, name: str, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        load_model(f"{nets}:{name}")


def test_a_file_that_does_not_fit_a_factory_is_refused(nets: str, saved: Save) -> None:
    path = saved({"a": torch.ones(1)})
    with pytest.raises(ModelRefused, match=rf"does not fit {nets}:small: 4 missing: .*; 1 unexpected: a"):
        load_model(str(path), arch=f"{nets}:small")


def test_a_pickled_network_is_used_if_trusted(saved: Save) -> None:
    path = str(saved(CifarResNet(20), "net.pt"))
    with pytest.raises(ModelRefused, match=r"needs code .*\n.*--trust"):
        load_model(path)
    loaded = load_model(path, trust=True)
    assert (loaded.name, loaded.classes) == ("CifarResNet", 10)
    assert loaded.preprocessing_assumed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"reference": "a.pt", "weights": Path("b.pt")}, "no other weights can be given"),
        ({"reference": "a.pt", "pretrained": False}, "no other weights can be given"),
        ({"reference": "resnet18", "arch": "resnet18"}, "goes with a file of weights"),
        ({"reference": "resnet18", "weights": Path("b.pt"), "pretrained": False}, "exclude each other"),
        ({"reference": "resnett18"}, "unknown architecture 'resnett18'\n.*did you mean torchvision:resnet18"),
        ({"reference": "a.pt", "arch": "resnett18"}, "unknown architecture"),
    ],
)
def test_words_that_no_call_accepts(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_model(**arguments)


def test_paths_that_hold_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for reference, message in (("runs", "is a folder"), ("./runs", "is a folder"), ("absent.pt", "does not exist")):
        with pytest.raises(ModelRefused, match=message):
            load_model(reference)


def test_a_folder_called_like_a_network_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resnet20").mkdir()
    assert load_model("resnet20", pretrained=False).name == "zoo:resnet20"


def test_the_error_of_recognition_names_the_file(saved: Save) -> None:
    path = saved({"a": torch.ones(1)}, "mystery.pt")
    with pytest.raises(ModelRefused, match=r"mystery.pt: 1 tensors whose names .*\n.*--arch"):
        load_model(str(path))


def test_absent_embedded_weights_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = replace(ZOO["fashion-resnet8"], embedded=Path("nowhere.safetensors"))
    monkeypatch.setattr(models, "find_architecture", lambda *_: moved)
    with pytest.raises(ModelRefused, match=r"nowhere\.safetensors does not exist"):
        load_model("fashion-resnet8")


@pytest.mark.parametrize(
    ("file", "name", "classes", "size"),
    [
        ("cifar10_resnet20.pt", "zoo:resnet20", 10, (3, 32, 32)),
        ("cifar10_resnet32.pt", "zoo:resnet32", 10, (3, 32, 32)),
        ("tf_efficientnet_lite0.pt", "timm:tf_efficientnet_lite0", 1000, (3, 224, 224)),
    ],
)
def test_recognises_checkpoints_in_circulation(
    shared: Path, file: str, name: str, classes: int, size: tuple[int, int, int]
) -> None:
    loaded = load_model(str(shared / "weights" / file))
    assert (loaded.name, loaded.classes, loaded.preprocessing.size) == (name, classes, size)


def test_a_checkpoint_in_circulation_is_as_good_as_its_authors_say(shared: Path) -> None:
    loaded = load_model(str(shared / "weights/cifar10_resnet20.pt"))
    data = open_dataset(str(shared / "data/cifar10_test.npz"), split="test", preprocessing=loaded.preprocessing)
    with torch.inference_mode():
        correct = [(loaded.model(x).argmax(1) == y).numpy() for x, y, _ in data.batches(250, limit=1000)]
    assert np.concatenate(correct).mean() > 0.9


ABOUT = {"model": {"name": "mine", "classes": 3}, "preprocessing": Preprocessing((1, 8, 8), (0.5,), (0.25,)).to_json()}


def artefact(path: Path, activation: nn.Module, about: dict[str, Any] = ABOUT) -> tuple[Path, nn.Module]:
    """Write a spiking network to ``path``, and return the ANN it is made of."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), activation, nn.Flatten(), nn.Linear(144, 3)).eval()
    graph = prepare(net, torch.randn(2, 1, 8, 8))
    thresholds = Thresholds({site.name: torch.ones(1) for site in graph.sites}, None, "given", "layer")
    save(path, convert(graph, thresholds, neuron="two-phase", steps=4), about)
    return path, net


def test_the_network_in_an_artefact(tmp_path: Path) -> None:
    path, net = artefact(tmp_path / "a.snn", nn.ReLU())
    found = load_model(str(path))
    x = torch.randn(5, 1, 8, 8)
    assert torch.allclose(found.model(x), net(x), atol=1e-6)
    assert (found.name, found.source, found.classes) == ("mine", str(path), 3)
    assert found.preprocessing == Preprocessing((1, 8, 8), (0.5,), (0.25,))
    assert found.notes == ("the ANN in a.snn",)


def test_artefacts_that_hold_no_network_to_convert(tmp_path: Path) -> None:
    path, _ = artefact(tmp_path / "a.snn", nn.SiLU())
    with pytest.raises(ModelRefused, match=r"a.snn holds activations beyond the ReLU family"):
        load_model(str(path))
    for about in ({}, {"model": ABOUT["model"]}, ABOUT | {"preprocessing": 3}):
        path, _ = artefact(tmp_path / "b.snn", nn.ReLU(), about)
        with pytest.raises(ArtefactRefused, match=r"b.snn does not say what its model or preprocessing was"):
            load_model(str(path))
    path.write_bytes(b"nothing")
    with pytest.raises(ArtefactRefused, match=r"b.snn is not a .snn file"):
        load_model(str(path))

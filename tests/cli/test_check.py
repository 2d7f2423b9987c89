"""`snnconvert check`, and what `convert` takes from it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snnconvert.cli import session
from snnconvert.converter.artifact import load

Run = Callable[..., Any]

CLASSES = {"spiking site", "linear", "exact in the window", "analog", "unsupported"}


@pytest.fixture
def own_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a factory module whose ``forward`` holds the given lines, and return its reference."""

    def write(body: str) -> str:
        name = f"model_{abs(hash(body)) % 10**8}"
        (tmp_path / f"{name}.py").write_text(
            "import torch\nfrom torch import nn\nimport torch.nn.functional as F\n\n"
            "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.conv = nn.Conv2d(3, 4, 3)\n        self.head = nn.Linear(4, 2)\n"
            "        self.rnn = None\n\n"
            f"    def forward(self, x):\n{body}\n        return self.head(x.mean((2, 3)))\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return f"{name}:Net"

    return write


def test_every_operation_of_a_network_by_class(run: Run) -> None:
    result = run("check", "zoo:fashion-resnet8")
    assert result.code == 0
    assert "spiking network: 7 sites, all binary" in result.stdout
    assert "layer1.0.relu#2" in result.stdout
    assert "cifar_resnet.py:" in result.stdout
    for neuron in ("if", "two-phase", "tpp"):
        assert any(line.split()[:2] == [neuron, "yes,"] for line in result.stdout.splitlines())


def test_a_network_of_a_thousand_million_parameters_needs_no_weights(run: Run) -> None:
    document = run("check", "timm:vit_giant_patch14_224", "--json").document
    assert document["parameters"] > 1e9
    assert document["convertible"]
    assert not document["spiking"]
    assert {each["role"] for each in document["operations"]} <= CLASSES
    analog = {each["name"] for each in document["analog"]}
    assert analog == {"layer_norm", "scaled_dot_product_attention"}
    assert all(each["path"] and each["source"] and each["advice"] for each in document["analog"])
    assert document["neurons"]["tpp"] is None
    assert "both signs" in document["neurons"]["if"]
    assert set(document["executors"]) == {"two-phase", "tpp"}
    assert set(document["sites"].values()) == {"ternary"}


def test_strict_takes_spikes_only(run: Run) -> None:
    assert run("check", "timm:test_resnet", "--strict").code == 0
    result = run("check", "timm:test_vit", "--strict")
    assert result.code == 3
    assert "19 operations are not spiking" in result.stderr
    assert "blocks.0.norm1: layer_norm at " in result.stderr


def test_all_reasons_at_once(run: Run, own_model: Callable[[str], str]) -> None:
    reference = own_model("        x = torch.fft.rfft2(self.conv(x)).abs()\n        x = torch.relu(torch.sort(x)[0])")
    result = run("check", reference, "--size", "3x8x8")
    assert result.code == 3
    assert "fft_rfft2" in result.stderr
    assert "sort" in result.stderr
    assert f"{reference.partition(':')[0]}.py:13" in result.stderr
    assert f"{reference.partition(':')[0]}.py:14" in result.stderr
    document = run("check", reference, "--size", "3x8x8", "--json").document
    assert len(document["reasons"]) == 2
    assert not document["convertible"]
    unsupported = [each for each in document["operations"] if each["role"] == "unsupported"]
    assert [each["name"] for each in unsupported] == ["fft_rfft2", "sort"]
    assert all(each["advice"] for each in unsupported)


def test_control_flow_that_depends_on_data_is_refused_with_its_line(run: Run, own_model: Callable[[str], str]) -> None:
    reference = own_model("        x = torch.relu(self.conv(x))\n        if x.sum() > 0:\n            x = -x")
    result = run("check", reference, "--size", "3x8x8")
    assert result.code == 3
    assert f"{reference.partition(':')[0]}.py:14: if x.sum() > 0:" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_name_is_wrong_usage(run: Run) -> None:
    assert run("check", "timm:resnet1888").code == 2


def test_strict_conversion_refuses_before_any_data_is_read(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "vit.snn"
    result = run(
        "convert", "timm:test_vit", "--random-weights", "--strict", "-o", path, "--data", tmp_path / "none.npz"
    )
    assert result.code == 3
    assert "19 operations are not spiking" in result.stderr
    assert "none.npz" not in result.stderr
    assert not path.exists()


def test_strict_conversion_of_a_name_refuses_before_its_weights_are_there(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(session, "open_model", lambda out, model, **flags: asked.append(model))
    result = run("convert", "timm:test_vit", "--strict", "-o", tmp_path / "vit.snn")
    assert result.code == 3
    assert "19 operations are not spiking" in result.stderr
    assert asked == []


def test_a_quiet_check_gives_the_result_alone(run: Run) -> None:
    result = run("check", "zoo:fashion-resnet8", "--quiet")
    assert (result.code, result.stderr) == (0, "")
    assert "spiking network: 7 sites, all binary" in result.stdout


def test_streaming_neurons_are_refused_before_any_data_is_read(run: Run, tmp_path: Path) -> None:
    words = (
        "convert",
        "timm:test_vit",
        "--random-weights",
        "-o",
        tmp_path / "vit.snn",
        "--data",
        tmp_path / "none.npz",
    )
    result = run(*words, "--neuron", "if")
    assert result.code == 3
    assert "use 'two-phase' or 'tpp'" in result.stderr
    assert "none.npz" not in result.stderr


def test_the_artefact_carries_the_audit(run: Run, artefacts: dict[str, Path]) -> None:
    shown = run("show", artefacts["tpp"], "--json").document
    assert shown["audit"] == "spiking network: 7 sites, all binary"
    assert shown["analog"] == []
    assert {site["spikes"] for site in shown["sites"]} == {"binary"}
    assert load(artefacts["tpp"])[0].graph.audit.spiking

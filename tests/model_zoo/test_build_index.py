import sys
from pathlib import Path
from typing import Any

import pytest

from snnconvert.model_zoo import build_index
from snnconvert.model_zoo.architectures import find_architecture
from snnconvert.model_zoo.index import index, read_index

NAMES = ("zoo:resnet20", "torchvision:resnet18", "timm:resnet18", "timm:resnetblur18")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_index, "architectures", lambda: map(find_architecture, NAMES))


@pytest.mark.usefixtures("few")
def test_builds_what_the_package_has_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "index.json"
    monkeypatch.setattr(sys, "argv", ["build_index", "--log", str(tmp_path / "log"), "-o", str(output)])
    build_index.main()
    assert list(read_index(output)) == [entry for entry in index() if entry.name in NAMES]

    def fail(*_: Any) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(build_index, "fingerprint", fail)
    monkeypatch.setattr(build_index, "compare", fail)
    before = output.read_text()
    build_index.main()
    assert output.read_text() == before


def test_large_networks_are_taken_for_different_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_index, "architectures", lambda: iter(()))
    twins = [{"name": name, "shapes": "s", "parameters": build_index.LARGEST + 1} for name in ("a", "b")]
    assert build_index.take_comparisons(twins, build_index.Log(tmp_path / "log")) == {}

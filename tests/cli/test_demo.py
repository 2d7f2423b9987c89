from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from snnconvert.cli import demo


def test_the_demo_at_a_small_scale(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from snnconvert.cli import measurement, session

    measure, choose = measurement.measure, session.open_training_images
    monkeypatch.setattr(measurement, "measure", lambda *words, **flags: measure(*words, **flags, images=50))
    monkeypatch.setattr(
        session, "open_training_images", lambda *words, **flags: choose(*words, **flags | {"images": 50})
    )
    result = run("demo", "-o", tmp_path / "demo", "--json")
    assert result.code == 0, result.stderr
    found = result.document["evaluations"]
    assert [each["neuron"] for each in found] == list(demo.NEURONS) == ["tpp", "two-phase", "if"]
    assert [each["seeds"] for each in found] == [3, 1, 1]
    assert {each["steps"] for each in found} == {8}
    assert {each["images"] for each in found} == {50}
    assert str(tmp_path / "demo" / "fashion-resnet8-tpp-T8.snn") in result.stderr
    assert len(list((tmp_path / "demo").glob("*.snn"))) == 3
    assert run("demo", "-o", tmp_path / "demo", "--json", "--quiet").code == 0, "a demo can be run again"

"""Every method: what is exported says what the network said while it learned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.artifact import load, save
from snnconvert.model_zoo.baselines import METHODS
from snnconvert.model_zoo.baselines.albsnn import binarised
from snnconvert.model_zoo.baselines.trainee import Trainee
from snnconvert.model_zoo.baselines.trainer import Images, Plan, Trainer

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in METHODS if name != "ann"},
    "lif, hard reset": ("lif", {"hard_reset": True, "threshold": 0.3}),
    "mt-lif, three thresholds": ("mt-lif", {"thresholds": 3, "threshold": 0.3, "leak": 0.9}),
    "albsnn, all binary": ("albsnn", {"budget": 1e9, "warm_up": 0.0, "settle": 1.0, "tolerance": 100.0}),
    "dsr, lif": ("dsr", {"neurons": "lif", "threshold": 2.0, "dt": 0.25}),
    "qcfs, noise": ("qcfs", {"noise": "residual"}),
}


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("case", SETTINGS)
def test_the_artefact_says_what_the_trainee_says(
    case: str, steps: int, net: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    name, settings = SETTINGS[case]
    trainee = Trainee(net, images[:2], METHODS[name](**settings), steps)
    batch = images, torch.arange(24) % 3, torch.arange(24)
    Trainer(trainee, Plan(2), Images(lambda epoch: iter([batch] * 3), 3, lambda: [batch])).run()
    trainee.eval()
    with torch.no_grad():
        for module, parameter in [(m, p) for m in trainee.modules() for p in m.parameters(recurse=False)]:
            if not hasattr(module, "least"):
                parameter.copy_(parameter.half())
        if case == "albsnn, all binary":  # so that their magnitudes fit too
            for path in trainee.rule.layers:  # type: ignore[operator, union-attr]
                weight = trainee.rule._parts(path)[1]  # type: ignore[operator]
                weight.copy_(binarised(weight).half())
        torch.manual_seed(3)
        x = torch.randn(100, 1, 10, 10) * 1.5
        save(tmp_path / "a.snn", trainee.spiking(), {})
        network, expected = load(tmp_path / "a.snn")[0], trainee(x)
        for executor in network.executors:
            found = network(x, executor=executor)
            assert int((found.argmax(1) == expected.argmax(1)).sum()) >= 99
            assert float((found - expected).abs().median()) < 1e-5  # but for ties, which may fall to either side
    assert expected.std(0).min() > 1e-3
    assert sum(int(counts.sum()) for counts in network.activity(x).values()) > 0
    assert network.steps == steps


def test_methods_describe_themselves() -> None:
    assert list(METHODS) == ["lif", "mt-lif", "albsnn", "slssnn", "dsr", "qcfs", "ann"]
    for name, kind in METHODS.items():
        assert kind.name == name
        assert kind.about
        kind().check(4)
    assert not METHODS["ann"].spikes
    reconstructions = {name for name, kind in METHODS.items() if "reconstruction from the abstract" in kind.about}
    assert reconstructions == {"mt-lif", "albsnn", "slssnn"}

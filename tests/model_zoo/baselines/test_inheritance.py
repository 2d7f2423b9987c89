"""A network that begins with what one for fewer steps learned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from snnconvert.converter.errors import ArtefactRefused, UsageError
from snnconvert.model_zoo.baselines import METHODS
from snnconvert.model_zoo.baselines.checkpoint import write_checkpoint
from snnconvert.model_zoo.baselines.inheritance import Heritage, inherit
from snnconvert.model_zoo.baselines.trainee import Trainee
from snnconvert.model_zoo.baselines.trainer import Images, Plan, Trainer


def trainee(net: nn.Module, images: Tensor, name: str, steps: int, **settings: Any) -> Trainee:
    torch.manual_seed(steps)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
    return Trainee(net, images[:2], METHODS[name](**settings), steps)


def trained(network: Trainee, images: Tensor, file: Path) -> Path:
    """Train for two epochs, and return the checkpoint."""
    labels = torch.arange(len(images)) % 3
    batch = images, labels, torch.arange(len(images))
    Trainer(network, Plan(epochs=2, rate=0.05), Images(lambda epoch: iter([batch]), 1, lambda: [batch]), file).run()
    return file


@pytest.mark.parametrize("name", ["lif", "mt-lif", "albsnn", "slssnn", "dsr", "qcfs"])
def test_all_that_was_learned_is_handed_over_whatever_the_steps(
    name: str, net: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    few = trainee(net, images, name, 2)
    file = trained(few, images, tmp_path / "few.checkpoint")
    learned = {key: value.clone() for key, value in few.state_dict().items()}
    many = trainee(net, images, name, 3)
    assert any(not torch.equal(learned[key], value) for key, value in many.state_dict().items())
    heritage = inherit(many, file)
    assert {key for key, value in many.state_dict().items() if not torch.equal(learned[key], value)} == set()
    assert many.steps == 3
    assert heritage.text.startswith(f"{name}, T=2, ")
    assert heritage.epochs == 2
    assert heritage.seconds >= 0


def test_what_was_inherited_is_part_of_what_a_checkpoint_belongs_to(
    net: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    one = trained(trainee(net, images, "lif", 1), images, tmp_path / "one.checkpoint")
    other = trained(trainee(net, images, "lif", 2), images, tmp_path / "other.checkpoint")
    texts = [inherit(trainee(net, images, "lif", 3), path).text for path in (one, other)]
    assert texts[0] != texts[1]
    batch = images, torch.arange(len(images)) % 3, torch.arange(len(images))
    given = Images(lambda epoch: iter([batch]), 1, lambda: [batch])
    file = tmp_path / "three.checkpoint"
    Trainer(trainee(net, images, "lif", 3), Plan(epochs=1, inherited=texts[0]), given, file).run()
    with pytest.raises(UsageError, match="inherited was lif, T=1"):
        Trainer(trainee(net, images, "lif", 3), Plan(epochs=1, inherited=texts[1]), given, file).run()


def test_nothing_is_inherited_from_another_method_settings_or_network(
    net: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    file = trained(trainee(net, images, "lif", 2), images, tmp_path / "lif.checkpoint")
    with pytest.raises(UsageError, match="method was lif, is mt-lif"):
        inherit(trainee(net, images, "mt-lif", 2), file)
    with pytest.raises(UsageError, match=r"leak was 0.5, is 0.25"):
        inherit(trainee(net, images, "lif", 2, leak=0.25), file)
    wider = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 3))
    with pytest.raises(UsageError, match="is of another network: "):
        inherit(trainee(wider, torch.randn(2, 1, 8, 8), "lif", 2), file)
    write_checkpoint(tmp_path / "x", {"a": torch.zeros(1)}, {})
    (tmp_path / "x").write_bytes((tmp_path / "x").read_bytes()[:20])
    with pytest.raises(ArtefactRefused, match="checkpoint"):
        inherit(trainee(net, images, "lif", 2), tmp_path / "x")


def test_what_was_inherited_twice_counts_twice(net: nn.Module, images: Tensor, tmp_path: Path) -> None:
    first = inherit(trainee(net, images, "lif", 2), trained(trainee(net, images, "lif", 1), images, tmp_path / "one"))
    plan = Plan(epochs=1, inherited=first.text, inherited_epochs=first.epochs, inherited_seconds=first.seconds + 1000)
    batch = images, torch.arange(len(images)) % 3, torch.arange(len(images))
    given = Images(lambda epoch: iter([batch]), 1, lambda: [batch])
    Trainer(trainee(net, images, "lif", 2), plan, given, tmp_path / "two").run()
    second = inherit(trainee(net, images, "lif", 4), tmp_path / "two")
    assert second.epochs == 3
    assert second.seconds >= 1000


def test_without_heritage_nothing_was_learned() -> None:
    assert Heritage() == ("", 0, 0.0)

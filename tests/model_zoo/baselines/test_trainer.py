"""Training: its schedule, what it refuses, killed runs that go on, and processes that share batches."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter import processes
from snnconvert.converter.errors import ArtefactRefused, DataRefused, SnnconvertError, UsageError
from snnconvert.converter.fused import Fused
from snnconvert.model_zoo.baselines import METHODS
from snnconvert.model_zoo.baselines.method import Method
from snnconvert.model_zoo.baselines.trainee import Trainee
from snnconvert.model_zoo.baselines.trainer import Batch, Images, Plan, Trainer

LABELS = torch.arange(24) % 3
PLAN = Plan(epochs=3, rate=0.1, seed=5)
SETTINGS: dict[str, dict[str, Any]] = {
    "albsnn": {"budget": 1e9, "warm_up": 0.0, "settle": 1.0, "patience": 1},
    "qcfs": {"noise": "residual"},
}


def method(name: str) -> Method:
    return METHODS[name](**SETTINGS.get(name, {}))


def given(images: Tensor, size: int = 10, name: str = "") -> Images:
    """Train on the first 20 images, in another order in each epoch, and validate on the rest."""

    def read(epoch: int) -> Iterator[Batch]:
        order = torch.randperm(20, generator=torch.Generator().manual_seed(epoch))
        return iter([(images[part], LABELS[part], part) for part in order.split(size)])

    return Images(read, math.ceil(20 / size), lambda: [(images[20:], LABELS[20:], torch.arange(20, 24))], name)


def trainer(net: nn.Module, images: Tensor, name: str = "lif", plan: Plan = PLAN, file: Path | None = None) -> Trainer:
    return Trainer(Trainee(net, images[:2], method(name), 2), plan, given(images), file)


def state(trained: Trainer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in trained.trainee.state_dict().items()}


class Killed(Exception):
    """The end of a process."""


def kill_after(epochs: int) -> Callable[[dict[str, Any]], None]:
    def told(record: dict[str, Any]) -> None:
        if record["epoch"] == epochs:
            raise Killed

    return told


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_goes_on_to_the_same_weights(name: str, normed: nn.Module, images: Tensor, tmp_path: Path) -> None:
    start = {key: tensor.clone() for key, tensor in normed.state_dict().items()}
    whole = trainer(normed, images, name)
    history = whole.run()
    expected = state(whole)
    file = tmp_path / "a.checkpoint"
    normed.load_state_dict(start)
    with pytest.raises(Killed):
        trainer(normed, images, name, file=file).run(kill_after(2))
    torch.manual_seed(99)
    normed.load_state_dict({key: torch.zeros_like(tensor) for key, tensor in start.items()})
    again = trainer(normed, images, name, file=file)
    resumed = again.run()
    found = state(again)
    assert list(found) == list(expected)
    assert [key for key in found if not torch.equal(found[key], expected[key])] == []
    assert [{**r, "seconds": 0} for r in resumed] == [{**r, "seconds": 0} for r in history]
    json.dumps(history, allow_nan=False)


def test_a_finished_run_does_nothing_more(net: nn.Module, images: Tensor, tmp_path: Path) -> None:
    file = tmp_path / "a"
    first = trainer(net, images, file=file)
    history, expected = first.run(), state(first)
    again = trainer(net, images, file=file)
    assert again.run(kill_after(1)) == history
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state(again).items())


def test_checkpoints_of_other_trainings_are_refused(net: nn.Module, images: Tensor, tmp_path: Path) -> None:
    file = tmp_path / "a.checkpoint"
    trainer(net, images, file=file).run()
    for change, words in (
        (trainer(net, images, "qcfs", file=file), "method was lif, is qcfs, cap was None, is 4.0, noise"),
        (
            trainer(net, images, plan=dataclasses.replace(PLAN, seed=6), file=file),
            r"of another training: seed was 5, is 6\nhint",
        ),
        (Trainer(Trainee(net, images[:2], method("lif"), 3), PLAN, given(images), file), "steps was 2, is 3"),
        (Trainer(Trainee(net, images[:2], method("lif"), 2), PLAN, given(images, 5), file), "batches was 2, is 4"),
        (
            Trainer(Trainee(net, images[:2], method("lif"), 2), PLAN, given(images, name="cats"), file),
            "images was , is cats",
        ),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            change.run()
        assert str(caught.value.message).startswith(f"{file} is of another training")
        assert "remove it to begin anew" in str(caught.value.hint)


def test_a_checkpoint_of_another_network_is_refused(net: nn.Module, images: Tensor, tmp_path: Path) -> None:
    file = tmp_path / "a.checkpoint"
    trainer(net, images, file=file).run()
    other = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3))
    with pytest.raises(SnnconvertError, match="does not fit this network"):
        trainer(other, images, file=file).run()
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ArtefactRefused, match=r"truncated|damaged"):
        trainer(net, images, file=file).run()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_refused(value: float, net: nn.Module, images: Tensor) -> None:
    images[3] = value
    with pytest.raises(DataRefused, match=r"epoch 1: the loss is (nan|inf)") as caught:
        trainer(net, images, "ann").run()
    assert caught.value.hint == "train with a smaller --rate"


def test_the_rate_rises_and_falls_as_a_cosine(net: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(epochs=30, rate=0.4)
    course = trainer(net, images, "ann", plan)
    seen: list[float] = []
    monkeypatch.setattr(
        course.optimiser, "step", lambda: seen.extend({group["lr"] for group in course.optimiser.param_groups})
    )
    course.run()
    assert len(seen) == 60  # 3 of them are the first twentieth
    cosine = [0.4 * (1 + math.cos(math.pi * step / 60)) / 2 for step in range(60)]
    assert seen[:3] == pytest.approx([cosine[0] / 3, cosine[1] * 2 / 3, cosine[2]])
    assert seen[3:] == pytest.approx(cosine[3:])


def test_a_step_is_nesterovs_with_decay_of_weights_alone(net: nn.Module, images: Tensor) -> None:
    """Two steps in float64 by hand; v <- 0.9 v + g, w <- w - rate (g + 0.9 v)."""
    net, images = net.double(), images.double()
    plan = Plan(epochs=1, rate=0.1, decay=0.01, shift=0, flip=False)
    course = trainer(net, images, "ann", plan)
    weights = {name: p.detach().clone() for name, p in net.named_parameters()}
    moved = {name: torch.zeros_like(w) for name, w in weights.items()}
    expected, losses = torch.func.functional_call, []
    net.eval()
    for number, (x, y, _) in enumerate(given(images).training(0)):
        rate = 0.1 * 0.5 * (1 + math.cos(math.pi * number / 2))
        leaves = {name: w.clone().requires_grad_() for name, w in weights.items()}
        loss = F.cross_entropy(expected(net, leaves, (x,)), y)
        losses.append(float(loss.detach()))
        for name, slope in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            slope = slope + 0.01 * weights[name] if weights[name].ndim > 1 else slope
            moved[name] = 0.9 * moved[name] + slope
            weights[name] = weights[name] - rate * (slope + 0.9 * moved[name])
    (record,) = course.run()
    assert record["loss"] == pytest.approx(sum(losses) / 2, rel=1e-4)  # the logits' loss is taken in float32
    for name, parameter in net.named_parameters():
        assert torch.allclose(parameter, weights[name], atol=1e-6), name


def test_images_are_shifted_and_flipped_anew_in_each_epoch(net: nn.Module, images: Tensor) -> None:
    course = trainer(net, images, "ann")
    seen: list[Tensor] = []
    course.trainee.body.register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))
    fixed = dataclasses.replace(course.images, training=lambda epoch: iter([(images[:20], LABELS[:20], LABELS[:20])]))
    course.images = dataclasses.replace(fixed, batches=1)
    course.run()
    trained = [x for x in seen if len(x) == 20]
    assert len(trained) == 3
    assert not torch.equal(trained[0], trained[1])
    assert all(torch.equal(x, images[20:]) for x in seen if len(x) == 4)  # but for validation


def test_records(net: nn.Module, images: Tensor) -> None:
    told: list[dict[str, Any]] = []
    course = trainer(net, images)
    history = course.run(told.append)
    assert told == history == course.history
    assert [record["epoch"] for record in history] == [1, 2, 3]
    last = history[-1]
    network = course.trainee.eval().spiking()
    right = float((network(images[20:]).argmax(1) == LABELS[20:]).float().mean())
    assert (last["epochs"], last["validation_images"], last["validation_top1"]) == (3, 4, 100 * right)
    assert set(last) == {"epoch", "epochs", "loss", "validation_images", "validation_top1", "seconds"}


@pytest.mark.parametrize(
    "plan",
    [Plan(epochs=0), Plan(rate=0.0), Plan(rate=math.inf), Plan(decay=-1.0), Plan(decay=math.nan), Plan(shift=-1)],
    ids=str,
)
def test_plans_out_of_range(plan: Plan, net: nn.Module, images: Tensor) -> None:
    with pytest.raises(UsageError, match="at least one epoch, a rate above 0, decay and shift of at least 0, got Plan"):
        trainer(net, images, plan=plan)


class Unnormed(nn.Module):
    """Two sites, no batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 3)
        self.norm: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.b(self.norm(self.a(x)).relu()).relu().mean((2, 3)))


def shared_training(name: str, norm: bool, file: str | None) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    Fused.__call__ = lambda self, *args: self.function(*args)  # type: ignore[method-assign]
    torch.manual_seed(0)
    net = Unnormed()
    if norm:
        net.norm = nn.BatchNorm2d(4)
    images = torch.randn(24, 1, 10, 10)
    torch.manual_seed(processes.rank())
    course = trainer(net, images, name, file=None if file is None else Path(file))
    history = course.run()
    return state(course), [{**record, "seconds": 0.0} for record in history]


def test_two_processes_train_what_one_trains(together: Callable[..., Any], tmp_path: Path) -> None:
    (one, history), (other, again) = together(shared_training, "mt-lif", False, str(tmp_path / "a"))
    assert history == again
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "a").is_file()
    alone, expected = shared_training("mt-lif", False, None)
    for record, own in zip(history, expected, strict=True):
        assert record["loss"] == pytest.approx(own["loss"], rel=1e-4)
    assert all(torch.allclose(one[name], alone[name], atol=1e-4) for name in one)


def test_processes_agree_on_batch_norms(together: Callable[..., Any]) -> None:
    (one, history), (other, again) = together(shared_training, "slssnn", True, None)
    assert history == again
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["body.norm.running_mean"].abs().sum() > 0

"""A network while it learns: against one that is stepped by hand, and refusals."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.model_zoo.baselines import METHODS
from snnconvert.model_zoo.baselines.lif import Lif
from snnconvert.model_zoo.baselines.slssnn import Slssnn
from snnconvert.model_zoo.baselines.trainee import Trainee


class Neurons:
    """Leaky neurons, with a membrane that they keep."""

    def __init__(self) -> None:
        self.left: Tensor | float = 0.0

    def __call__(self, current: Tensor) -> Tensor:
        u = 0.5 * self.left + current
        spikes = (u >= 1).float()
        self.left = u - spikes
        return spikes


class Pool:
    """Running maxima of what came in so far."""

    def __init__(self, pool: nn.Module) -> None:
        self.pool, self.total, self.said = pool, torch.zeros(()), torch.zeros(())

    def __call__(self, current: Tensor) -> Tensor:
        before, self.total = self.said, self.total + current
        self.said = self.pool(self.total)
        return self.said - before


def by_hand(net: nn.Module, x: Tensor, steps: int) -> Tensor:
    """Return the mean logits of `Small` with leaky neurons, step after step; the pool stands before its neurons."""
    first, second, third, pool = Neurons(), Neurons(), Neurons(), Pool(net.pool)  # type: ignore[arg-type]
    total = torch.zeros(len(x), 3)
    for _ in range(steps):
        h = first(net.norms[0](net.a(x)))  # type: ignore[operator, index]
        h = second(pool(net.norms[1](net.b(h)) + net.side(x)))  # type: ignore[operator, index]
        h = third(net.norms[2](net.c(h)))  # type: ignore[operator, index]
        total += net.head(net.average(h).mean((2, 3)))  # type: ignore[operator]
    return total / steps


@pytest.mark.parametrize("steps", [1, 3])
def test_it_is_the_network_stepped_by_hand(net: nn.Module, images: Tensor, steps: int) -> None:
    trainee = Trainee(net, images[:2], Lif(), steps).train()  # dropout goes, so training changes nothing here
    with torch.no_grad():
        assert torch.allclose(trainee(images * 2), by_hand(net, images * 2, steps), atol=1e-6)


def test_batch_norm_sees_all_steps_at_once(normed: nn.Module, images: Tensor) -> None:
    trainee = Trainee(normed, images[:2], Lif(), 3).train()
    with torch.no_grad():
        trainee(images)
    trainee.eval()
    with torch.no_grad():
        assert torch.allclose(trainee(images), by_hand(normed.eval(), images, 3), atol=1e-5)
    assert normed.norms[1].running_mean.abs().sum() > 0  # type: ignore[index, union-attr]
    batch = normed.norms[0].running_var  # type: ignore[index, union-attr]
    expected = 0.9 + 0.1 * F.conv2d(images, normed.a.weight, normed.a.bias, padding=1).var((0, 2, 3))
    assert torch.allclose(batch, expected, rtol=1e-4)  # the first layer is computed once, for no step in particular


def test_calls_of_one_module_are_populations_of_their_own(net: nn.Module, images: Tensor) -> None:
    trainee = Trainee(net, images[:2], Slssnn(), 4)
    assert len(trainee.neurons) == 3
    assert len({id(neuron) for neuron in trainee.neurons.values()}) == 3
    assert [site.name for site in trainee.prepared().sites] == list(trainee.neurons)


def test_the_network_given_learns_with_it(net: nn.Module, images: Tensor) -> None:
    trainee = Trainee(net, images[:2], Lif(), 2).train()
    F.cross_entropy(trainee(images), torch.arange(24) % 3).backward()
    assert all(p.grad is not None and p.grad.any() for p in net.parameters())
    given = {id(p) for p in net.parameters()}
    assert given == {id(p) for p in trainee.parameters()}


def test_a_pool_of_spikes_is_a_pool_of_currents(images: Tensor) -> None:
    """Through a function and a module, and for a pool of what else reads nothing."""
    torch.manual_seed(0)
    first, second, head = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 3)
    net = nn.Sequential(
        first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU6(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), head
    )
    trainee = Trainee(net, images[:2], Slssnn(1.0), 2).eval()

    def neurons(z: Tensor) -> Tensor:
        return (2 * z + 0.5).floor().clamp(0, 2) / 2

    hidden = neurons(F.adaptive_max_pool2d(second(neurons(F.max_pool2d(first(images), 2))), 1))
    with torch.no_grad():
        assert torch.allclose(trainee(images), head(hidden.flatten(1)), atol=1e-6)


class Forked(nn.Module):
    """A pool and something else read one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.head(h.mean((2, 3)) + F.max_pool2d(h, 8).flatten(1))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "silu": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Flatten(), nn.Linear(128, 3)),
        "all of the ReLU family and lead to layers with weights; this one has 1 sites, and 0 such activations",
    ),
    "a final activation": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 3), nn.ReLU()),
        "this one has 1 sites, and 2 such activations",
    ),
    "no activation": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(100, 3)), "no activation that can spike"),
    "a fork": (Forked, "a max-pool and something else read a.relu|a max-pool and something else read relu"),
    "a recurrent layer": (lambda: nn.Sequential(nn.Flatten(2), nn.LSTM(100, 3)), "LSTM"),
}


@pytest.mark.parametrize("method", ["lif", "slssnn"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_train(case: str, method: str, images: Tensor) -> None:
    build, message = REFUSED[case]
    with pytest.raises(ModelRefused, match=message):
        Trainee(build(), images[:2], METHODS[method](), 2)


def test_preparing_changes_nothing(normed: nn.Module, images: Tensor) -> None:
    trainee = Trainee(normed, images[:2], METHODS["albsnn"](), 2).train()
    before = {name: tensor.clone() for name, tensor in trainee.state_dict().items()}
    trainee.spiking()
    after = trainee.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trainee.training
    assert trainee(images).requires_grad


def test_weights_of_a_prepared_network_fit_in_half_precision(normed: nn.Module, images: Tensor) -> None:
    graph = Trainee(normed, images[:2], Lif(), 2).prepared()
    for tensor in graph.module.buffers():
        assert torch.equal(tensor, tensor.half().float())

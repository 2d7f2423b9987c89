"""Max-pooling stays right with more steps: a network trained here must not lose accuracy when T grows."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from snnconvert import convert, observe, open_dataset, prepare
from snnconvert.calibration import Calibration
from snnconvert.converter.graph import PreparedGraph
from snnconvert.converter.graph.sites import site_of
from snnconvert.model_zoo import Preprocessing
from snnconvert.model_zoo.train_fashion import MEAN, STD

SAMPLE, IMAGES, STEPS = "fashion-mnist-sample", 2000, (8, 16, 32, 64, 128)


class Pooled(nn.Module):
    """Max-pools after a ReLU, after the concat of two branches, and after the sum of two, which no ReLU follows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.left, self.right = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1)
        self.block, self.last, self.head = nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 24, 3), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        h = F.max_pool2d(self.stem(x).relu(), 2)
        h = F.max_pool2d(torch.cat([self.left(h).relu(), self.right(h).relu()], 1), 2)
        h = F.max_pool2d(h + self.block(h).relu(), 2, stride=1, padding=1)
        return self.head(F.adaptive_max_pool2d(self.last(h).relu(), 1).flatten(1))


Sample = tuple[Tensor, Tensor]


def sample(split: str) -> Sample:
    """Return the embedded images of ``split`` in 14 x 14 pixels, and their labels."""
    preprocessing = Preprocessing((1, 28, 28), (MEAN,), (STD,))
    images, labels, _ = next(open_dataset(SAMPLE, split=split, preprocessing=preprocessing).batches(IMAGES))
    return F.avg_pool2d(images, 2), labels


def trained(images: Tensor, labels: Tensor, epochs: int = 30, parts: int = 20) -> nn.Module:
    torch.manual_seed(0)
    model, generator = Pooled(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, epochs * parts)
    for _ in range(epochs):
        for rows in torch.randperm(len(images), generator=generator).split(len(images) // parts):
            mirrored = torch.rand(len(rows), 1, 1, 1, generator=generator) < 0.5
            batch = torch.where(mirrored, images[rows].flip(3), images[rows])
            loss = F.cross_entropy(model(batch), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


@pytest.fixture(scope="module")
def opened() -> tuple[nn.Module, PreparedGraph, Calibration, Sample]:
    """Return the trained network, prepared, and calibrated on its training images; and all images, test ones first."""
    train, test = sample("train"), sample("test")
    model = trained(*train)
    graph = prepare(model, train[0][:2])
    return model, graph, observe(graph, [train[0]]), (torch.cat([test[0], train[0]]), torch.cat([test[1], train[1]]))


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Return the share of right answers, in per cent."""
    with torch.no_grad():
        answers = torch.cat([model(part).argmax(1) for part in images.split(250)])
    return 100 * float((answers == labels).double().mean())


def test_pools_stand_before_the_activations(opened: tuple[nn.Module, PreparedGraph, Calibration, Sample]) -> None:
    graph = opened[1].module.graph
    pools = [n for n in graph.nodes if n.op == "call_function" and "max_pool" in n.target.__name__]
    assert len(pools) == 5  # the concat has two branches
    assert all(site_of(reader) is not None for pool in pools for reader in pool.users)
    assert [pool.args[0].target for pool in pools] == [torch.conv2d] * 3 + [torch.add, torch.conv2d]


@pytest.mark.parametrize("neuron", ["two-phase", "if"])
def test_accuracy_does_not_fall_with_more_steps(
    opened: tuple[nn.Module, PreparedGraph, Calibration, Sample], neuron: str
) -> None:
    ann, graph, calibration, (images, labels) = opened
    assert len(images) >= IMAGES
    assert accuracy(ann, images[:IMAGES], labels[:IMAGES]) > 70
    reference = accuracy(ann, images, labels)
    found = []
    for steps in STEPS:
        model = convert(graph, calibration.thresholds(graph, steps=steps), neuron=neuron, steps=steps)
        found.append(accuracy(model, images, labels))
        if steps >= 32:
            assert found[-1] > max(found[:-1]) - 1, dict(zip(STEPS, found, strict=False))
    assert abs(found[-1] - reference) < 1

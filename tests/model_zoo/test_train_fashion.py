import torch

from snnconvert.model_zoo.train_fashion import MEAN, STD, augment, train


def test_augmenting_shifts_and_flips_within_two_pixels() -> None:
    images = torch.full((200, 1, 28, 28), -MEAN / STD)
    images[:, 0, 10, 4] = 1.0
    result = augment(images, torch.Generator().manual_seed(0))
    assert result.shape == images.shape
    rows, columns = (result[:, 0] == 1).nonzero()[:, 1:].T
    assert set(rows.tolist()) == {8, 9, 10, 11, 12}
    assert set(columns.tolist()) == {2, 3, 4, 5, 6} | {21, 22, 23, 24, 25}


def test_learns_a_simple_rule() -> None:
    labels = torch.arange(128) % 2
    images = torch.zeros(128, 1, 28, 28) + labels[:, None, None, None]
    model = train(images, labels, epochs=3, batch=32, rate=0.05, seed=0)
    assert not model.training
    with torch.inference_mode():
        assert (model(images).argmax(1) == labels).all()

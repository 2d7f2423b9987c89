import torch

from snnconvert.model_zoo.train_fashion import train


def test_learns_a_simple_rule() -> None:
    labels = torch.arange(128) % 2
    images = torch.zeros(128, 1, 28, 28) + labels[:, None, None, None]
    model = train(images, labels, epochs=3, batch=32, rate=0.05, seed=0)
    assert not model.training
    with torch.inference_mode():
        assert (model(images).argmax(1) == labels).all()

"""Train the embedded network: ``python -m snnconvert.model_zoo.train_fashion``.

ResNet-8 on the 60,000 training images of Fashion-MNIST, stochastic gradient descent with a cosine schedule, random
crops and flips. The test set is read once, after the last epoch.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from .augment import augment
from .cifar_resnet import CifarResNet
from .idx import read_idx

MEAN, STD = 0.2860, 0.3530


def load(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Return normalised images [count, 1, 28, 28] and labels [count] of ``part`` ("train" or "t10k")."""
    images = torch.from_numpy(read_idx(folder / f"{part}-images-idx3-ubyte.gz"))
    labels = torch.from_numpy(read_idx(folder / f"{part}-labels-idx1-ubyte.gz").astype(np.int64))
    return ((images[:, None].float() / 255) - MEAN) / STD, labels


def train(images: Tensor, labels: Tensor, *, epochs: int, batch: int, rate: float, seed: int) -> CifarResNet:
    """Return ResNet-8 after ``epochs`` passes over ``images`` [count, 1, 28, 28], printing the loss of each."""
    torch.manual_seed(seed)
    generator, black = torch.Generator().manual_seed(seed), torch.tensor([-MEAN / STD])
    model = CifarResNet(8, in_channels=1)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = epochs * (len(images) // batch)
    step = 0
    for epoch in range(epochs):
        started, total = time.perf_counter(), 0.0
        for chosen in torch.split(torch.randperm(len(images), generator=generator), batch)[: len(images) // batch]:
            warm = min(1.0, (step + 1) / (steps * 0.05))
            optimiser.param_groups[0]["lr"] = rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
            loss = F.cross_entropy(model(augment(images[chosen], generator, fill=black)), labels[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            total += loss.item()
            step += 1
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / (len(images) // batch):.4f}, "
            f"{time.perf_counter() - started:.0f} s",
            flush=True,
        )
    model.eval()
    return model


def main() -> None:
    """Train, print the test accuracy, and write the weights as safetensors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("/usr/share/datasets/fashion-mnist"),
        help="folder with the four idx files (Debian package dataset-fashion-mnist)",
    )
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("fashion-resnet8.safetensors"))
    options = parser.parse_args()
    model = train(
        *load(options.data, "train"), epochs=options.epochs, batch=options.batch, rate=options.rate, seed=options.seed
    )
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, options.output)
    images, labels = load(options.data, "t10k")
    with torch.inference_mode():
        answers = torch.cat([model(part).argmax(1) for part in torch.split(images, 500)])
        correct = int((answers == labels).sum())
    print(f"test accuracy {100 * correct / len(labels):.2f} %, weights in {options.output}")


if __name__ == "__main__":
    main()

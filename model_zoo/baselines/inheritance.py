"""Time inheritance training: a network for many steps begins with the weights of one for few, and learns a little more.

The first costs 1 / T of the time that an image takes the second, and its weights are nearly right. Source: Deng, Li,
Zhang and Gu, ICLR 2022 (arXiv 2202.11946). We hand over all that a training keeps, the statistics of batch norm and the
learned thresholds too, but not its momenta.
"""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from snnconvert.converter.errors import UsageError

from .checkpoint import difference, read_checkpoint, under
from .trainee import Trainee


class Heritage(NamedTuple):
    """What a network learned before.

    Args:
        text: the method, T, and a hash of the state; "" for nothing.
        epochs: passes over the training images, with those that it had inherited itself.
        seconds: that they took.
    """

    text: str = ""
    epochs: int = 0
    seconds: float = 0.0


def inherit(trainee: Trainee, path: Path) -> Heritage:
    """Give ``trainee`` the state of a network that was trained with the same method and settings, for any T.

    Args:
        trainee: on the CPU; it is changed.
        path: the checkpoint of that network's training.

    Raises:
        ArtefactRefused: the file cannot be read.
        UsageError: it is of another method, of other settings or of another network.
    """
    tensors, document = read_checkpoint(path)
    training, history = document["training"], document["history"]
    was = {"method": training["method"]} | training["settings"]
    now = {"method": trainee.method.name} | asdict(trainee.method)
    if was != now:
        raise UsageError(
            f"{path} cannot be inherited: {difference(was, now)}", "name a checkpoint of the same method and settings"
        )
    try:
        trainee.load_state_dict(under("network.", tensors))
    except RuntimeError as error:
        raise UsageError(
            f"{path} is of another network: its tensors have other names or sizes", "name the --arch that it is of"
        ) from error
    text = f"{trainee.method.name}, T={training['steps']}, {_digest(tensors)}"
    plan, seconds = training["plan"], sum(record["seconds"] for record in history)
    return Heritage(text, plan.get("inherited_epochs", 0) + len(history), plan.get("inherited_seconds", 0.0) + seconds)


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

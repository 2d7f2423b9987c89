"""torchvision's classifiers as architectures of the zoo."""

import warnings
from functools import partial
from typing import Any

from torch import nn

from .architecture import Architecture, Weights
from .libraries import torchvision
from .preprocessing import from_torchvision

# Heads that only training uses are left out, and their slow initialisation with them.
_PLAIN = {"aux_logits": False, "init_weights": False}
_OPTIONS: dict[str, dict[str, bool]] = {"googlenet": _PLAIN, "inception_v3": _PLAIN}


def names() -> tuple[str, ...]:
    """Return the names of torchvision's classifiers."""
    models = torchvision().models
    return tuple(models.list_models(module=models))


def find(name: str, stem: str = "") -> Architecture | None:
    """Return the architecture called ``name``, None if torchvision has none.

    Args:
        name: torchvision's name, such as "resnet18".
        stem: name of the file that holds the weights; where it is the name under which torchvision publishes one of
            several sets of weights ("resnet50-0676ba61"), the preprocessing is that of this set.
    """
    if name not in names():
        return None
    published = torchvision().models.get_model_weights(name)
    chosen = next((one for one in published if stem and one.url.endswith(f"/{stem}.pth")), published.DEFAULT)
    return Architecture(
        f"torchvision:{name}",
        partial(_build, name),
        from_torchvision(chosen.transforms()),
        len(chosen.meta["categories"]),
        fetch=partial(_fetch, chosen),
        notes=(f"preprocessing of torchvision's {chosen}",),
    )


def _build(name: str, classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = torchvision().models.get_model(
            name, weights=None, num_classes=classes, **_OPTIONS.get(name, {})
        )
    return model


def _fetch(weights: Any) -> Weights:
    state: Weights = weights.get_state_dict(progress=False, check_hash=True)
    return state

"""timm's models as architectures of the zoo."""

import warnings
from functools import partial

from torch import nn

from .architecture import Architecture, Weights
from .libraries import timm
from .preprocessing import from_timm


def names() -> tuple[str, ...]:
    """Return the names of timm's models, without the tags of their weights."""
    return tuple(timm().list_models())


def find(name: str) -> Architecture | None:
    """Return the architecture called ``name``, None if timm has none.

    Args:
        name: timm's name, such as "resnet18", or "resnet18.a1_in1k" with the tag of a set of weights.
    """
    library = timm()
    base = name.partition(".")[0]
    if base not in library.list_models():
        return None
    try:
        configuration = library.get_pretrained_cfg(name, allow_unregistered=False).to_dict()
    except RuntimeError:  # no such tag, or an architecture without any
        if base != name:
            return None
        configuration = {}
    data = library.data.resolve_data_config(pretrained_cfg=configuration)
    notes = [f"preprocessing of timm's {base}.{configuration.get('tag') or 'default'}"]
    if data["crop_mode"] != "center":
        notes.append(f"timm evaluates {base} with crop mode {data['crop_mode']!r}; here images are centre-cropped")
    return Architecture(
        f"timm:{name}",
        partial(_build, base),
        from_timm(data),
        configuration.get("num_classes", 1000),
        fetch=partial(_fetch, name) if library.is_model_pretrained(name) else None,
        notes=tuple(notes),
    )


def _build(name: str, classes: int) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: nn.Module = timm().create_model(name, pretrained=False, num_classes=classes)
    return model


def _fetch(name: str) -> Weights:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        state: Weights = timm().create_model(name, pretrained=True).state_dict()
    return state

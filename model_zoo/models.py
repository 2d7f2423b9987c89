"""One reference in, one network ready to convert out."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from snnconvert.converter.artifact import load
from snnconvert.converter.errors import ArtefactRefused, ModelRefused, UsageError

from .architecture import Architecture
from .architectures import LIBRARIES, find_architecture
from .baselines import METHODS
from .fingerprint import class_count, shapes_of
from .importing import import_factory
from .index import index
from .matching import mismatches
from .preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from .recognition import recognise
from .spiking import shipped
from .weights import SUFFIXES, Checkpoint, read_weights, without_training_heads


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights, and what is known about it.

    Args:
        model: the network, in evaluation mode.
        name: full name of the architecture, or ``package.module:factory``.
        source: where the weights come from, for people.
        classes: number of classes; 0 where the code does not tell.
        preprocessing: what the network expects of an image.
        notes: the choices that were made, for people.
        preprocessing_assumed: the network came without metadata, and ``preprocessing`` is only the customary one.
        trained_on: data, split and digest of the images that it was trained on, where an artefact tells them.
    """

    model: nn.Module
    name: str
    source: str
    classes: int
    preprocessing: Preprocessing
    notes: tuple[str, ...] = ()
    preprocessing_assumed: bool = False
    trained_on: dict[str, Any] | None = None


def load_model(
    reference: str,
    *,
    weights: Path | None = None,
    arch: str | None = None,
    trust: bool = False,
    pretrained: bool = True,
) -> LoadedModel:
    """Return the network that ``reference`` names.

    Args:
        reference: a file of weights (its architecture is recognised), a .snn artefact (the ANN in it), an architecture
            ("resnet18", "zoo:resnet20", "timm:resnet50.a1_in1k"), or ``package.module:factory``.
        weights: file of weights for a named architecture or a factory; without it a named architecture has its
            pretrained weights and a factory those it makes.
        arch: architecture, or ``package.module:factory``, for a file of weights that is not to be recognised.
        trust: allow files that run code when they are read.
        pretrained: false leaves a named architecture with random weights, drawn from torch's current seed.

    Raises:
        UsageError: an unknown name, or arguments that exclude each other.
        ModelRefused: the file, the weights or the code cannot be used.
    """
    if _is_file(reference):
        if weights is not None or not pretrained:
            raise UsageError(f"{reference} is a file of weights: no other weights can be given for it")
        return _from_file(Path(reference), arch, trust)
    if arch is not None:
        raise UsageError(f"an architecture ({arch}) goes with a file of weights, and {reference!r} is none")
    if weights is not None:
        if not pretrained:
            raise UsageError("random weights and a file of weights exclude each other")
        return _from_file(weights, reference, trust)
    if _is_factory(reference):
        model = _call_factory(reference)
        return _without_metadata(model, reference, "as the factory made them", ())
    return _from_name(reference, pretrained)


def load_skeleton(reference: str, *, arch: str | None = None, trust: bool = False) -> LoadedModel:
    """Return the network that ``reference`` names; a named architecture has no weights (torch's meta device).

    Raises:
        UsageError, ModelRefused: as for `load_model`.
    """
    if arch is not None or _is_file(reference) or _is_factory(reference):
        return load_model(reference, arch=arch, trust=trust)
    architecture = find_architecture(reference)
    model = architecture.skeleton(architecture.classes)
    return LoadedModel(model.eval(), architecture.name, "no weights", architecture.classes, architecture.preprocessing)


def _is_file(reference: str) -> bool:
    path = Path(reference)
    return path.suffix in SUFFIXES or os.sep in reference or path.is_file()


def _is_factory(reference: str) -> bool:
    prefix, colon, _ = reference.partition(":")
    return bool(colon) and prefix not in LIBRARIES


def _from_file(path: Path, arch: str | None, trust: bool) -> LoadedModel:
    if path.suffix == ".snn":
        return _from_artefact(path)
    if arch is not None and not _is_factory(arch):
        find_architecture(arch)  # a wrong name is told before a large file is read
    checkpoint = read_weights(path, trust=trust)
    if checkpoint.module is not None:
        return _without_metadata(checkpoint.module, type(checkpoint.module).__name__, str(path), checkpoint.notes)
    if arch is not None and _is_factory(arch):
        model = _load_strictly(_call_factory(arch), checkpoint.state, f"{path} does not fit {arch}")
        return _without_metadata(model, arch, str(path), checkpoint.notes)
    checkpoint = without_training_heads(checkpoint)
    if arch is None:
        return _recognised(path, checkpoint)
    architecture = find_architecture(arch, path.stem)
    classes = class_count(shapes_of(checkpoint.state), architecture.head()) or architecture.classes
    return _with_weights(architecture, classes, checkpoint, str(path), (f"architecture {architecture.name}, as given",))


def _from_artefact(path: Path) -> LoadedModel:
    """Return the ANN that a spiking network stands beside, to be converted anew."""
    model, about = load(path)
    if any(site.signed or site.opposite for site in model.graph.sites):
        raise ModelRefused(
            f"{path} holds activations beyond the ReLU family, which a site keeps as spikes only",
            "convert the network that it was made from",
        )
    trained = about["training"].get("method") if isinstance(about.get("training"), dict) else None
    if trained is not None and not (trained in METHODS and METHODS[trained].converts):
        raise ModelRefused(
            f"{path} was trained as a spiking network ({trained}): its weights with other activations are no ANN",
            "convert an ANN: `snnconvert train ann` or `snnconvert train qcfs` makes one",
        )
    known = all(isinstance(about.get(key), dict) for key in ("model", "preprocessing"))
    if not known:
        raise ArtefactRefused(f"{path} does not say what its model or preprocessing was", "make it with snnconvert")
    return LoadedModel(
        model.ann,
        str(about["model"].get("name")),
        str(path),
        int(about["model"].get("classes") or 0),
        Preprocessing.from_json(about["preprocessing"]),
        (f"the ANN in {path.name}",),
        trained_on=_trained_on(about),
    )


def _trained_on(about: dict[str, Any]) -> dict[str, Any] | None:
    """Return what tells the images that the ANN in an artefact was trained on from others."""
    training = about.get("training")
    if not isinstance(training, dict):
        found = about["model"].get("trained_on")
        return found if isinstance(found, dict) else None
    return {key: training[key] for key in ("data", "split", "digest") if key in training}


def _recognised(path: Path, checkpoint: Checkpoint) -> LoadedModel:
    try:
        recognition = recognise(checkpoint.state, path.stem, index())
    except ModelRefused as error:
        raise ModelRefused(f"{path}: {error.message}", error.hint) from error
    note = f"architecture {recognition.name} with {recognition.classes} classes: {recognition.why}"
    architecture = find_architecture(recognition.name, path.stem)
    return _with_weights(architecture, recognition.classes, checkpoint, str(path), (note,))


def _from_name(reference: str, pretrained: bool) -> LoadedModel:
    try:
        architecture = find_architecture(reference)
    except UsageError as error:
        spiking = shipped().get(reference.removeprefix("zoo:"))
        if spiking is not None:
            return _from_artefact(spiking)
        if Path(reference).is_dir():
            raise ModelRefused(f"{reference} is a folder, expected a file of weights or the name of a model") from error
        raise
    if not pretrained:
        return _with_weights(architecture, architecture.classes, None, "random weights", ())
    if architecture.embedded is not None:
        checkpoint = read_weights(architecture.embedded)
        return _with_weights(architecture, architecture.classes, checkpoint, "embedded weights", ())
    checkpoint = Checkpoint(_fetch(architecture))
    source = f"pretrained weights of {architecture.name.partition(':')[0]}"
    classes = class_count(shapes_of(checkpoint.state), architecture.head()) or architecture.classes
    return _with_weights(architecture, classes, without_training_heads(checkpoint), source, ())


def _fetch(architecture: Architecture) -> dict[str, Tensor]:
    hint = "give a file of weights with --weights FILE"
    if architecture.fetch is None:
        raise ModelRefused(f"there are no pretrained weights for {architecture.name}", hint)
    try:
        return architecture.fetch()
    except Exception as error:  # every library and transport has errors of its own
        reason = str(error).strip().partition("\n")[0]
        raise ModelRefused(
            f"the pretrained weights of {architecture.name} cannot be fetched ({type(error).__name__}: {reason})", hint
        ) from error


def _with_weights(
    architecture: Architecture, classes: int, checkpoint: Checkpoint | None, source: str, notes: tuple[str, ...]
) -> LoadedModel:
    model = architecture.build(classes)
    if checkpoint is not None:
        model = _load_strictly(model, checkpoint.state, f"{source} does not fit {architecture.name}")
        notes = (*checkpoint.notes, *notes)
    return LoadedModel(
        model.eval(), architecture.name, source, classes, architecture.preprocessing, (*notes, *architecture.notes)
    )


def _load_strictly(model: nn.Module, state: dict[str, Tensor], what: str) -> nn.Module:
    differences = mismatches(shapes_of(model.state_dict()), shapes_of(state))
    if differences:
        raise ModelRefused(f"{what}: {'; '.join(differences)}", "check the architecture, or leave out --arch")
    model.load_state_dict(state, strict=False)  # not strict: the counters of batch norm may be absent
    return model.eval()


def _call_factory(reference: str) -> nn.Module:
    factory = import_factory(reference)
    try:
        model = factory()
    except Exception as error:
        raise ModelRefused(
            f"{reference}: calling the factory without arguments fails: {type(error).__name__}: {error}",
            "write a function without arguments that returns the network",
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelRefused(f"{reference}: expected a factory of torch.nn.Module, got {type(model).__name__}")
    return model.eval()


def _without_metadata(model: nn.Module, name: str, source: str, notes: tuple[str, ...]) -> LoadedModel:
    """Return a network of which only the code is known; it may carry a ``preprocessing`` of its own."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    last = layers[-1] if layers else None
    classes = 0 if last is None else last.out_features if isinstance(last, nn.Linear) else last.out_channels
    own = getattr(model, "preprocessing", None)
    if isinstance(own, Preprocessing):
        return LoadedModel(model, name, source, classes, own, notes)
    channels = next((layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d)), 3)
    colour = channels == 3
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if colour else ((0.0,) * channels, (1.0,) * channels)
    assumed = Preprocessing((channels, 224, 224), mean, std)
    note = f"no metadata about preprocessing: assumed {assumed.describe()}"
    return LoadedModel(model, name, source, classes, assumed, (*notes, note), preprocessing_assumed=True)

"""The models of the coverage sweep: what there is, how each is built small enough to run, weights that let it answer.

A network as its library initialises it says little: zero-initialised branches are absent, layer scales of 1e-5 are
nearly so, and transformers drawn with a deviation of 0.02 give the same logits for every image. `redraw` and
`set_statistics` make all of it matter. Too much can matter as well: with batch norms centred on the kink of the ReLU,
a random network amplifies any disturbance layer by layer, torchvision's mobilenet_v2 150 times from image to logits;
`redraw` therefore shifts normalised signals to 1, where most pass the ReLU (18 times).
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from snnconvert.model_zoo import libraries

LARGE = 100_000_000
"""Above so many parameters a depth-reduced twin stands in for the model."""

LARGEST = 500_000_000
"""Nothing with more parameters is measured."""

TRIMMABLE = 1_500_000_000
"""The largest model that is built in full to be trimmed."""

NOTHING: Mapping[str, Any] = {}

SIZES = (96, 128, 160, 192, 224, 256, 288, 384)
"""Input sizes, tried in this order, then the model's own."""

TWINS: tuple[Mapping[str, Any], ...] = (
    {"depth": 2},
    {"depth": 1},
    {"depths": (1, 1, 1, 1)},
    {"depths": (1, 2, 1, 1)},
    {"stages": (1, 1, 1, 1)},
    {"layers": (1, 1, 1, 1)},
)
"""Keywords that make a model shallow, tried in this order."""

_SIZE_KEYWORDS = {"timm": "img_size", "vision_transformer": "image_size"}
_BUILD_KEYWORDS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


@dataclass(frozen=True)
class Candidate:
    """A model of a library; ``family`` is the module that defines it."""

    library: str
    name: str
    family: str

    @property
    def key(self) -> str:
        """Its name in the log."""
        return f"{self.library}:{self.name}"


@dataclass(frozen=True)
class Plan:
    """How to build a candidate: ``size`` for its constructor, depth; and what comes of it.

    ``shape`` is that of its input [channels, height, width].
    """

    size: int | None
    shape: tuple[int, int, int]
    parameters: int
    keywords: dict[str, Any] = field(default_factory=dict)
    trimmed: bool = False

    @property
    def twin(self) -> str:
        """The depth reduction as text, empty for the full model."""
        return "trimmed" if self.trimmed else ", ".join(f"{k}={v}" for k, v in self.keywords.items())


class Unmeasured(Exception):
    """It cannot be said whether this network is faithful."""


def candidates() -> list[Candidate]:
    """Return all models of timm, and torchvision's classifiers, segmentation models and detection backbones."""
    modules = libraries.timm().models._registry._model_to_module
    found = [Candidate("timm", name, modules[name]) for name in libraries.timm().list_models()]
    models = libraries.torchvision().models
    for module in (models, models.segmentation, models.detection):
        for name in models.list_models(module=module):
            family = models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
            found.append(Candidate("torchvision", name, family))
    return found


def build(
    candidate: Candidate, size: int | None, keywords: Mapping[str, Any] = NOTHING, *, trimmed: bool = False
) -> nn.Module:
    """Return the model with random weights, in evaluation mode, for ``size`` where its constructor takes one."""
    keyword = _SIZE_KEYWORDS.get(candidate.library) or _SIZE_KEYWORDS.get(candidate.family)
    try:
        model = _construct(candidate, {**keywords, keyword: size} if keyword and size else dict(keywords))
    except TypeError:
        if not keyword or not size:
            raise
        model = _construct(candidate, dict(keywords))
    if trimmed:
        trim(model)
    return model.eval().requires_grad_(False)


def _construct(candidate: Candidate, keywords: dict[str, Any]) -> nn.Module:
    if candidate.library == "timm":
        model: nn.Module = libraries.timm().create_model(candidate.name, pretrained=False, **keywords)
        return model
    keywords = keywords | _BUILD_KEYWORDS.get(candidate.name, {})
    part = candidate.family.partition(".")[0]
    if part in ("segmentation", "detection"):
        keywords = keywords | {"weights_backbone": None}
    model = libraries.torchvision().models.get_model(candidate.name, weights=None, **keywords)
    backbone = model.backbone if part == "detection" else model
    assert isinstance(backbone, nn.Module)
    return backbone


def build_on_meta(
    candidate: Candidate, size: int | None, keywords: Mapping[str, Any] = NOTHING, *, trimmed: bool = False
) -> nn.Module:
    """Return the model without storage for its weights; a constructor that computes numbers runs for real first."""
    try:
        with torch.device("meta"):
            return build(candidate, size, keywords, trimmed=trimmed)
    except NotImplementedError:
        return build(candidate, size, keywords, trimmed=trimmed).to("meta")


def trim(model: nn.Module) -> None:
    """Keep two of each run of equally shaped blocks: two, since every other one may be shifted or strided."""
    for module in list(model.modules()):
        blocks = list(module.named_children())
        if not isinstance(module, nn.Sequential | nn.ModuleList) and len({type(block) for _, block in blocks}) > 1:
            continue  # not a chain of blocks
        shapes = [(type(block), [p.shape for p in block.parameters()]) for _, block in blocks]
        for i in reversed(range(2, len(shapes))):
            if shapes[i][1] and shapes[i] == shapes[i - 1] == shapes[i - 2]:
                if isinstance(module, nn.Sequential | nn.ModuleList):
                    del module[i]
                else:
                    delattr(module, blocks[i][0])


def parameters(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(p.numel() for p in model.parameters())


def shallow(candidate: Candidate, full: Plan) -> Plan:
    """Return the first twin of at most `LARGE` parameters, else the smallest version, which may be the full model.

    Raises:
        Unmeasured: no version has at most `LARGEST` parameters.
    """
    versions = [full]
    for twin in _twins(candidate, full):
        if twin.parameters <= LARGE:
            return twin
        versions.append(twin)
    smallest = min(versions, key=lambda version: version.parameters)
    if smallest.parameters > LARGEST:
        raise Unmeasured(f"no twin: {smallest.parameters:,} parameters in the smallest version")
    return smallest


def _twins(candidate: Candidate, full: Plan) -> Iterator[Plan]:
    ways: list[tuple[Mapping[str, Any], bool]] = [(keywords, False) for keywords in TWINS]
    if full.parameters <= TRIMMABLE:
        ways.append((NOTHING, True))
    for keywords, trimmed in ways:
        try:
            build_on_meta(candidate, full.size, keywords, trimmed=trimmed)
            twin = probe(candidate, keywords, trimmed=trimmed)
        except Exception:  # not an argument of this constructor, or not one that it can run with
            continue
        yield twin


def probe(candidate: Candidate, keywords: Mapping[str, Any] = NOTHING, *, trimmed: bool = False) -> Plan:
    """Return the plan of the smallest size at which the plain network runs on two images, without weights if it can.

    Raises:
        RuntimeError: there is none.
    """
    problem = Exception()
    for device in ("meta", "cpu"):
        for size in (*SIZES, None):
            try:
                model = build_on_meta(candidate, size, keywords, trimmed=trimmed)
                weight, shape = parameters(model), input_shape(model, size)
                if device == "cpu" and weight <= LARGE:
                    model = build(candidate, size, keywords, trimmed=trimmed)
                with torch.no_grad():
                    model(torch.zeros(2, *shape, device=next(model.parameters()).device))
            except Exception as error:
                problem = error
            else:
                return Plan(size, shape, weight, dict(keywords), trimmed)
    message = next(iter(str(problem).splitlines()), "")
    raise RuntimeError(f"runs at no size ({type(problem).__name__}: {message})") from problem


def input_shape(model: nn.Module, size: int | None) -> tuple[int, int, int]:
    """Return [channels, height, width] for ``size``, or of the size that the library lists."""
    channels, *own = getattr(model, "pretrained_cfg", {}).get("input_size") or (3, 224, 224)
    height, width = (size, size) if size else own
    return channels, height, width


def images(count: int, shape: tuple[int, int, int], seed: int) -> Tensor:
    """Return images [count, channels, height, width] that differ: plain noise looks the same to a deep network.

    Each has a colour, coarse structure and fine noise, at a contrast of its own.
    """
    channels, height, width = shape
    generator = torch.Generator().manual_seed(seed)
    colour = torch.randn(count, channels, 1, 1, generator=generator)
    coarse = torch.randn(count, channels, 4, 4, generator=generator)
    fine = 0.3 * torch.randn(count, channels, height, width, generator=generator)
    contrast = 0.5 + torch.rand(count, 1, 1, 1, generator=generator)
    return contrast * (colour + F.interpolate(coarse, (height, width), mode="bilinear") + fine)


@torch.no_grad()
def redraw(model: nn.Module) -> None:
    """Draw anew, from torch's generator, what initialisation left constant near zero, or too small to matter."""
    modules = list(model.modules())
    shifts = {id(m.bias) for m in modules if isinstance(m, _BatchNorm | nn.GroupNorm)}
    for name, p in model.named_parameters():
        if not p.is_floating_point() or not p.numel() or bool((p != p.flatten()[0]).any()) or abs(p.flatten()[0]) > 0.1:
            continue
        if p.ndim >= 2:
            p.normal_(0, _scale(p))
        elif id(p) in shifts:
            p.normal_(1, 0.5)
        elif name.endswith("bias"):
            p.normal_(0, 0.02)
        else:
            p.normal_(0.5, 0.1)
    for module in modules:
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and isinstance(module.weight, nn.Parameter):
            weight = module.weight
            if float(weight.std(correction=0)) < 0.5 * _scale(weight):
                weight.normal_(0, _scale(weight))


def _scale(weight: Tensor) -> float:
    """Return the deviation of ``weight`` [out, ...] that keeps the variance of a signal: 1 / sqrt(fan in)."""
    return 1 / math.sqrt(weight[0].numel())


@torch.no_grad()
def set_statistics(model: nn.Module, batch: Tensor) -> None:
    """Set the statistics of every batch norm to those of ``batch``, each as the ones before leave it."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        model(batch)
    model.eval()


def outputs(output: Any) -> Tensor:
    """Return all tensors of ``output``, [images, values]."""
    return torch.cat([leaf.flatten(1) for leaf in tree_leaves(output)], 1)

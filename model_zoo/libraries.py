"""torchvision and timm, imported late: neither is needed to load an artefact, and both take a second."""

import importlib
import warnings
from functools import cache
from types import ModuleType

import torch

from snnconvert.converter.errors import SnnconvertError

_DETECTION_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def torchvision() -> ModuleType:
    """Return torchvision, also where its compiled operations were built for another torch.

    A wheel built for CUDA does not import beside a CPU-only torch because the operators of object detection are
    undefined. No classifier calls them, so a declaration without implementation is enough.

    Raises:
        SnnconvertError: torchvision is missing or broken for another reason.
    """
    try:
        return _import("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise _unusable("torchvision", error) from error
    _declare_detection_operators()
    try:
        return _import("torchvision")
    except Exception as error:
        raise _unusable("torchvision", error) from error


@cache
def timm() -> ModuleType:
    """Return timm.

    Raises:
        SnnconvertError: timm, or the torchvision it needs, is missing or broken.
    """
    torchvision()
    try:
        return _import("timm")
    except Exception as error:
        raise _unusable("timm", error) from error


def _import(name: str) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except ImportError as error:
            raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> SnnconvertError:
    return SnnconvertError(
        f"{name} cannot be imported ({type(error).__name__}: {error})",
        f"install a {name} that fits torch {torch.__version__}: pip install --upgrade {name}",
    )


@cache
def _declare_detection_operators() -> torch.library.Library:
    """Declare the operators that torchvision looks up when it is imported; the cache keeps the declaration alive."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + _DETECTION_SCHEMA)
    return library

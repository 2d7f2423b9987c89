"""What a network expects of an image: its size, and the mean and deviation it was normalised with."""

import math
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from snnconvert.converter.errors import ArtefactRefused, DataRefused, UsageError

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Bytes to network input: ``y = (x / 255 - mean) / std`` per channel, resized and cropped where needed.

    Args:
        size: channels, height and width of the network's input.
        mean: one number per channel, on the scale 0 to 1.
        std: one positive number per channel, on the scale 0 to 1.
        resize: short side in pixels before the centre crop; None where only images of ``size`` are taken.
        interpolation: one of ``INTERPOLATIONS``, with antialiasing.

    Raises:
        UsageError: a number that no network could expect.
    """

    size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Refuse values that would only fail later, or not at all."""
        if not isinstance(self.size, tuple) or len(self.size) != 3 or not all(map(_is_whole, self.size)):
            raise _bad("size", "three positive whole numbers (channels, height, width)", self.size)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not isinstance(values, tuple) or len(values) != self.size[0] or not all(map(_is_number, values)):
                raise _bad(name, f"{self.size[0]} finite numbers, one per channel", values)
        if min(self.std) <= 0:
            raise _bad("std", "numbers above 0", self.std)
        if self.resize is not None and not _is_whole(self.resize):
            raise _bad("resize", "a positive whole number or none", self.resize)
        if self.interpolation not in INTERPOLATIONS:
            raise _bad("interpolation", " or ".join(INTERPOLATIONS), self.interpolation)

    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 [B, C, H, W] for bytes ``images`` [B, C, H', W'], on their device and the same bits on each.

        Raises:
            DataRefused: the images are not bytes of C channels, or have another size and ``resize`` is None.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != self.size[0]:
            raise DataRefused(
                f"expected uint8 images [B, {self.size[0]}, H, W], got {images.dtype} {list(images.shape)}"
            )
        scale, mean, std = (_channels(values, images.device) for values in ((255.0,), self.mean, self.std))
        return self.fit(images).float().div_(scale).sub_(mean).div_(std)

    def fit(self, images: Tensor) -> Tensor:
        """Return bytes [B, C, H, W]: images of another size are resized, then cropped or zero-padded at the centre.

        Raises:
            DataRefused: the images have another size and ``resize`` is None.
        """
        height, width = images.shape[2:]
        if (height, width) == self.size[1:]:
            return images
        if self.resize is None:
            raise DataRefused(
                f"expected images of {self.size[1]}x{self.size[2]} pixels, got {height}x{width}",
                "state the short side to resize to, for example "
                f"--resize {max(self.size[1:])}, or use a data set of the network's size",
            )
        short = min(height, width)
        resized = (self.resize * height // short, self.resize * width // short)
        return _centre_crop(_resample(images, resized, self.interpolation), self.size[1], self.size[2])

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, document: Any) -> "Preprocessing":
        """Return what :meth:`to_json` wrote.

        Raises:
            ArtefactRefused: a field is missing, unknown or has a value that no network could expect.
        """
        expected = {field.name for field in fields(cls)}
        if not isinstance(document, dict) or set(document) != expected:
            got = sorted(map(str, document)) if isinstance(document, dict) else type(document).__name__
            raise ArtefactRefused(f"preprocessing: expected the fields {sorted(expected)}, got {got}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
        }
        try:
            return cls(**values)
        except UsageError as error:
            raise ArtefactRefused(error.message, error.hint) from error

    def describe(self) -> str:
        """Return one line for people: size, mean, deviation and resizing."""
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        resized = f", short side to {self.resize} ({self.interpolation}), centre crop" if self.resize else ""
        return f"{'x'.join(map(str, self.size))}, mean ({mean}), std ({std}){resized}"


def from_timm(config: dict[str, Any]) -> Preprocessing:
    """Return the preprocessing of a timm data configuration (``timm.data.resolve_data_config``).

    timm scales to ``floor(size / crop_pct)`` before its centre crop.
    """
    channels, height, width = config["input_size"]
    interpolation = config["interpolation"] if config["interpolation"] in INTERPOLATIONS else "bicubic"
    resize = math.floor(max(height, width) / config["crop_pct"])
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return Preprocessing((channels, height, width), mean, std, resize, interpolation)


def from_torchvision(transforms: Any) -> Preprocessing:
    """Return the preprocessing of the ``transforms()`` of torchvision's classification weights."""
    crop, resize = transforms.crop_size[0], transforms.resize_size[0]
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    return Preprocessing((len(mean), crop, crop), mean, std, resize, transforms.interpolation.value)


@lru_cache(maxsize=64)  # a copy to CUDA would make each batch wait for the one before
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return float32 [C, 1, 1]; a tensor even of one value, because CUDA divides by a number inexactly."""
    return torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]


def _bad(name: str, expected: str, got: object) -> UsageError:
    return UsageError(f"preprocessing: {name} must be {expected}, got {got!r}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _resample(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    if interpolation == "nearest":
        return F.interpolate(images, size, mode="nearest-exact")
    return F.interpolate(images, size, mode=interpolation, antialias=True)  # in bytes, as Pillow does


def _centre_crop(images: Tensor, height: int, width: int) -> Tensor:
    missing = [max(0, side - got) for side, got in zip((height, width), images.shape[2:], strict=True)]
    if any(missing):
        left, top = missing[1] // 2, missing[0] // 2
        images = F.pad(images, (left, missing[1] - left, top, missing[0] - top))
    top = round((images.shape[2] - height) / 2)
    left = round((images.shape[3] - width) / 2)
    return images[:, :, top : top + height, left : left + width]

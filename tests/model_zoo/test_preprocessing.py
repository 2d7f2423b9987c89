from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from snnconvert.converter.errors import ArtefactRefused, DataRefused, UsageError
from snnconvert.model_zoo.libraries import timm, torchvision
from snnconvert.model_zoo.preprocessing import Preprocessing, from_timm, from_torchvision

CIFAR = Preprocessing((3, 32, 32), (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def image(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Smooth colours with some noise, as photographs have."""
    rows, columns = np.mgrid[:height, :width]
    noise = np.random.default_rng(0).normal(0, 10, (height, width, 3))
    waves = np.stack([np.sin(rows / 9), np.cos(columns / 7), np.sin((rows + columns) / 11)], -1)
    return np.clip(127 + 100 * waves + noise, 0, 255).astype(np.uint8)


def test_normalises_each_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), np.uint8)
    expected = (pixels / 255 - np.array([0.4, 0.5, 0.6])[:, None, None]) / np.array([0.1, 0.2, 0.3])[:, None, None]
    result = CIFAR(torch.from_numpy(pixels))
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)


def test_normalises_every_byte_to_the_bits_of_float32_arithmetic() -> None:
    """IEEE 754 leaves no choice: numpy's float32 division and subtraction say what is right."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    bytes_ = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16), (1, 3, 16, 16))
    columns = [np.array(values, np.float32)[:, None, None] for values in (mean, std)]
    expected = (bytes_.astype(np.float32) / np.float32(255) - columns[0]) / columns[1]
    result = Preprocessing((3, 16, 16), mean, std)(torch.from_numpy(bytes_.copy()))
    np.testing.assert_array_equal(result.numpy(), expected)


def test_normalises_where_the_images_are() -> None:
    result = CIFAR(torch.empty(2, 3, 32, 32, dtype=torch.uint8, device="meta"))
    assert (result.device.type, result.dtype, result.shape) == ("meta", torch.float32, (2, 3, 32, 32))


@pytest.mark.parametrize("shape", [(300, 260), (260, 301), (227, 227), (100, 150)])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_resizes_as_torchvision_does(name: str, shape: tuple[int, int]) -> None:
    transforms = torchvision().models.get_model_weights(name).DEFAULT.transforms()
    picture = image(*shape)
    expected = transforms(Image.fromarray(picture))
    result = from_torchvision(transforms)(torch.from_numpy(picture).permute(2, 0, 1)[None])[0]
    assert result.shape == expected.shape
    levels = (result - expected).abs() * 0.229 * 255
    assert levels.max() < 2.5
    assert levels.mean() < 0.02


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "volo_d4_448"])
def test_resizes_as_timm_does(name: str) -> None:
    library = timm()
    config = library.data.resolve_data_config(pretrained_cfg=library.get_pretrained_cfg(name).to_dict())
    picture = image(500, 600)
    expected = library.data.create_transform(**config)(Image.fromarray(picture))
    result = from_timm(config)(torch.from_numpy(picture).permute(2, 0, 1)[None])[0]
    assert result.shape == expected.shape
    levels = (result - expected).abs() * config["std"][0] * 255
    assert levels.max() < 2.5
    assert levels.mean() < 0.02


def test_reads_the_metadata_of_both_libraries() -> None:
    weights = torchvision().models.ResNet50_Weights.IMAGENET1K_V1
    assert from_torchvision(weights.transforms()) == Preprocessing(
        (3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 256, "bilinear"
    )
    config = {"input_size": (3, 288, 288), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_pct": 0.95}
    assert from_timm(config | {"interpolation": "bicubic"}) == Preprocessing(
        (3, 288, 288), (0.5,) * 3, (0.5,) * 3, 303, "bicubic"
    )


def test_an_image_smaller_than_the_crop_is_padded_with_black() -> None:
    result = Preprocessing((1, 6, 6), (0.0,), (1.0,), 4, "nearest")(torch.full((1, 1, 8, 8), 255, dtype=torch.uint8))
    expected = torch.zeros(6, 6)
    expected[1:5, 1:5] = 1
    assert torch.equal(result[0, 0], expected)


def test_survives_json() -> None:
    for original in (CIFAR, replace(CIFAR, resize=40, interpolation="bicubic")):
        assert Preprocessing.from_json(original.to_json()) == original


def test_describes_itself_in_one_line() -> None:
    assert replace(CIFAR, resize=40).describe() == (
        "3x32x32, mean (0.4, 0.5, 0.6), std (0.1, 0.2, 0.3), short side to 40 (bilinear), centre crop"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (3, 32)}, "size must be three positive whole numbers"),
        ({"size": (3, 0, 32)}, "size must be"),
        ({"mean": (0.5,)}, "mean must be 3 finite numbers, one per channel"),
        ({"mean": (0.5, 0.5, float("nan"))}, "mean must be"),
        ({"std": (0.1, 0.0, 0.1)}, "std must be numbers above 0"),
        ({"resize": 0}, "resize must be a positive whole number"),
        ({"interpolation": "cubic"}, "interpolation must be nearest or bilinear or bicubic, got 'cubic'"),
    ],
)
def test_refuses_values_that_no_network_expects(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(CIFAR, **change)
    document = CIFAR.to_json() | {key: list(v) if isinstance(v, tuple) else v for key, v in change.items()}
    with pytest.raises(ArtefactRefused, match=message):
        Preprocessing.from_json(document)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "expected the fields .* got NoneType"),
        ({"size": [3, 32, 32]}, "expected the fields"),
        (CIFAR.to_json() | {"colour": "bgr"}, "colour"),
        (CIFAR.to_json() | {"mean": 0.5}, "mean must be 3 finite numbers, one per channel, got 0.5"),
        (CIFAR.to_json() | {"size": "3x32x32"}, "size must be three"),
        (CIFAR.to_json() | {"interpolation": [1]}, "interpolation must be"),
    ],
)
def test_refuses_foreign_json(document: Any, message: str) -> None:
    with pytest.raises(ArtefactRefused, match=message):
        Preprocessing.from_json(document)


def test_refuses_other_images() -> None:
    with pytest.raises(DataRefused, match=r"expected uint8 images \[B, 3, H, W\], got torch.float32"):
        CIFAR(torch.zeros(1, 3, 32, 32))
    with pytest.raises(DataRefused, match=r"got torch.uint8 \[1, 1, 32, 32\]"):
        CIFAR(torch.zeros(1, 1, 32, 32, dtype=torch.uint8))
    with pytest.raises(DataRefused, match="expected images of 32x32 pixels, got 28x30"):
        CIFAR(torch.zeros(1, 3, 28, 30, dtype=torch.uint8))

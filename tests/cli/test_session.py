from typing import Any

import pytest
import torch

from snnconvert.cli.session import compute_device, corrected
from snnconvert.converter.errors import UsageError
from snnconvert.model_zoo import Preprocessing

IMAGENET = Preprocessing((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resize=256)
SILENT: dict[str, Any] = {"size": None, "resize": None, "mean": None, "std": None}


def test_no_flag_changes_nothing() -> None:
    assert corrected(IMAGENET, **SILENT) == IMAGENET


def test_a_size_keeps_the_share_of_the_crop() -> None:
    found = corrected(IMAGENET, size="3x160x160", resize=None, mean=None, std=None)
    assert (found.size, found.resize) == ((3, 160, 160), 183)  # 256 / 224 * 160 = 182.9
    assert corrected(IMAGENET, size="3x160x160", resize=160, mean=None, std=None).resize == 160


def test_mean_and_std_are_one_number_per_channel() -> None:
    found = corrected(IMAGENET, size="1x28x28", resize=None, mean="0.5", std="0.25")
    assert (found.mean, found.std) == ((0.5,), (0.25,))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"size": "32"}, "size must be three positive whole numbers"),
        ({"size": "3x0x32"}, "size must be three positive whole numbers"),
        ({"size": "3xAx32"}, "expected --size CxHxW, for example 3x32x32; got '3xAx32'"),
        ({"mean": "0.5,0.5"}, "mean must be 3 finite numbers"),
        ({"std": "0.5;0.5"}, "expected --std one number per channel"),
        ({"std": "1,0,1"}, "std must be numbers above 0"),
        ({"size": "1x28x28"}, "mean must be 1 finite numbers"),
    ],
)
def test_flags_that_no_image_fits(flags: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        corrected(IMAGENET, **SILENT | flags)


def test_the_cpu_is_always_there() -> None:
    assert compute_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "mps"])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(UsageError, match=f"expected --device cpu, cuda or cuda:N, got '{name}'"):
        compute_device(name)


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert compute_device("cuda") == torch.device("cuda")
    with pytest.raises(UsageError, match="--device cuda:1: torch sees 1 CUDA devices"):
        compute_device("cuda:1")


def test_processes_on_one_machine_have_a_cuda_device_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": 3, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "MASTER_PORT": 1, "MASTER_ADDR": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert compute_device("cuda") == torch.device("cuda:1")
    assert compute_device("cuda:0") == torch.device("cuda:0")
    assert compute_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="--device cuda:1: torch sees 1 CUDA devices"):
        compute_device("cuda")

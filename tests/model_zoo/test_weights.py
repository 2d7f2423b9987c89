from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.model_zoo.weights import Checkpoint, read_weights, without_training_heads

Save = Callable[..., Path]
STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2)}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in STATE.items()}


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (STATE, ()),
        (nn.ParameterDict({"a": torch.ones(2)}).state_dict(), ()),
        ({"state_dict": STATE, "epoch": 3, "optimizer": {"state": {}}}, ("weights under 'state_dict'",)),
        ({"model": STATE, "epoch": 3}, ("weights under 'model'",)),
        ({"model_state_dict": STATE}, ("weights under 'model_state_dict'",)),
        ({"best_network": STATE, "epoch": 3}, ("weights under 'best_network'",)),
        ({"model": {"state_dict": STATE}, "args": 1}, ("weights under 'model'", "weights under 'state_dict'")),
        ({"state_dict": STATE, "state_dict_ema": STATE}, ("weights under 'state_dict', not 'state_dict_ema'",)),
        (prefixed("module."), ("prefix 'module.' removed",)),
        (prefixed("_orig_mod.module."), ("prefix '_orig_mod.' removed", "prefix 'module.' removed")),
    ],
)
def test_removes_what_training_wrapped_around_the_weights(saved: Save, content: Any, notes: tuple[str, ...]) -> None:
    checkpoint = read_weights(saved(content))
    assert checkpoint.notes == notes
    expected = STATE if "a.bias" in str(content) else content
    assert {key: value.tolist() for key, value in checkpoint.state.items()} == {
        key: value.tolist() for key, value in expected.items()
    }


def test_a_prefix_that_only_some_tensors_have_is_part_of_their_names(saved: Save) -> None:
    content = {"module.a": torch.ones(1), "head": torch.ones(1)}
    assert set(read_weights(saved(content)).state) == set(content)


def test_reads_safetensors(tmp_path: Path) -> None:
    save_file(prefixed("module."), tmp_path / "a.safetensors")
    checkpoint = read_weights(tmp_path / "a.safetensors")
    assert checkpoint.state["a.weight"].tolist() == STATE["a.weight"].tolist()


def test_leaves_out_the_heads_that_only_training_uses() -> None:
    checkpoint = without_training_heads(Checkpoint(STATE | {"aux1.fc1.weight": torch.ones(1)}))
    assert set(checkpoint.state) == set(STATE)
    assert checkpoint.notes == ("1 tensors of heads that only training uses left out",)
    assert without_training_heads(Checkpoint(STATE)).notes == ()


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ([1, 2], "a list"),
        (torch.ones(2), "a Tensor"),
        ({}, "a dictionary with no entries"),
        ({"epoch": 3, "weight": torch.ones(1)}, "a dictionary with 'epoch': int"),
        ({"encoder": STATE, "decoder": STATE}, "a dictionary with 'encoder': dict, 'decoder': dict"),
    ],
)
def test_refuses_content_without_tensors_by_name(saved: Save, content: Any, got: str) -> None:
    with pytest.raises(ModelRefused, match=rf"expected tensors by name \(a state_dict\), got {got}"):
        read_weights(saved(content))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_refuses_numbers_that_are_not_finite(saved: Save, value: float, dtype: torch.dtype) -> None:
    state = STATE | {"b": torch.tensor([1.0, value], dtype=dtype)}
    with pytest.raises(ModelRefused, match=r"1 of 3 tensors hold NaN or infinite numbers: b"):
        read_weights(saved(state))


def test_refuses_paths_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "empty.pt").touch()
    for name, message in (("absent.pt", "does not exist"), ("empty.pt", "is empty"), ("", "is a folder")):
        with pytest.raises(ModelRefused, match=message):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
def test_refuses_truncated_safetensors(tmp_path: Path, part: float) -> None:
    path = tmp_path / "a.safetensors"
    save_file(STATE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ModelRefused, match="not a complete safetensors file"):
        read_weights(path)


def test_a_trusted_pickle_may_hold_the_network_itself(saved: Save) -> None:
    path = saved({"model": nn.Linear(3, 2), "epoch": 1})
    with pytest.raises(ModelRefused, match=r"needs code \(torch.nn.modules.linear.Linear\)"):
        read_weights(path)
    checkpoint = read_weights(path, trust=True)
    assert isinstance(checkpoint.module, nn.Linear)
    assert not checkpoint.module.training
    assert checkpoint.notes == ("weights under 'model'", "a pickled network, used as it is (trusted)")


def test_a_trusted_network_is_checked_too(saved: Save) -> None:
    broken = nn.Linear(3, 2)
    nn.init.constant_(broken.bias, float("nan"))
    with pytest.raises(ModelRefused, match="NaN or infinite numbers: bias"):
        read_weights(saved(broken), trust=True)

"""What a checkpoint holds, and what two of them differ in."""

from pathlib import Path

import pytest
import torch

from snnconvert.converter.errors import ArtefactRefused
from snnconvert.converter.tensor_file import write_tensors
from snnconvert.model_zoo.baselines.checkpoint import difference, read_checkpoint, under, write_checkpoint


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a", {"network.w": torch.arange(3.0)}, {"history": [{"loss": 0.5}]})
    tensors, document = read_checkpoint(tmp_path / "a")
    assert tensors["network.w"].tolist() == [0, 1, 2]
    assert document["history"] == [{"loss": 0.5}]


def test_another_file_is_no_checkpoint(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"w": torch.zeros(1)}, "something", {"format": 1})
    with pytest.raises(ArtefactRefused, match="checkpoint"):
        read_checkpoint(tmp_path / "a")


def test_tensors_are_told_apart_by_the_start_of_their_names() -> None:
    one, other = torch.zeros(1), torch.ones(1)
    assert under("network.", {"network.a.b": one, "momentum.0": other}) == {"a.b": one}


def test_differences_are_named_with_both_values_at_any_depth() -> None:
    was = {"method": "lif", "plan": {"epochs": 3, "rate": 0.1}, "batches": 2}
    now = {"method": "lif", "plan": {"epochs": 4, "rate": 0.1}, "batches": 5}
    assert difference(was, now) == "epochs was 3, is 4, batches was 2, is 5"
    assert difference(was, was) == ""

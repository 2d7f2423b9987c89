"""Files of tensors and one document: all or nothing, and nothing that changed on the way."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from snnconvert.converter import tensor_file
from snnconvert.converter.errors import ArtefactRefused, UsageError
from snnconvert.converter.tensor_file import read_tensors, write_tensors

TENSORS = {
    "single": torch.linspace(-1, 1, 7),
    "double": torch.tensor([[0.1, 1e300]], dtype=torch.float64),
    "half": torch.tensor([1.5, -2.5], dtype=torch.bfloat16),
    "whole": torch.arange(5),
    "scalar": torch.tensor(3.25),
    "none": torch.zeros(0, 3),
}
DOCUMENT = {"format": 1, "number": 0.1, "text": "θ", "list": [1, [2.5, None, True]]}


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return read_tensors(path, "key", 1, ".x")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "a.x", TENSORS, "key", DOCUMENT)
    return tmp_path / "a.x"


def test_what_is_written_is_read(path: Path) -> None:
    tensors, document = read(path)
    assert document == DOCUMENT
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


def test_views_of_one_storage_are_stored_apart(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(1, 2, 3, 4)
    views = {
        "a": base,
        "b": base,
        "t": base.transpose(1, 2),
        "part": base[..., 1:3],
        "expanded": base[:, :, :1].expand_as(base),
    }
    views["last"] = base.to(memory_format=torch.channels_last)
    write_tensors(tmp_path / "a.x", views, "key", DOCUMENT)
    tensors, _ = read(tmp_path / "a.x")
    assert all(torch.equal(tensors[name], view) for name, view in views.items())


def test_every_truncation_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 23)):
        path.write_bytes(whole[:size])
        with pytest.raises(ArtefactRefused, match=r"is not a \.x file, or is truncated"):
            read(path)


def test_every_flipped_byte_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ArtefactRefused, match=r"a\.x"):
            read(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\xff" * 100, b"PK\3\4 something", b"[]" * 50])
def test_foreign_bytes_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ArtefactRefused, match=r"is not a \.x file"):
        read(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, r"is a safetensors file, but not a \.x file"),
        ({"other": "{}"}, r"is a safetensors file, but not a \.x file"),
        ({"key": "{"}, "header cannot be read"),
        ({"key": "[" * 100_000}, "header cannot be read"),
        ({"key": "[]"}, "header cannot be read"),
        ({"key": "{}"}, "header cannot be read"),
        ({"key": '{"format": 2}'}, "has format 2, this version of snnconvert reads up to 1\nhint: upgrade"),
        ({"key": '{"format": "1"}'}, "has format 1"),
        ({"key": '{"format": true}'}, "has format True"),
        ({"key": '{"format": 0}'}, "has format 0"),
        ({"key": '{"format": 1}'}, "content is not what was written"),
    ],
)
def test_headers_that_are_not_ours_are_refused(path: Path, header: dict[str, str] | None, message: str) -> None:
    save_file({"a": torch.ones(2)}, path, header)
    with pytest.raises(ArtefactRefused, match=message):
        read(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactRefused, match=r"none\.x does not exist, expected a \.x file"):
        read(tmp_path / "none.x")
    with pytest.raises(ArtefactRefused, match="is a folder"):
        read(tmp_path)


def test_a_file_that_may_not_be_read_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tensor_file, "safe_open", refuse)
    with pytest.raises(ArtefactRefused, match=r"cannot read .*a\.x: Permission denied"):
        read(path)


@pytest.mark.parametrize("broken", ["replace", "save_file"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), SafetensorError("No space left")])
def test_a_write_that_fails_leaves_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, error: Exception
) -> None:
    def fail(*words: object) -> None:
        raise error

    monkeypatch.setattr(*((os, "replace") if broken == "replace" else (tensor_file, "save_file")), fail)
    before = path.read_bytes()
    with pytest.raises(ArtefactRefused, match=r"cannot write .*a\.x: No space left"):
        write_tensors(path, {"a": torch.zeros(3)}, "key", DOCUMENT)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        write_tensors(path, {"a": torch.zeros(3)}, "key", DOCUMENT)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_places_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "none" / "a.x", tmp_path / "file" / "a.x", tmp_path / ("a" * 300)):
        with pytest.raises(ArtefactRefused, match="cannot write"):
            write_tensors(place, TENSORS, "key", DOCUMENT)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Path("a"), torch.ones(2), {1, 2}])
def test_documents_that_json_cannot_hold_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(UsageError, match="numbers, texts, lists"):
        write_tensors(tmp_path / "a.x", TENSORS, "key", {"format": 1, "value": value})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_of_a_file_follows_the_umask(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "a.x", TENSORS, "key", DOCUMENT)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.x").stat().st_mode) == mode


def test_the_document_is_json_in_the_header(path: Path) -> None:
    size = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + size])
    assert json.loads(header["__metadata__"]["key"]) == DOCUMENT

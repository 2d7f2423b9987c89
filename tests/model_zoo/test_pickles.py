import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from snnconvert.converter.errors import ModelRefused
from snnconvert.model_zoo.pickles import read_pickle

Save = Callable[..., Path]
STATE = {"weight": torch.arange(4000.0)}


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("zipped", [True, False])
def test_reads_both_formats_of_torch(tmp_path: Path, zipped: bool) -> None:
    torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    assert read_pickle(tmp_path / "a.pt", trust=False)["weight"].tolist() == STATE["weight"].tolist()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.99])
def test_refuses_truncated_files(tmp_path: Path, zipped: bool, part: float) -> None:
    path = tmp_path / "a.pt"
    torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ModelRefused, match="is truncated or damaged"):
        read_pickle(path, trust=False)


def test_code_in_a_pickle_is_named_and_not_run(saved: Save, tmp_path: Path) -> None:
    mark = tmp_path / "it-ran"
    path = saved({"weight": Bomb(mark)})
    with pytest.raises(ModelRefused, match=r"(?s)needs code \(\w+\.mkdir\), not a plain state_dict.*--trust"):
        read_pickle(path, trust=False)
    assert not mark.exists()
    read_pickle(path, trust=True)
    assert mark.exists()


def test_refuses_a_pickle_that_torch_did_not_write(tmp_path: Path) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({"weight": Bomb(tmp_path / "it-ran")}))
    with pytest.raises(ModelRefused, match="a pickle of more than tensors, not a plain state_dict"):
        read_pickle(tmp_path / "a.pt", trust=False)
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("content", [b"hello, this is text", b"\x89PNG\r\n\x1a\n", b"\0" * 100])
def test_refuses_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ModelRefused, match="is not a PyTorch checkpoint: it starts with"):
        read_pickle(tmp_path / "a.pt", trust=False)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (("a/data.pkl", "a/constants.pkl", "a/code/__torch__.py"), "is a TorchScript archive"),
        (("a/archive_format", "a/models/model.json"), r"is an exported program \(torch.export\)"),
        (("photo.jpg",), "is a zip archive without a checkpoint"),
    ],
)
def test_refuses_other_archives_by_name(tmp_path: Path, members: tuple[str, ...], message: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for member in members:
            archive.writestr(member, b"")
    with pytest.raises(ModelRefused, match=message):
        read_pickle(tmp_path / "a.pt", trust=True)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_knows_what_torch_itself_writes_for_torchscript(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "a.pt")
    with pytest.raises(ModelRefused, match="is a TorchScript archive"):
        read_pickle(tmp_path / "a.pt", trust=False)


def test_code_that_is_gone_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vanishing_nets.py").write_text("class Net:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as context:
        context.syspath_prepend(tmp_path)
        from vanishing_nets import Net  # type: ignore[import-not-found]

        torch.save(Net(), "a.pt")
    sys.modules.pop("vanishing_nets")
    assert type(read_pickle(Path("a.pt"), trust=True)).__name__ == "Net"  # found in the working directory
    sys.modules.pop("vanishing_nets")
    (tmp_path / "vanishing_nets.py").unlink()
    with pytest.raises(ModelRefused, match=r"whose code cannot be imported: No module named 'vanishing_nets'"):
        read_pickle(Path("a.pt"), trust=True)

"""Names of spiking networks that are shipped."""

import subprocess
from pathlib import Path

import pytest

from snnconvert.converter.errors import UsageError
from snnconvert.model_zoo import shipped, spiking, spiking_files


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of four networks."""
    for name in ("fashion-lif-T4", "fashion-mt-lif-T1", "fashion-mt-lif-T2", "cifar10-lif-T4"):
        (tmp_path / f"{name}.snn").touch()
    (tmp_path / "fashion-resnet8.safetensors").touch()
    monkeypatch.setattr(spiking, "DATA", tmp_path)
    return tmp_path


def test_what_is_shipped(zoo: Path) -> None:
    assert shipped() == {p.stem: p for p in sorted(zoo.glob("*.snn"))}
    assert len(shipped()) == 4


@pytest.mark.parametrize(
    ("word", "data", "names"),
    [
        ("zoo:fashion-mt-lif-T2", "", ["fashion-mt-lif-T2"]),
        ("zoo:fashion-mt-lif", "", ["fashion-mt-lif-T1", "fashion-mt-lif-T2"]),
        ("mt-lif", "fashion-mnist-sample", ["fashion-mt-lif-T1", "fashion-mt-lif-T2"]),
        ("lif", "fashion-mnist", ["fashion-lif-T4"]),
        ("lif", "cifar10", ["cifar10-lif-T4"]),
        ("lif-T4", "cifar10", ["cifar10-lif-T4"]),
    ],
)
def test_names(zoo: Path, word: str, data: str, names: list[str]) -> None:
    assert spiking_files(word, data) == [zoo / f"{name}.snn" for name in names]


def test_files_come_first(zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert spiking_files("absent.snn") == [Path("absent.snn")]
    monkeypatch.chdir(tmp_path)
    Path("lif").touch()
    assert spiking_files("lif", "fashion-mnist") == [Path("lif")]


@pytest.mark.parametrize(("word", "data"), [("lif", ""), ("mt-lif", "cifar10"), ("zoo:mt-lif", "fashion-mnist")])
def test_names_that_nothing_has(zoo: Path, word: str, data: str) -> None:
    with pytest.raises(UsageError, match=f"no spiking network is called '{word}'.*zoo:cifar10-lif-T4") as caught:
        spiking_files(word, data)
    assert "snnconvert train" in str(caught.value.hint)


def test_an_empty_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spiking, "DATA", tmp_path)
    with pytest.raises(UsageError, match="one of none, as none is shipped"):
        spiking_files("lif", "fashion-mnist")


def test_every_shipped_network_is_in_the_repository() -> None:
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        pytest.skip("this is no checkout")
    words = ["git", "check-ignore", *(str(Path("model_zoo/data") / path.name) for path in shipped().values())]
    found = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert found.stdout == ""

from pathlib import Path

import pytest

from snnconvert.cli.destination import beside, writable
from snnconvert.converter.errors import ArtefactRefused, Refused, UsageError


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("zoo:fashion-resnet8", "fashion-resnet8-tpp-T8.snn"),
        ("timm:resnet18.a1_in1k", "resnet18.a1_in1k-tpp-T8.snn"),
        ("package.module:factory", "factory-tpp-T8.snn"),
        ("hf-hub:timm/resnet18", "timm-resnet18-tpp-T8.snn"),
    ],
)
def test_a_name_goes_to_the_current_folder(reference: str, expected: str) -> None:
    assert beside(reference, "-tpp-T8.snn") == Path(expected)


def test_a_file_goes_beside_it(tmp_path: Path) -> None:
    (tmp_path / "resnet18.v2.pt").touch()
    assert beside(str(tmp_path / "resnet18.v2.pt"), ".calib") == tmp_path / "resnet18.v2.calib"


def anything(path: Path) -> None:
    pass


def nothing(path: Path) -> None:
    raise ArtefactRefused(f"{path} is not ours")


def test_a_new_file_in_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.snn"
    assert writable(path, force=False, recognise=nothing) == path
    assert path.parent.is_dir()


def test_an_earlier_output_needs_force(tmp_path: Path) -> None:
    path = tmp_path / "x.snn"
    path.touch()
    with pytest.raises(UsageError, match="exists already"):
        writable(path, force=False, recognise=anything)
    assert writable(path, force=True, recognise=anything) == path


def test_anything_else_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("years")
    with pytest.raises(Refused, match="not an earlier output, so it is not overwritten"):
        writable(path, force=True, recognise=nothing)
    assert path.read_text() == "years"


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a file to write, got the folder"):
        writable(tmp_path, force=True, recognise=anything)


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (Path("/proc/a.snn"), tmp_path / "file" / "a.snn"):
        with pytest.raises(UsageError, match="cannot write to") as caught:
            writable(place, force=False, recognise=str, flag="--csv")
        assert caught.value.hint == "state another file with --csv"

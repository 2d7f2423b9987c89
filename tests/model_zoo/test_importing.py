import sys
from pathlib import Path

import pytest

from snnconvert.converter.errors import ModelRefused, UsageError
from snnconvert.model_zoo.importing import import_factory, working_directory_importable


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo_test_nets.py").write_text("def small():\n    return 'made'\n\ndef other():\n    pass\n")
    (tmp_path / "zoo_test_broken.py").write_text("1 / 0\n")
    (tmp_path / "zoo_test_needy.py").write_text("import zoo_test_absent\n")
    return tmp_path


def test_the_working_directory_is_searched_only_inside_the_block(workplace: Path) -> None:
    before = list(sys.path)
    with working_directory_importable():
        assert sys.path == [str(workplace), *before]
    assert sys.path == before


@pytest.mark.usefixtures("workplace")
def test_finds_a_function_in_the_working_directory_and_in_packages() -> None:
    before = list(sys.path)
    assert import_factory("zoo_test_nets:small")() == "made"
    assert import_factory("os.path:join") is __import__("os").path.join
    assert sys.path == before


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("zoo_test_nowhere:f", r"(?s)no module named 'zoo_test_nowhere'.*working directory"),
        ("zoo_test_needy:f", "no module named 'zoo_test_absent'"),
        ("zoo_test_broken:f", "importing zoo_test_broken fails: ZeroDivisionError: division by zero"),
        ("zoo_test_nets:large", r"(?s)zoo_test_nets has no 'large'.*it defines small, other"),
    ],
)
def test_explains_what_is_missing(reference: str, message: str) -> None:
    with pytest.raises(ModelRefused, match=message):
        import_factory(reference)


@pytest.mark.parametrize("reference", ["a.b:c.d", "a b:c", ":c", "a:", "a/b.py:c"])
def test_refuses_other_forms(reference: str) -> None:
    with pytest.raises(UsageError, match=r"expected package\.module:factory"):
        import_factory(reference)

import sys

import pytest

from snnconvert.converter.errors import SnnconvertError
from snnconvert.model_zoo import libraries


def test_both_libraries_import_and_build_a_network() -> None:
    assert libraries.torchvision().models.resnet18(weights=None).fc.out_features == 1000
    assert "resnet18" in libraries.timm().list_models()


@pytest.mark.parametrize("name", ["torchvision", "timm"])
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SnnconvertError, match=rf"(?s){name} cannot be imported.*pip install --upgrade {name}"):
        getattr(libraries, name).__wrapped__()

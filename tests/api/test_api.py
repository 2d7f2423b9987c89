"""The public names, and how the package is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

import snnconvert

ROOT = Path(__file__).parents[2]


def test_the_public_names_are_these() -> None:
    assert snnconvert.__all__ == sorted(snnconvert.__all__)
    assert set(snnconvert.__all__) == {
        "__version__",
        "activation",
        "calibrate",
        "check",
        "convert",
        "evaluate",
        "load",
        "load_model",
        "observe",
        "open_dataset",
        "prepare",
        "save",
        "thresholds_from_batch_norm",
    }


@pytest.mark.parametrize("name", snnconvert.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    value = getattr(snnconvert, name)
    assert isinstance(value, str) or (callable(value) and value.__doc__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'transmogrify'"):
        _ = snnconvert.transmogrify


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_the_package_is_imported_from_the_repository_root() -> None:
    assert python("import snnconvert.converter.graph, snnconvert.cli.main; print(snnconvert.__version__)").strip() == (
        snnconvert.__version__
    )


def test_importing_the_package_does_not_import_torch() -> None:
    assert python("import sys, snnconvert; print('torch' in sys.modules)").strip() == "False"


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert version("snnconvert") == snnconvert.__version__

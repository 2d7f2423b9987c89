"""Importing a user's own code by name."""

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from snnconvert.converter.errors import ModelRefused, UsageError


@contextmanager
def working_directory_importable() -> Iterator[None]:
    """Put the working directory first in the module search path for the duration of the block."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def import_factory(reference: str) -> Any:
    """Return what ``package.module:factory`` names; modules in the working directory are found.

    Raises:
        UsageError: the reference has another form.
        ModelRefused: the module does not exist or fails while it is imported, or lacks the name.
    """
    module_name, _, attribute = reference.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise UsageError(f"expected package.module:factory, got {reference!r}")
    try:
        with working_directory_importable():
            module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ModelRefused(
            f"{reference}: no module named {error.name!r}",
            f"modules are looked for in the working directory ({os.getcwd()}) and among the installed packages",
        ) from error
    except Exception as error:
        raise ModelRefused(f"{reference}: importing {module_name} fails: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        raise ModelRefused(f"{reference}: {module_name} has no {attribute!r}", _callables(module))
    return getattr(module, attribute)


def _callables(module: Any) -> str | None:
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    return f"it defines {', '.join(names[:10])}" if names else None

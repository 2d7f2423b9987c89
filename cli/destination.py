"""Where an output goes, and what it may overwrite."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from snnconvert.converter.errors import Refused, UsageError


def beside(reference: str, ending: str) -> Path:
    """Return the default output: beside a file, in the current folder for a model that has only a name.

    >>> beside("zoo:fashion-resnet8", "-tpp-T8.snn")
    PosixPath('fashion-resnet8-tpp-T8.snn')
    """
    file = Path(reference)
    if file.is_file():
        return file.with_name(file.stem + ending)
    return Path(reference.rpartition(":")[2].replace("/", "-") + ending)


def writable(path: Path, *, force: bool, recognise: Callable[[Path], object], flag: str = "-o") -> Path:
    """Return ``path`` if it may be written, its folder made where there is none.

    Args:
        path: a file of the kind that ``recognise`` reads.
        force: whether the output of an earlier run may be overwritten; anything else never is.
        recognise: raises a `Refused` where a file is not of the kind that will be written.
        flag: that states the path, for messages.

    Raises:
        UsageError: ``path`` is a folder, exists and ``force`` was not given, or lies where nothing can be written.
        Refused: ``path`` exists and is of another kind.
    """
    if path.is_dir():
        raise UsageError(f"expected a file to write, got the folder {path}", f"write to {path / 'NAME'} instead")
    if path.exists():
        if not force:
            raise UsageError(f"{path} exists already", f"overwrite it with --force, or state another file with {flag}")
        try:
            recognise(path)
        except Refused as error:
            raise Refused(
                f"{path} exists and is not an earlier output, so it is not overwritten ({error.message})",
                f"state another file with {flag}",
            ) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return path
    except OSError as error:
        raise UsageError(
            f"cannot write to {path.parent}: {error.strerror or error}", f"state another file with {flag}"
        ) from error

"""Names to spiking networks: artefacts, and the directly trained baselines that are shipped."""

from pathlib import Path

from snnconvert.converter.errors import UsageError

from .zoo_models import DATA

PREFIX = "zoo:"


def shipped() -> dict[str, Path]:
    """Return the directly trained networks that are shipped, by name: "fashion-mt-lif-T2" to its file."""
    return {path.stem: path for path in sorted(DATA.glob("*.snn"))}


def spiking_files(word: str, data: str = "") -> list[Path]:
    """Return the artefacts that ``word`` names.

    Args:
        word: a .snn file; a shipped network ("zoo:fashion-mt-lif-T2"), or all of a method, of every T
            ("zoo:fashion-mt-lif"); or a method alone ("mt-lif"): those for ``data``.
        data: name of a data set.

    Raises:
        UsageError: nothing has that name.
    """
    path, known = Path(word), shipped()
    if path.suffix == ".snn" or path.is_file():
        return [path]
    wanted = word.removeprefix(PREFIX) if word.startswith(PREFIX) else f"{data.split('-')[0]}-{word}"
    found = [path for name, path in known.items() if wanted in (name, name.rpartition("-T")[0])]
    if not found:
        raise UsageError(
            f"no spiking network is called {word!r}: expected a .snn file or one of "
            f"{', '.join(f'{PREFIX}{name}' for name in known) or 'none, as none is shipped'}",
            "`snnconvert zoo` lists the shipped networks, `snnconvert train` makes one",
        )
    return found

"""`snnconvert recipe`: a recipe as the text of a TOML file, to be changed and given to `convert --recipe FILE`."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import Output

Reference = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="thresholds, fast, balanced, best, a .toml, or the .snn made by one.")
]


def recipe(reference: Reference, json: options.Json = False) -> None:
    """Print a recipe as TOML."""
    out = Output(json=json)

    from snnconvert.calibration import find_recipe, from_document, to_document, to_toml
    from snnconvert.converter.artifact import load
    from snnconvert.converter.errors import ArtefactRefused, UsageError

    if reference == "optimal":
        raise UsageError(
            "--recipe optimal is no list of settings: it chooses neurons and their start as well",
            "state it to convert",
        )
    if Path(reference).suffix == ".snn":
        _, about = load(Path(reference))
        if "method" not in about:
            raise ArtefactRefused(f"{reference} does not say by which recipe it was made", "convert the model again")
        if about["method"]["name"] == "optimal":
            raise UsageError(
                f"{reference} was made with --recipe optimal, which chooses neurons and their start as well",
                "state --recipe optimal again",
            )
        found = from_document(about["method"], reference)
    else:
        found = find_recipe(reference)
    if json:
        out.result(to_document(found))
    else:
        out.text(to_toml(found).rstrip())

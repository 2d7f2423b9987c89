"""`snnconvert show`: what is inside an artefact or a calibration."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import Output

File = Annotated[Path, typer.Argument(metavar="FILE", help="A .snn or .calib file.")]


def show(file: File, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Say how an artefact was made, and list its sites with their thresholds."""
    out = Output(json=json, quiet=quiet)

    from . import contents

    document, tables = contents.of_calibration(file) if file.suffix == ".calib" else contents.of_artefact(file)
    out.result(document, *tables)

"""`snnconvert show`: what is inside an artefact or a calibration."""

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .output import Output

File = Annotated[str, typer.Argument(metavar="FILE", help="A .snn or .calib file, or a shipped network (zoo:NAME).")]


def show(file: File, json: options.Json = False, quiet: options.Quiet = False) -> None:
    """Say how an artefact was made, and list its sites with their thresholds."""
    out = Output(json=json, quiet=quiet)

    from snnconvert.model_zoo import shipped

    from . import contents

    path = shipped().get(file.removeprefix("zoo:"), Path(file))
    document, tables = contents.of_calibration(path) if path.suffix == ".calib" else contents.of_artefact(path)
    out.result(document, *tables)

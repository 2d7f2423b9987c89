"""`snnconvert check`: what each operation of a model would become, before any data or weights are there."""

import time
from typing import Annotated

import typer

from snnconvert.converter.errors import Refused

from . import options
from .output import Output

Strict = Annotated[bool, options.run("--strict", help="Refuse what leaves an operation analog.")]


def check(
    model: options.ModelReference,
    arch: options.Arch = None,
    trust: options.Trust = False,
    size: options.Size = None,
    strict: Strict = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """List what every operation of a model would become, and what speaks against a conversion.

    A MODEL that is a name is built without weights, so a model of any size takes seconds.
    """
    out, started = Output(json=json, quiet=quiet), time.perf_counter()

    from . import inspection, session

    loaded = session.open_skeleton(out, model, arch=arch, trust=trust, size=size)
    found = inspection.inspect(loaded)
    document, tables = inspection.describe(loaded, found)
    out.result(document | {"seconds": time.perf_counter() - started}, *tables)
    refusal = inspection.refusal(found, strict=strict)
    if refusal is not None:
        out.complain(*refusal)
        raise typer.Exit(Refused.exit_code)

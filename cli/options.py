"""The flags that several commands share, each declared once, and what they may be combined with."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from snnconvert.converter.errors import UsageError

CALIBRATION_IMAGES = 1000
DATA_HELP = "A data set's name, an image folder, tar shards, or an .npz."
FILE_WORKERS = 2
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def panel(title: str) -> Callable[..., Any]:
    """Return `typer.Option` for the flags under ``title`` in the help."""
    return partial(typer.Option, rich_help_panel=title)


_model, data, run = panel("Model"), panel("Data and thresholds"), panel("Run")

ModelReference = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A checkpoint (.pt, .pth, .safetensors), a name (zoo, timm, torchvision), or package.module:factory.",
    ),
]
Arch = Annotated[str | None, _model("--arch", metavar="NAME", help="Architecture of a checkpoint, instead of a guess.")]
Weights = Annotated[Path | None, _model("--weights", metavar="FILE", help="Checkpoint for a MODEL that is a name.")]
Trust = Annotated[bool, _model("--trust", help="Open a pickled module, which may run any code.")]
RandomWeights = Annotated[bool, _model("--random-weights", help="Leave a MODEL that is a name untrained.")]
Size = Annotated[str | None, _model("--size", metavar="CxHxW", help="Input size, for example 3x32x32.")]
Resize = Annotated[int | None, _model("--resize", min=1, help="Short side in pixels before the centre crop.")]
Mean = Annotated[str | None, _model("--mean", metavar="A,B,C", help="Mean of each channel, on the scale 0 to 1.")]
Std = Annotated[str | None, _model("--std", metavar="A,B,C", help="Deviation of each channel, on the scale 0 to 1.")]

Data = Annotated[str | None, data("--data", metavar="REF", help=DATA_HELP)]
DataDir = Annotated[Path | None, data("--data-dir", metavar="DIR", help="Where data sets that have a name lie.")]
Rule = Annotated[
    str | None, data("--rule", metavar="NAME", help="mse, max, percentile, gaussian, ltb or kl.", show_default="mse")
]
Per = Annotated[
    str | None,
    data("--per", metavar="channel|layer", help="One threshold per channel, or per layer.", show_default="channel"),
]
Percentile = Annotated[
    float | None,
    data("--percentile", min=0, max=100, help="With --rule percentile.", show_default="99.9"),
]
CalibrationImages = Annotated[
    int | None, data("--images", min=1, help="Training images to calibrate on.", show_default="1000, or the recipe's")
]

Seed = Annotated[int, run("--seed", min=0, max=2**63 - 1, help="Seed of every random choice.")]
Device = Annotated[str, run("--device", metavar="cpu|cuda", help="Where to compute.")]
BatchSize = Annotated[int, run("--batch-size", min=1, help="Images at a time.")]
Workers = Annotated[
    int | None,
    run(
        "--workers", min=0, help="Processes that read images ahead.", show_default=f"0; {FILE_WORKERS} for image files"
    ),
]
Force = Annotated[bool, run("--force", help="Overwrite the output of an earlier run.")]
Json = Annotated[bool, run("--json", help="Print one JSON document on stdout.")]
Quiet = Annotated[bool, run("--quiet", "-q", help="Say nothing but the result, warnings and errors.")]


def check_data_flags(data: str | None, data_dir: Path | None, images: int | None) -> None:
    """Raise UsageError where a flag about the data was given without data."""
    for flag, value in (("--data-dir", data_dir), ("--images", images)):
        if value is not None and data is None:
            raise UsageError(f"{flag} has no meaning without --data", "name a data set with --data")


def parse_size(text: str) -> int:
    """Return the bytes that ``text`` names: a number and B, kB, MB, GB, KiB, MiB or GiB.

    Raises:
        UsageError: it names none, or less than one byte.
    """
    found = re.fullmatch(r"([\d.]+) *([kKMG]i?B|B)", text.strip())
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    size = int(number * _UNITS[found[2].upper()]) if found else 0
    if size < 1:
        raise UsageError(f"expected a size such as 500MB or 2GiB, got {text!r}")
    return size


def worker_count(stated: int | None, *, files: bool) -> int:
    """Return the number of processes that read images ahead: what was ``stated``, or enough for images in ``files``."""
    if stated is not None:
        return stated
    return FILE_WORKERS if files else 0

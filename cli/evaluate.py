"""`snnconvert eval`: spiking artefacts and test images in, accuracies next to the ANN out."""

from pathlib import Path
from typing import Annotated

import typer

from snnconvert.converter.errors import UsageError

from . import options
from .output import Output, error_document

Artefacts = Annotated[list[Path], typer.Argument(metavar="ARTEFACT...", help="One or more .snn files.")]
Data = Annotated[
    str | None, options.data("--data", metavar="REF", help=options.DATA_HELP, show_default="that of the calibration")
]
Images = Annotated[
    int | None, options.data("--images", min=1, help="Test images, drawn with --seed.", show_default="all")
]
Seeds = Annotated[int, options.run("--seeds", min=1, help="Random seeds of a stochastic network.")]
Seed = Annotated[
    int | None,
    options.run(
        "--seed",
        min=0,
        max=2**63 - 1,
        help="First seed, and the choice of --images.",
        show_default="the artefact's, 0",
    ),
]
Against = Annotated[
    str | None, options.run("--against", metavar="MODEL", help="ANN to compare with.", show_default="the converted one")
]
Executor = Annotated[str, options.run("--executor", metavar="NAME", help="auto, counts, layers or steps.")]
MaxDrop = Annotated[
    float | None,
    options.run(
        "--max-drop", min=0, metavar="POINTS", help="Exit with 4 if top-1 is more than POINTS below the ANN's."
    ),
]
CalibrationFile = Annotated[
    Path | None,
    options.data("--calibration", metavar="FILE", help="Say how far these images are from those of this .calib."),
]
Record = Annotated[bool, options.run("--record", help="Write the measured accuracy into each artefact.")]

Memory = Annotated[
    str | None,
    options.run(
        "--memory",
        metavar="SIZE",
        help="Spike trains that the layers executor works on at once, as in 500MB or 2GiB.",
        show_default="what the caches hold",
    ),
]
Resume = Annotated[
    Path | None,
    options.run(
        "--resume", metavar="DIR", help="Keep finished batches in DIR, and go on from there after an interruption."
    ),
]


def evaluate(
    artefacts: Artefacts,
    data: Data = None,
    data_dir: options.DataDir = None,
    images: Images = None,
    resize: options.Resize = None,
    seeds: Seeds = 3,
    against: Against = None,
    executor: Executor = "auto",
    max_drop: MaxDrop = None,
    calibration: CalibrationFile = None,
    record: Record = False,
    resume: Resume = None,
    memory: Memory = None,
    seed: Seed = None,
    device: options.Device = "cpu",
    batch_size: options.BatchSize = 100,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the accuracy of spiking networks next to their ANN, on the same test images."""
    out = Output(json=json, quiet=quiet)

    from snnconvert.calibration import Calibration
    from snnconvert.converter.artifact import load

    from . import comparison, measurement, session

    where = session.compute_device(device)
    budget = None if memory is None else options.parse_size(memory)
    expected = None if calibration is None else Calibration.load(calibration)
    for path in artefacts:  # a file that cannot be read is told before the others have been measured
        load(path)
    measured = [
        measurement.measure(
            out,
            path,
            data=data,
            root=data_dir,
            images=images,
            resize=resize,
            seeds=seeds,
            against=against,
            executor=executor,
            seed=seed,
            device=where,
            batch_size=batch_size,
            workers=workers,
            expected=expected,
            resume=resume,
            memory=budget,
        )
        for path in artefacts
    ]
    shown = {(each.data, each.split) for each in measured}
    if len(shown) > 1:
        raise UsageError(
            f"the artefacts name different data sets: {', '.join(sorted(name for name, _ in shown))}",
            "name one for all with --data, or evaluate them apart",
        )
    if record:
        for each in measured:
            measurement.record(each)
            out.talk("recorded", f"the accuracy of {each.path.name} in it")
    missed = measurement.missed_bar(measured, max_drop)
    document = comparison.document(measured)
    if missed:
        document["error"] = error_document(type(missed).__name__, missed.message, missed.hint, missed.exit_code)
    out.result(document, *comparison.tables(measured))
    if missed:
        out.complain(missed.message, missed.hint)
        raise typer.Exit(missed.exit_code)

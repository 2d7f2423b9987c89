"""`snnconvert eval`: spiking artefacts and test images in, accuracies next to the ANN out."""

from pathlib import Path
from typing import Annotated

import typer

from snnconvert.converter.errors import UsageError

from . import options
from .output import Output, error_document

_table = options.panel("Networks side by side")
Artefacts = Annotated[
    list[str], typer.Argument(metavar="ARTEFACT...", help="One or more .snn files, or names of shipped networks.")
]
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
Beside = Annotated[
    str | None,
    _table(
        "--beside",
        metavar="A,B,...",
        help="Networks to compare with: .snn files, names, or methods of direct training (mt-lif).",
    ),
]
Csv = Annotated[Path | None, _table("--csv", metavar="FILE", help="Write a line for each network.")]
Report = Annotated[Path | None, _table("--report", metavar="FILE", help="Write a page (.html) with table and plots.")]


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
    beside: Beside = None,
    csv: Csv = None,
    report: Report = None,
    seed: Seed = None,
    device: options.Device = "cpu",
    batch_size: options.BatchSize = 100,
    workers: options.Workers = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure the accuracy of spiking networks next to their ANN, on the same test images.

    With --beside, --csv or --report also spikes, operations and energy, next to the ANN with rounded activations.
    """
    out = Output(json=json, quiet=quiet)

    from snnconvert.calibration import Calibration

    from . import beside as side_by_side
    from . import comparison, measurement, session, subject

    where = session.compute_device(device)
    budget = None if memory is None else options.parse_size(memory)
    expected = None if calibration is None else Calibration.load(calibration)
    chosen = subject.find_artefacts(artefacts, [] if beside is None else beside.split(","), data)
    if max_drop is not None and against is None and chosen.reference is None:
        raise UsageError("--max-drop compares with an ANN, and these networks come from none", "name it with --against")
    if record:
        measurement.check_recordable(chosen.paths)
    conditions = subject.Conditions(
        device=where,
        data=chosen.data,
        root=data_dir,
        images=images,
        resize=resize,
        seeds=seeds,
        against=against,
        reference=chosen.reference,
        executor=executor,
        seed=seed,
        batch_size=batch_size,
        workers=workers,
        resume=resume,
        memory=budget,
    )
    if beside is None and csv is None and report is None:
        opened = (subject.open_subject(path, conditions) for path in chosen.paths)
        measured = [measurement.measure_subject(out, each, expected) for each in opened]
        document, tables = comparison.document(measured), comparison.tables(measured)
    else:
        side_by_side.check_files(csv, report)
        found = side_by_side.compare(out, chosen, conditions, expected)
        side_by_side.write_files(out, found, csv, report)
        measured = found.measured[: len(chosen.paths)]
        document, tables = found.as_json(), [found.table()]
    if record:
        for each in measured:
            measurement.record(each)
            out.talk("recorded", f"the accuracy of {each.path.name} in it")
    missed = measurement.missed_bar(measured, max_drop)
    if missed:
        document["error"] = error_document(type(missed).__name__, missed.message, missed.hint, missed.exit_code)
    out.result(document, *tables)
    if missed:
        out.complain(missed.message, missed.hint)
        raise typer.Exit(missed.exit_code)

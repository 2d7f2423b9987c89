"""`snnconvert calibrate`: a trained network and images in, a .calib file out that thresholds are computed from."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from . import destination, options
from .output import Output, Table

OutputFile = Annotated[
    Path | None, options.data("-o", "--output", help="The .calib to write.", show_default="beside MODEL")
]
Data = Annotated[str, options.data("--data", metavar="REF", help=options.DATA_HELP)]


def calibrate(
    model: options.ModelReference,
    data: Data,
    data_dir: options.DataDir = None,
    images: options.CalibrationImages = None,
    output: OutputFile = None,
    arch: options.Arch = None,
    weights: options.Weights = None,
    trust: options.Trust = False,
    random_weights: options.RandomWeights = False,
    size: options.Size = None,
    resize: options.Resize = None,
    mean: options.Mean = None,
    std: options.Std = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    batch_size: options.BatchSize = 100,
    workers: options.Workers = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Observe a network on training images, for thresholds at any T and by any rule.

    `snnconvert convert MODEL --calibration FILE` reads the result.
    """
    out, started = Output(json=json, quiet=quiet), time.perf_counter()

    from snnconvert.calibration import Calibration
    from snnconvert.converter import processes

    from . import session

    where = session.compute_device(device)
    path = output or destination.beside(model, ".calib")
    if processes.rank() == 0:
        destination.writable(path, force=force, recognise=Calibration.load)
    loaded = session.open_model(
        out,
        model,
        arch=arch,
        weights=weights,
        trust=trust,
        random_weights=random_weights,
        size=size,
        resize=resize,
        mean=mean,
        std=std,
        seed=seed,
    )
    graph = session.prepare_model(out, loaded, where)
    chosen = session.open_training_images(
        out,
        graph,
        loaded.preprocessing,
        data,
        root=data_dir,
        images=images or options.CALIBRATION_IMAGES,
        stated=images is not None,
        seed=seed,
        batch_size=batch_size,
        workers=workers,
    )
    begun = time.perf_counter()
    found = session.calibrate_model(out, graph, chosen).whole
    found = replace(found, about=found.about | {"seconds": time.perf_counter() - begun})
    for warning in found.warnings:
        out.warn(warning)
    if processes.rank() == 0:
        found.save(path)
    document = {
        "calibration": str(path),
        "images": found.images,
        "sha256": found.sha256,
        "about": found.about,
        "warnings": list(found.warnings),
        "seconds": time.perf_counter() - started,
    }
    rows = [("images", str(found.images)), ("sha256", found.sha256), ("file", str(path))]
    out.result(document, Table("", ("calibration", ""), rows, words=2))

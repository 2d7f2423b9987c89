"""`snnconvert demo`: the embedded network as three spiking networks, evaluated next to it."""

from pathlib import Path
from typing import Annotated

from . import destination, options
from .output import Output
from .settings import Request

MODEL, DATA = "zoo:fashion-resnet8", "fashion-mnist-sample"
NEURONS, STEPS = ("tpp", "two-phase", "if"), 8

Folder = Annotated[Path, options.run("-o", "--output", help="Folder for the artefacts.")]


def demo(
    folder: Folder = Path("snnconvert-demo"),
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Convert the embedded network for T = 8 and evaluate it next to its ANN."""
    out = Output(json=json, quiet=quiet)

    from snnconvert import calibration
    from snnconvert.converter.artifact import load

    from . import comparison, conversion, measurement, session

    where = session.compute_device(device)
    paths = {neuron: folder / f"fashion-resnet8-{neuron}-T{STEPS}.snn" for neuron in NEURONS}
    for path in paths.values():
        destination.writable(path, force=True, recognise=load)
    loaded = session.open_model(out, MODEL, seed=seed)
    graph = session.prepare_model(out, loaded, where)
    fast = calibration.RECIPES["fast"]
    images = session.open_training_images(
        out, graph, loaded.preprocessing, DATA, images=fast.images, stated=False, seed=seed
    )
    observed = session.calibrate_model(out, graph, images, fast.sample).whole
    measured = []
    for neuron, path in paths.items():
        recipe = Request(neuron=neuron, steps=STEPS, recipe=fast.name, seed=seed)
        thresholds = conversion.find_thresholds(
            out, graph, recipe, fast, observed, images, path.with_name(path.name + ".checkpoint")
        )
        conversion.store(path, conversion.make_spiking(graph, thresholds, recipe), loaded, graph, recipe, fast, {})
        measured.append(measurement.measure(out, path, seed=seed, device=where))
    out.result(comparison.document(measured), *comparison.tables(measured))
    out.talk("artefact", f"{paths['tpp']}; look inside with `snnconvert show {paths['tpp']}`")

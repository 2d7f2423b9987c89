"""`snnconvert convert`: a trained network in, a spiking artefact out."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from snnconvert.converter.errors import UsageError

from . import destination, options
from .output import Output
from .settings import settle

_spiking = options.panel("Spiking network")

Neuron = Annotated[str | None, _spiking("--neuron", metavar="NAME", help="if, two-phase or tpp.", show_default="tpp")]
Steps = Annotated[
    int | None,
    _spiking("-T", "--steps", min=1, max=4096, help="Time steps of a window.", show_default="8; 32 with --max-drop"),
]
MaxDrop = Annotated[
    float | None,
    _spiking(
        "--max-drop",
        metavar="POINTS",
        min=0,
        max=100,
        help="Find the fewest steps up to -T, and the neuron if none is stated, within POINTS of the ANN's top-1 on "
        "held-out training images.",
    ),
]
InitialPotential = Annotated[
    float | None,
    _spiking("--initial-potential", help="Start of an if neuron, in thresholds.", show_default="0.5"),
]
MixedSteps = Annotated[
    float | None,
    _spiking(
        "--mixed-steps",
        metavar="BUDGET",
        min=1,
        help="Let the worst sites fire bursts, for at most BUDGET times the spikes.",
    ),
]
Shuffle = Annotated[
    str, _spiking("--shuffle", metavar="NAME", help="Permute spikes over time: none, shared or per-neuron.")
]
Named = Annotated[
    str | None,
    options.data(
        "--recipe",
        metavar="NAME|FILE",
        help="thresholds, fast, balanced, best, optimal, or a .toml (see `snnconvert recipe`).",
        show_default="balanced with --data, else thresholds",
    ),
]
Strict = Annotated[bool, _spiking("--strict", help="Refuse a network with an operation that is not spiking.")]
OutputFile = Annotated[Path | None, _spiking("-o", "--output", help="The .snn to write.", show_default="beside MODEL")]
CalibrationFile = Annotated[
    Path | None,
    options.data("--calibration", metavar="FILE", help="Thresholds from an earlier `snnconvert calibrate`."),
]


def convert(
    model: options.ModelReference,
    neuron: Neuron = None,
    steps: Steps = None,
    max_drop: MaxDrop = None,
    mixed_steps: MixedSteps = None,
    recipe: Named = None,
    initial_potential: InitialPotential = None,
    shuffle: Shuffle = "none",
    strict: Strict = False,
    output: OutputFile = None,
    calibration: CalibrationFile = None,
    data: options.Data = None,
    data_dir: options.DataDir = None,
    images: options.CalibrationImages = None,
    rule: options.Rule = None,
    percentile: options.Percentile = None,
    per: options.Per = None,
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
    """Convert a trained network to a spiking one.

    Thresholds come from --calibration, from the training images of --data, or else from batch-norm statistics. With
    images, a recipe also corrects the neurons and learns from the network itself; labels are not looked at.
    """
    out, started = Output(json=json, quiet=quiet), time.perf_counter()
    stated, steps = neuron, steps or (8 if max_drop is None else 32)
    settled = settle(
        named=recipe,
        neuron=neuron,
        steps=steps,
        rule=rule,
        per=per,
        percentile=percentile,
        mixed_steps=mixed_steps,
        initial_potential=initial_potential,
        shuffle=shuffle,
        seed=seed,
    )
    options.check_data_flags(data, data_dir, images)
    if calibration is not None and data is not None:
        raise UsageError("--calibration and --data exclude each other", "thresholds come from one: drop the other")
    if max_drop is not None and data is None:
        raise UsageError("--max-drop chooses with labelled training images, and none are given", "add --data")
    if percentile is not None and calibration is None and data is None:
        raise UsageError("--percentile is one of activations, and none are given", "add --data or --calibration")

    from snnconvert.calibration import Calibration
    from snnconvert.converter import processes
    from snnconvert.converter.artifact import load

    from . import choosing, conversion, inspection, session

    chosen = conversion.method(settled, data=data is not None)
    where = session.compute_device(device)
    ending = f"-{settled.neuron}-T{steps}.snn" if max_drop is None else f"-within-{max_drop:g}.snn"
    path = output or destination.beside(model, ending)
    if processes.rank() == 0:
        destination.writable(path, force=force, recognise=load)
    observed = None if calibration is None else Calibration.load(calibration)
    if strict and arch is None and weights is None and not Path(model).is_file():  # before weights are downloaded
        found = inspection.inspect(session.open_skeleton(out, model, trust=trust, size=size))
        if found.convertible:  # some models cannot be checked without weights
            inspection.require_spiking(found)
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
    if max_drop is None or stated is not None:
        graph.audit.require(settled.neuron)
    if strict:
        inspection.require_spiking(graph.audit)
    training = None
    if data is not None:
        training = session.open_training_images(
            out,
            graph,
            loaded.preprocessing,
            data,
            root=data_dir,
            images=images or chosen.images,
            stated=images is not None,
            seed=seed,
            batch_size=batch_size,
            workers=workers,
        )
    checkpoint = path.with_name(path.name + ".checkpoint")
    account: dict[str, Any] = {}
    begun = time.perf_counter()
    if max_drop is not None and training is not None:
        fixed = stated is not None or recipe == "optimal"
        neurons = (settled.neuron,) if fixed else tuple(graph.audit.executors)
        settled, thresholds, account = choosing.choose(
            out, graph, settled, chosen, training, max_drop=max_drop, neurons=neurons, checkpoint=checkpoint
        )
        thresholds = conversion.timed(thresholds, begun)
    elif training is not None:
        halves = session.calibrate_model(out, graph, training, chosen.sample)
        thresholds = conversion.find_thresholds(out, graph, settled, chosen, halves.whole, training, checkpoint)
        thresholds = conversion.timed(thresholds, begun)
        account = conversion.examine(out, graph, settled, chosen, halves, thresholds, training)
    else:
        thresholds = conversion.find_thresholds(out, graph, settled, chosen, observed, None, checkpoint)
        if "seconds" in thresholds.source:  # files of earlier versions do not say how long the calibration took
            thresholds = conversion.timed(thresholds, begun)
    spiking = conversion.make_spiking(graph, thresholds, settled)
    if training is not None:
        chosen = replace(chosen, images=training.count)
    about = conversion.store(path, spiking, loaded, graph, settled, chosen, account)
    document, table = conversion.describe(path, spiking, graph, about)
    out.result(document | {"seconds": time.perf_counter() - started}, table)

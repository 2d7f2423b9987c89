"""`snnconvert train`: a method, an architecture and a data set in, a directly trained spiking network out."""

import shlex
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperOption

from . import options
from .output import Output

Method = Annotated[
    str, typer.Argument(metavar="METHOD", help="lif, mt-lif, albsnn, slssnn, dsr, qcfs, or ann: no spikes.")
]
Data = Annotated[str, options.data("--data", metavar="REF", help=options.DATA_HELP)]
Arch = Annotated[str, options.run("--arch", metavar="NAME", help="Architecture to train from random weights.")]
Steps = Annotated[int, options.run("--steps", "-T", min=1, max=2**16, help="T, the number of steps of a window.")]
Epochs = Annotated[int, options.run("--epochs", min=1, help="Passes over the training images.")]
Rate = Annotated[float, options.run("--rate", min=0, help="The highest learning rate.")]
Decay = Annotated[float, options.run("--decay", min=0, help="Weight decay.")]
Settings = Annotated[
    list[str] | None,
    options.run("--set", metavar="NAME=VALUE", help="A setting of the method; `snnconvert zoo methods` lists them."),
]
Images = Annotated[
    int | None, options.data("--images", min=2, help="Images to train and validate on.", show_default="all")
]
Validation = Annotated[
    int | None,
    options.data("--validation", min=1, help="Images held out of training.", show_default="a tenth, at most 5000"),
]
Flip = Annotated[bool, options.data("--flip/--no-flip", help="Mirror half of the images.")]
Shift = Annotated[int, options.data("--shift", min=0, help="Shift images by up to so many pixels.")]
Inherit = Annotated[
    Path | None,
    options.run(
        "--inherit", metavar="FILE", help="Begin with the weights of this checkpoint, of any T, that --keep left."
    ),
]
Keep = Annotated[bool, options.run("--keep", help="Keep the checkpoint beside the output when training is over.")]
Exact = Annotated[bool, options.run("--exact", help="Train in float32 where the machine computes in bfloat16, too.")]
OutputPath = Annotated[
    Path | None, options.run("-o", "--output", help="Artefact to write.", show_default="ARCH-METHOD-TT.snn")
]


ELSEWHERE = ("output", "json", "quiet", "force", "device", "workers", "data_dir", "keep")
"""What a command says about a machine, and not about what it trains."""


def command_of(context: typer.Context) -> str:
    """Return the words that train the same network: all that is not the default and no matter of the machine."""
    words = ["snnconvert", "train"]
    for parameter in context.command.params:
        name, value = str(parameter.name), context.params[str(parameter.name)]
        if name in ELSEWHERE or value in (parameter.get_default(context), None):
            continue
        flag = [max(parameter.opts, key=len)] if isinstance(parameter, TyperOption) else []
        if isinstance(value, bool):
            words += flag if value else parameter.secondary_opts
        else:
            words += [
                word for each in (value if isinstance(value, list | tuple) else [value]) for word in (*flag, str(each))
            ]
    return shlex.join(words)


def train(
    context: typer.Context,
    method: Method,
    data: Data,
    arch: Arch = "fashion-small-vgg",
    steps: Steps = 4,
    settings: Settings = None,
    epochs: Epochs = 15,
    rate: Rate = 0.1,
    decay: Decay = 5e-4,
    data_dir: options.DataDir = None,
    images: Images = None,
    validation: Validation = None,
    flip: Flip = True,
    shift: Shift = 2,
    inherit: Inherit = None,
    keep: Keep = False,
    exact: Exact = False,
    output: OutputPath = None,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    batch_size: options.BatchSize = 128,
    workers: options.Workers = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a spiking network from random weights, as a baseline for converted ones.

    The test images are not looked at: `snnconvert eval` does. A killed run goes on from its checkpoint when it is
    started again; beside the output a .jsonl file logs every epoch. Dropout is left out. Under torchrun, processes
    share each batch, and batch norm sees the share of its process.
    """
    out = Output(json=json, quiet=quiet)

    from snnconvert.model_zoo.baselines.trainer import Plan

    from . import session, training

    where = session.compute_device(device)
    chosen = training.method(method, settings or [], steps)
    plan = Plan(epochs, rate, decay, seed, shift, flip)
    plan.check()
    path = training.destination_of(output, chosen, arch, steps, force)
    training.check_heritage(inherit, path)
    course = training.open_course(
        out,
        chosen,
        plan,
        arch=arch,
        steps=steps,
        data=data,
        root=data_dir,
        images=images,
        validation=validation,
        batch_size=batch_size,
        workers=workers,
        mixed=not exact,
        device=where,
        inherited=inherit,
    )
    document, table = training.train(out, course, path, command_of(context), keep=keep)
    out.result(document, table)

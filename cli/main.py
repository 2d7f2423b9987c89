"""The entry point: which commands there are, and what becomes of an error.

  0  done
  1  unexpected: please report it; `snnconvert --debug ...` prints the traceback
  2  wrong usage: an unknown command, option, name or number
  3  refused: a model, data set, calibration or artefact that cannot be taken, or a file that cannot be read or written
  4  a bar that the user stated was missed
130  interrupted
"""

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from snnconvert.converter.errors import ProcessLost, Refused, SnnconvertError, UsageError

from . import torchrun
from .calibrate import calibrate
from .check import check
from .convert import convert
from .demo import demo
from .doctor import doctor
from .evaluate import evaluate
from .output import Output
from .recipe import recipe
from .show import show
from .train import train
from .zoo import zoo

INTERRUPTED = 130
_Misuse: Any = typer.BadParameter.__base__  # typer raises it for every wrong word and exports only this child

app = typer.Typer(
    help="Convert a trained network to a spiking one, and see how good it is.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., None]] = {
    "check": check,
    "convert": convert,
    "eval": evaluate,
    "calibrate": calibrate,
    "train": train,
    "show": show,
    "recipe": recipe,
    "zoo": zoo,
    "doctor": doctor,
    "demo": demo,
}
SHARED = ("convert", "eval", "calibrate", "train")
"""The commands whose work processes can share: `torchrun --nproc-per-node N --no-python snnconvert eval ...`."""
for _name, _command in COMMANDS.items():
    app.command(_name)(_command if _name in SHARED else torchrun.alone(_name, _command))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        Output().text(f"snnconvert {version('snnconvert')}")
        raise typer.Exit


@app.callback()
def _every_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an error.")] = False,
) -> None:
    context.obj.debug = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line on ``arguments`` (by default the process's) and return the exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    out = Output(json="--json" in words)
    code = _run(words, out)
    torchrun.end(code)
    return code


def _run(words: list[str], out: Output) -> int:
    try:
        return torchrun.together(lambda: _called(words, out))
    except KeyboardInterrupt:
        return out.fail("Interrupted", "interrupted", None, INTERRUPTED)
    except _Misuse as error:
        return _misused(out, error)
    except SnnconvertError as error:
        if isinstance(error, ProcessLost):  # it may be the one that speaks
            out.speak_up()
        return out.fail(type(error).__name__, error.message, error.hint, error.exit_code)
    except OSError as error:
        return out.fail(Refused.__name__, str(error), None, Refused.exit_code)
    except Exception as error:
        hint = "please report this with what `snnconvert --debug ...` prints"
        return out.fail(type(error).__name__, f"unexpected {type(error).__name__}: {error}", hint, 1)


def _called(words: list[str], out: Output) -> int:
    try:
        code = app(words, prog_name="snnconvert", standalone_mode=False, obj=out) or 0
    except typer.Abort:
        code = INTERRUPTED
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return int(code)


def _misused(out: Output, error: Any) -> int:
    message = error.format_message()
    if not message:  # no words at all: typer has printed the help
        return UsageError.exit_code
    command = error.ctx.command_path if error.ctx else "snnconvert"
    return out.fail(UsageError.__name__, message, f"`{command} --help` shows what there is", UsageError.exit_code)


if __name__ == "__main__":
    sys.exit(main())

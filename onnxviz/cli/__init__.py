"""The command line: parse, call, print. One file per command, loaded when it is called."""

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from onnxviz import __version__
from onnxviz.errors import OnnxvizError, did_you_mean

_COMMANDS = {
    "inspect": "Inputs, outputs and the layer table of a model.",
    "activations": "What each layer responds to: feature-map grids.",
    "kernels": "The weights themselves: kernel grids and numbers.",
    "explain": "Why did the model answer so: heatmaps on pictures.",
    "maximize": "What would it like to see: pictures that raise a channel, a layer or a class.",
    "deconv": "What in a picture excited a channel: Zeiler-Fergus projections.",
    "top": "The pictures and patches that excite a channel most.",
    "audit": "Is this file healthy, and does it still agree with that one?",
    "export": "Write a rewritten model: exposed tensors, gradients.",
    "demo": "All of it, in a minute, on the model and the picture that come along.",
    "doctor": "Versions, devices, and why CUDA is or is not used.",
}

_BAD_INPUT, _INTERRUPTED = 2, 130


class Commands(click.Group):
    """A group that loads a command's module when it is called, and turns errors into one line and a code."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The commands in the order in which a newcomer meets them."""
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"onnxviz.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command, or suggest the nearest."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}{did_you_mean(args[0], _COMMANDS)}; see onnxviz --help")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; that nobody reads its output to the end is no failure (to Click it is one)."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            return _stop_talking()

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit: 0 done, 1 a gate failed, 2 bad input (one line on stderr), 130 interrupted."""
        for stream in (sys.stdout, sys.stderr):
            # What the encoding of a terminal or a pipe lacks is written as an escape.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(
                args, prog_name, complete_var, False, windows_expand_args=windows_expand_args, **extra
            )
            sys.stdout.flush()
        except click.ClickException as err:
            err.show()
            code = _BAD_INPUT
        except OnnxvizError as err:
            click.echo(f"Error: {' '.join(str(err).split())}", err=True)
            code = _BAD_INPUT
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted: nothing was left half-written.", err=True)
            code = _INTERRUPTED
        except MemoryError:
            click.echo("Error: out of memory; try a smaller --batch, fewer layers or pictures", err=True)
            code = _BAD_INPUT
        except ImportError as err:
            click.echo(f"Error: this installation is incomplete ({err}); run onnxviz doctor", err=True)
            code = _BAD_INPUT
        except BrokenPipeError:
            code = _stop_talking()
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code


def _stop_talking() -> int:
    """Whoever read our output has read enough; Python would complain once more on exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Shell completion: eval "$(_ONNXVIZ_COMPLETE=bash_source onnxviz)" (or zsh_source, fish_source).',
)
@click.version_option(__version__, prog_name="onnxviz")
def main() -> None:
    """See what an exported ONNX model sees, on the runtime that ships it.

    \b
    Examples:
      onnxviz demo
      onnxviz inspect model.onnx
      onnxviz activations model.onnx cat.png --layer first-conv
      onnxviz explain model.onnx cat.png --target "Egyptian cat"
      onnxviz maximize model.onnx --target "Egyptian cat"
      onnxviz audit model-int8.onnx model.onnx --images photos
    """

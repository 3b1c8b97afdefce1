"""The commands by name. What they do is imported when one of them runs."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from resnetcli import __version__
from resnetcli.cli.groups import Group
from resnetcli.cli.session import session_of

# Panel and first line of the help of each command. Its module is imported when it runs: with pydantic's models and a
# hundred options, importing all of them would take as long again as the rest of `resnetcli --help`.
COMMANDS = {
    "train": ("Model", "Train the network, and measure it on the test images at the end."),
    "evaluate": ("Model", "Measure a checkpoint: accuracy by class, confusions, calibration."),
    "compare": (
        "Model",
        "Compare two checkpoints on the same images: McNemar's test, classes, images on which they differ.",
    ),
    "predict": ("Model", "Classify pictures: files, folders, globs, or a list or a picture on stdin."),
    "inspect": (
        "Model",
        "Show layers, shapes, parameters, multiply-accumulates and where the weights come from.",
    ),
    "bench": ("Machine", "Measure this machine: beside a plain PyTorch loop and beside its own matrix products."),
    "data": ("Files", "Fetch, check and look at CIFAR-10."),
    "checkpoints": ("Files", "List, show, verify, prune and export checkpoints."),
}

EPILOG = """[bold]Examples[/bold]
  resnetcli predict photo.jpg
  resnetcli train
  resnetcli evaluate runs/fast-1
  resnetcli COMMAND --help"""


class LazyGroup(Group):
    """Knows its commands by name and short help, and imports one only to run it or to complete its options."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, (panel, text) in COMMANDS.items():
            self.add_command(TyperCommand(name, help=text, rich_help_panel=panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = get_command(import_module(f"resnetcli.cli.{name}").app)
            command.name = name
        return name, command, rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"resnetcli {__version__}")
        raise typer.Exit


@app.callback()
def resnetcli(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="No progress on stderr, only warnings. \\[default: off]",
            envvar="RESNETCLI_QUIET",
            show_envvar=False,
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            help="Show the traceback of an error. \\[default: off]",
            envvar="RESNETCLI_DEBUG",
            show_envvar=False,
        ),
    ] = False,
) -> None:
    """Train, evaluate, inspect and predict with a small ResNet-50 for 32×32 colour images, CIFAR-10 first."""
    session = session_of(ctx)
    session.quiet = quiet
    session.debug = debug

"""`resnetcli checkpoints`: list, show, verify, prune, export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from resnetcli.cli.options import AsJson, examples, switch, takes
from resnetcli.cli.resolve import Given, resolve
from resnetcli.cli.runs import complete_checkpoint
from resnetcli.config import TrainConfig
from resnetcli.errors import CheckpointError
from resnetcli.results import CheckpointsResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="List, show, verify, prune and export checkpoints.",
    epilog=examples(
        "resnetcli checkpoints list runs/quick-1", "resnetcli checkpoints export runs/quick-1 best.safetensors"
    ),
)


def _argument(metavar: str, text: str) -> Any:
    return typer.Argument(metavar=metavar, help=text, show_default=False, autocompletion=complete_checkpoint)


CKPT = "Run directory (its best), checkpoint directory, .safetensors or foreign file."
Run = Annotated[Path, _argument("RUN", "Run directory.")]
Checkpoint = Annotated[str, _argument("CKPT", CKPT)]


@app.command(name="list", epilog=examples("resnetcli checkpoints list runs/quick-1"))
@takes()
def list_run(ctx: typer.Context, run: Run, as_json: AsJson = False) -> None:
    """List the checkpoints of a run, which is best and which is last. Exit code 4 if one is damaged."""
    from resnetcli.services import checkpoints as service

    result = service.list_run(run)
    report(result, as_json)
    if result.problems:
        raise typer.Exit(CheckpointError.exit_code)


@app.command(epilog=examples("resnetcli checkpoints show runs/quick-1", "resnetcli checkpoints show model.safetensors"))
@takes()
def show(ctx: typer.Context, checkpoint: Checkpoint, as_json: AsJson = False) -> None:
    """Show where weights come from and what is known of them."""
    from resnetcli.services import checkpoints as service

    report(service.show(checkpoint), as_json)


@app.command(epilog=examples("resnetcli checkpoints verify runs/quick-1"))
@takes()
def verify(
    ctx: typer.Context,
    target: Annotated[str, _argument("CKPT_OR_RUN", "A checkpoint, or a run directory: all of its checkpoints.")],
    as_json: AsJson = False,
) -> None:
    """Hold every file against the size and digest in its manifest. Exit code 4 if anything is wrong."""
    from resnetcli.services import checkpoints as service

    result = service.verify(target)
    report(result, as_json)
    if result.problems:
        raise typer.Exit(CheckpointError.exit_code)


@app.command(epilog=examples("resnetcli checkpoints prune runs/quick-1 --keep-last 1 --dry-run"))
@takes(TrainConfig, only=("keep_last",))
def prune(
    ctx: typer.Context,
    given: Given,
    run: Run,
    dry_run: Annotated[bool, switch("dry_run", "Only say what would be removed.", "Checkpoints")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old checkpoints of a run; the best and the newest stay."""
    keep_last = resolve(TrainConfig, given).keep_last

    from resnetcli.services import checkpoints as service

    report(service.prune(run, keep_last, dry_run), as_json)


@app.command(epilog=examples("resnetcli checkpoints export runs/quick-1 best.safetensors"))
@takes()
def export(
    ctx: typer.Context,
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="File to write.", show_default=False)],
    force: Annotated[bool, switch("force", "Replace the file if it is there.", "Output")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one portable file: weights, architecture, class names, normalisation and provenance."""
    from resnetcli.services import checkpoints as service

    report(service.export(checkpoint, out, force), as_json)


def report(result: CheckpointsResult, as_json: bool) -> None:
    from resnetcli.reporting import console, files, tables
    from resnetcli.reporting.checkpoints_view import checkpoint_panel

    if as_json:
        sys.stdout.write(files.to_json(result))
    elif result.command.endswith("show"):
        console.stdout().print(*map(checkpoint_panel, result.checkpoints))
    else:
        console.stdout().print(tables.checkpoints(result))

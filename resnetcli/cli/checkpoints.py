"""`resnetcli checkpoints`: list, show, verify, prune, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from resnetcli.cli.groups import Group
from resnetcli.cli.options import AsJson, examples, switch, takes
from resnetcli.cli.resolve import Given, option_name, resolve
from resnetcli.cli.runs import complete_checkpoint, complete_run
from resnetcli.cli.session import LOADING, session_of, write_document
from resnetcli.config.commands import ExportConfig, ReplayConfig
from resnetcli.config.train import TrainConfig
from resnetcli.errors import CheckpointError, UsageError
from resnetcli.events import Notice
from resnetcli.results.checkpoints import CheckpointsResult

app = typer.Typer(
    cls=Group,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="List, show, verify, prune and export checkpoints.",
    epilog=examples(
        "resnetcli checkpoints list runs/fast-1", "resnetcli checkpoints export runs/fast-1 best.safetensors"
    ),
)


def _argument(metavar: str, text: str, complete: Callable[[str], list[str]]) -> Any:
    return typer.Argument(metavar=metavar, help=text, show_default=False, autocompletion=complete)


CKPT = "Run directory (its best), checkpoint directory, .safetensors, foreign file, or pretrained: packaged weights."
EITHER = "A checkpoint, or a run directory: all of its checkpoints."
Run = Annotated[Path, _argument("RUN", "Run directory.", complete_run)]
Checkpoint = Annotated[str, _argument("CKPT", CKPT, complete_checkpoint)]


@app.command(name="list", epilog=examples("resnetcli checkpoints list", "resnetcli checkpoints list runs/fast-1"))
@takes(TrainConfig, only=("output_dir",))
def list_run(
    ctx: typer.Context,
    given: Given,
    run: Annotated[
        Path | None, _argument("RUN", "Run directory; without one, all in --output-dir are listed.", complete_run)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the checkpoints of a run, which is best and which is last; without a run, the runs. Exit code 4 if a
    checkpoint is damaged."""
    folder = resolve(TrainConfig, given).output_dir
    if run is not None and "output_dir" in given.flags:
        raise UsageError(f"--output-dir beside {run}: it is where runs are looked for", "leave out one of them")

    from resnetcli.services import checkpoints as service

    result = service.list_runs(folder) if run is None else service.list_run(run)
    if run is None and not result.runs and not as_json:
        session_of(ctx).notify(Notice(f"there are no runs in {folder}; resnetcli train makes one"))
    report(result, as_json)
    if result.problems:
        raise typer.Exit(CheckpointError.exit_code)


@app.command(epilog=examples("resnetcli checkpoints show runs/fast-1", "resnetcli checkpoints show pretrained"))
@takes()
def show(ctx: typer.Context, checkpoint: Checkpoint, as_json: AsJson = False) -> None:
    """Show where weights come from and what is known of them."""
    from resnetcli.services import checkpoints as service

    report(service.show(checkpoint), as_json)


@app.command(
    epilog=examples("resnetcli checkpoints verify runs/fast-1", "resnetcli checkpoints verify runs/fast-1 --replay")
)
@takes(ReplayConfig)
def verify(
    ctx: typer.Context,
    given: Given,
    target: Annotated[str, _argument("CKPT_OR_RUN", EITHER, complete_checkpoint)],
    replay: Annotated[
        bool,
        switch("replay", "Also compute recorded steps of the run once more, and compare bit for bit.", "Replay"),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hold every file against the size and digest in its manifest. Exit code 4 if anything is wrong.

    With --replay also train from one checkpoint of the run to the next, and hold the weights, the optimiser's state
    and the losses that come out against what the run saved. It changes nothing.
    """
    if given.flags and not replay:
        raise UsageError(f"{option_name(next(iter(given.flags)))} belongs to --replay", "add --replay")
    config = resolve(ReplayConfig, given)

    from resnetcli.services import checkpoints as service

    result = service.verify(target)
    if replay:
        with session_of(ctx).observed(LOADING) as on_event:
            from resnetcli.services import replay as replaying

            replayed = replaying.replay(service.run_directory(Path(target)), config, on_event=on_event)
        result = result.model_copy(update={"replay": replayed})
    report(result, as_json)
    if result.problems or (result.replay is not None and not result.replay.equal):
        raise typer.Exit(CheckpointError.exit_code)


@app.command(epilog=examples("resnetcli checkpoints prune runs/fast-1 --keep-last 1 --dry-run"))
@takes(TrainConfig, only=("keep_last", "soft_lock"))
def prune(
    ctx: typer.Context,
    given: Given,
    run: Run,
    dry_run: Annotated[bool, switch("dry_run", "Only say what would be removed.", "Checkpoints")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old checkpoints of a run; the best and the newest stay."""
    config = resolve(TrainConfig, given)

    from resnetcli.services import checkpoints as service

    report(service.prune(run, config.keep_last, dry_run, config.soft_lock), as_json)


@app.command(
    epilog=examples(
        "resnetcli checkpoints export runs/fast-1 best.safetensors",
        "resnetcli checkpoints export runs/fast-1 small.safetensors --dtype fp16",
    )
)
@takes(ExportConfig)
def export(
    ctx: typer.Context,
    given: Given,
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="File to write.", show_default=False)],
    force: Annotated[bool, switch("force", "Replace the file if it is there.", "Output")] = False,
    as_json: AsJson = False,
) -> None:
    """Write one portable file: weights, architecture, class names, normalisation and provenance.

    Paths of this machine are left out. BatchNorm stays float32 whatever --dtype says.
    """
    dtype = resolve(ExportConfig, given).dtype

    from resnetcli.services import checkpoints as service

    report(service.export(checkpoint, out, force, dtype), as_json)


def report(result: CheckpointsResult, as_json: bool) -> None:
    from resnetcli.reporting import console, files, tables
    from resnetcli.reporting.checkpoints_view import checkpoint_panel

    if as_json:
        write_document(files.to_json(result))
    elif result.command.endswith("show"):
        console.stdout().print(*map(checkpoint_panel, result.checkpoints))
    else:
        console.stdout().print(tables.checkpoints(result))

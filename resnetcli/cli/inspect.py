"""`resnetcli inspect`."""

from __future__ import annotations

import typer

from resnetcli.cli.options import AsJson, examples, takes
from resnetcli.cli.resolve import Given, resolve
from resnetcli.cli.runs import say_pretrained
from resnetcli.cli.session import LOADING, session_of, write_document
from resnetcli.config.commands import InspectConfig
from resnetcli.errors import UsageError
from resnetcli.results.inspect import InspectResult

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(
    epilog=examples(
        "resnetcli inspect",
        "resnetcli inspect --shortcut projection --depth 2",
        "resnetcli inspect runs/fast-1 --batch-size 512",
        "resnetcli inspect --json | jq .macs",
    )
)
@takes(InspectConfig)
def inspect(ctx: typer.Context, given: Given, as_json: AsJson = False) -> None:
    """Show layers, shapes, parameters, multiply-accumulates and where the weights come from.

    --shortcut alone shows the network of that variant without weights.
    """
    if "shortcut" in given.flags and "checkpoint" in given:
        if "checkpoint" in given.flags:
            stated = f"--shortcut {given.words('shortcut')} and the checkpoint {given.words('checkpoint')}"
            raise UsageError(f"{stated}: a checkpoint brings its own network", "leave out one of them")
        given = given.without(["checkpoint"])  # exported: a flag is stronger
    elif "checkpoint" in given.flags:
        given = given.without(["shortcut"])  # exported for other commands
    elif "checkpoint" not in given and "shortcut" not in given:
        say_pretrained(session_of(ctx))
    config = resolve(InspectConfig, given)

    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import inspect as service

        result = service.inspect(config, on_event=on_event)
    report(result, config.depth, as_json)


def report(result: InspectResult, depth: int, as_json: bool) -> None:
    """The tree down to `depth`; the JSON document always has all of it."""
    from resnetcli.reporting import console, files, tables

    if as_json:
        write_document(files.to_json(result))
    else:
        console.stdout().print(tables.network(result, depth))

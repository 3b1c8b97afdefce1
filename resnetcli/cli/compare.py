"""`resnetcli compare`."""

from __future__ import annotations

import typer

from resnetcli.cli.options import AsJson, examples, takes
from resnetcli.cli.report_files import comparison_folder, deliver, write_comparison
from resnetcli.cli.resolve import Given, resolve
from resnetcli.cli.runs import newest_run
from resnetcli.cli.session import LOADING, session_of, write_document
from resnetcli.config.base import PRETRAINED
from resnetcli.config.commands import CompareConfig
from resnetcli.errors import UsageError
from resnetcli.results.compare import CompareResult

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(
    epilog=examples(
        "resnetcli compare runs/fast-1 runs/fast-2",
        "resnetcli compare runs/fast-1 pretrained",
        "resnetcli compare runs/fast-1 resnet50_epoch285.ckpt --tta flip --output report",
        "resnetcli compare runs/fast-1 runs/fast-2 --split val --show 50",
        "resnetcli compare runs/fast-1 runs/fast-2 --json | jq .paired.p",
    )
)
@takes(CompareConfig)
def compare(ctx: typer.Context, given: Given, as_json: AsJson = False) -> None:
    """Compare two checkpoints on the same images: McNemar's test, classes, images on which they differ.

    Both answer the same images, so that far smaller differences show than two separate accuracies could tell apart.
    """
    if "checkpoint_a" not in given:
        newest = newest_run() or "CKPT"
        raise UsageError("no checkpoint given, and two are compared", f"resnetcli compare {newest} {PRETRAINED}")
    if "checkpoint_b" not in given:
        stated = given.words("checkpoint_a")
        other = PRETRAINED if stated != PRETRAINED else newest_run() or "CKPT"
        raise UsageError(f"only one checkpoint given, {stated}", f"resnetcli compare {stated} {other}")
    config = resolve(CompareConfig, given)
    folder = comparison_folder(config)

    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import compare as service

        result = service.compare(config, on_event=on_event)
    deliver(
        result,
        lambda result: result if folder is None else write_comparison(result, folder),
        lambda written: report(written, config.show, as_json),
    )


def report(result: CompareResult, show: int, as_json: bool) -> None:
    """The first `show` images that get different answers; the JSON document always has all of them."""
    from resnetcli.reporting import console, files, tables

    if as_json:
        write_document(files.to_json(result))
    else:
        console.stdout().print(tables.comparison(result, show))

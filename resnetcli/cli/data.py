"""`resnetcli data`: download, verify, show."""

from __future__ import annotations

import typer

from resnetcli.cli.groups import Group
from resnetcli.cli.options import AsJson, examples, takes
from resnetcli.cli.resolve import Given, resolve
from resnetcli.cli.session import LOADING, session_of, write_document
from resnetcli.config.commands import DataConfig, DataShowConfig, DataVerifyConfig
from resnetcli.results.data import DataResult

app = typer.Typer(
    cls=Group,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Fetch, check and look at CIFAR-10.",
    epilog=examples("resnetcli data download", "resnetcli data verify", "resnetcli data show --split test --count 20"),
)


@app.command(epilog=examples("resnetcli data download", "resnetcli data download --source npm --cache-dir /big/disk"))
@takes(DataConfig)
def download(ctx: typer.Context, given: Given, as_json: AsJson = False) -> None:
    """Get CIFAR-10 into the cache, verified. Every command that needs it does this by itself."""
    config = resolve(DataConfig, given)

    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import data as service

        result = service.download(config, on_event)
    report(result, as_json)


@app.command(epilog=examples("resnetcli data verify", "resnetcli data verify --data cifar10-mini --json"))
@takes(DataVerifyConfig)
def verify(ctx: typer.Context, given: Given, as_json: AsJson = False) -> None:
    """Hold every image and label against the canonical digests."""
    config = resolve(DataVerifyConfig, given)

    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import data as service

        result = service.verify(config, on_event)
    report(result, as_json)


@app.command(
    epilog=examples("resnetcli data show", "resnetcli data show --split test --count 100 --output grid.png --scale 4")
)
@takes(DataShowConfig)
def show(ctx: typer.Context, given: Given, as_json: AsJson = False) -> None:
    """Look at some images, in the terminal or as a PNG file."""
    config = resolve(DataShowConfig, given)

    from resnetcli.reporting import console, files, tables

    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import data as service

        result, images = service.show(config, on_event)
    if as_json:
        write_document(files.to_json(result))
    else:
        console.stdout().print(tables.images(result, list(images)))


def report(result: DataResult, as_json: bool) -> None:
    from resnetcli.reporting import console, files, tables

    if as_json:
        write_document(files.to_json(result))
    else:
        console.stdout().print(tables.data(result))

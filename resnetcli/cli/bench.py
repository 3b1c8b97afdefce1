"""`resnetcli bench`: train, infer."""

from __future__ import annotations

import typer

from resnetcli.cli.groups import Group
from resnetcli.cli.options import AsJson, ConfigFile, examples, takes
from resnetcli.cli.recipes import default_recipe
from resnetcli.cli.resolve import Given, resolve, resolve_as_train
from resnetcli.cli.session import LOADING, session_of, write_document
from resnetcli.config.commands import BenchInferConfig, BenchTrainConfig
from resnetcli.results.bench import BenchResult

INFER_OPTIONS = (
    "shortcut",
    "rounds",
    "seconds",
    "device",
    "threads",
    "allow_oversubscription",
    "precision",
    "allow_slow",
)
TRAIN_OPTIONS = (*INFER_OPTIONS, "recipe", "optimizer", "batch_size", "start_size")
"""Settings of a run that decide its speed most; the others are those of the recipe or of --config."""

app = typer.Typer(
    cls=Group,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Measure this machine: beside a plain PyTorch loop and beside its own matrix products.",
    epilog=examples("resnetcli bench train", "resnetcli bench infer --json"),
)


@app.command(
    epilog=examples(
        "resnetcli bench train",
        "resnetcli bench train --precision fp32 --rounds 9",
        "resnetcli bench train --recipe seed --threads 1",
        "resnetcli bench train --json | jq .ratio",
    )
)
@takes(BenchTrainConfig, only=TRAIN_OPTIONS, recipe=default_recipe())
def train(ctx: typer.Context, given: Given, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Training: the steps of `train`, a plain PyTorch loop and matrix products, by turns.

    The images are random, so that nothing is downloaded: speed does not depend on what they show.

    The plain loop is a process of its own: DataLoader, PIL transforms, float32, batches of 100, Adam.

    Both train on images of 32 pixels; smaller ones, with which a run begins, have a row of their own.

    Memory: the most that the tool alone has held in its first turn, its 50,000 images included.
    """
    config, _ = resolve_as_train(BenchTrainConfig, given, config_file)

    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import bench as service

        result = service.train(config, on_event=on_event)
    report(result, as_json)


@app.command(
    epilog=examples(
        "resnetcli bench infer",
        "resnetcli bench infer --shortcut projection --seconds 2",
        "resnetcli bench infer --json | jq .roof_share",
    )
)
@takes(BenchInferConfig, only=INFER_OPTIONS)
def infer(ctx: typer.Context, given: Given, as_json: AsJson = False) -> None:
    """Inference: the pass of `evaluate`, a plain loop over a DataLoader and matrix products, by turns.

    Weights and images are random: speed depends on neither.

    The tool's images lie decoded in memory, as CIFAR-10 does; the plain loop transforms PIL images one by one.

    Memory: the most that the tool alone has held in its first turn, its 10,000 images included.
    """
    config = resolve(BenchInferConfig, given)

    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import bench as service

        result = service.infer(config, on_event=on_event)
    report(result, as_json)


def report(result: BenchResult, as_json: bool) -> None:
    from resnetcli.reporting import console, files, tables

    if as_json:
        write_document(files.to_json(result))
    else:
        console.stdout().print(tables.bench(result))

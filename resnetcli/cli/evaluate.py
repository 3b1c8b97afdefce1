"""`resnetcli evaluate`."""

from __future__ import annotations

import typer

from resnetcli.cli.options import AsJson, examples, takes
from resnetcli.cli.report_files import deliver, evaluation_folder, write_curves_of, write_evaluation
from resnetcli.cli.resolve import Given, resolve
from resnetcli.cli.runs import say_pretrained
from resnetcli.cli.session import LOADING, session_of, write_document
from resnetcli.config.commands import EvaluateConfig
from resnetcli.results.evaluate import EvaluateResult

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(
    epilog=examples(
        "resnetcli evaluate",
        "resnetcli evaluate runs/fast-1",
        "resnetcli evaluate runs/fast-1 --split val --tta flip",
        "resnetcli evaluate runs/fast-1 --output runs/fast-1/report --save-plots",
        "resnetcli evaluate resnet50_epoch285.ckpt --output report --save-plots",
        "resnetcli evaluate runs/fast-1 --json | jq .scores.top1",
    )
)
@takes(EvaluateConfig)
def evaluate(ctx: typer.Context, given: Given, as_json: AsJson = False) -> None:
    """Measure a checkpoint: accuracy by class, confusions, calibration."""
    if "checkpoint" not in given:
        say_pretrained(session_of(ctx))
    config = resolve(EvaluateConfig, given)
    folder = evaluation_folder(config)

    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import evaluate as service

        result = service.evaluate(config, on_event=on_event)

    def write(result: EvaluateResult) -> EvaluateResult:
        if folder is None:
            return result
        written = write_evaluation(result, folder, tables=config.output is not None, plots=config.save_plots)
        if not config.save_plots:
            return written
        return written.model_copy(update={"files": (*written.files, *write_curves_of(config.checkpoint, folder))})

    deliver(result, write, lambda written: report(written, as_json))


def report(result: EvaluateResult, as_json: bool) -> None:
    from resnetcli.reporting import console, files, tables

    if as_json:
        write_document(files.to_json(result))
    else:
        console.stdout().print(tables.evaluation(result))

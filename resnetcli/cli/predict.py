"""`resnetcli predict`."""

from __future__ import annotations

import io
import sys

import typer

from resnetcli.cli.options import AsJson, examples, from_flag, takes
from resnetcli.cli.resolve import Given, resolve
from resnetcli.cli.runs import say_pretrained
from resnetcli.cli.session import LOADING, session_of, write_document
from resnetcli.config.commands import PredictConfig
from resnetcli.errors import DataError, UsageError
from resnetcli.interrupts import StopRequest
from resnetcli.results.predict import Prediction, PredictResult

app = typer.Typer(add_completion=False, rich_markup_mode="rich")


@app.command(
    epilog=examples(
        "resnetcli predict photo.jpg",
        "resnetcli predict pictures/ 'more/*.png' --checkpoint model.safetensors --top-k 5",
        "find . -name '*.jpg' -print0 | resnetcli predict - -0 --checkpoint runs/fast-1 --format jsonl",
        "curl -fsSL https://example.org/photo.jpg | resnetcli predict -",
    )
)
@takes(PredictConfig)
def predict(ctx: typer.Context, given: Given, as_json: AsJson = False) -> None:
    """Classify pictures: files, folders, globs, or a list or a picture on stdin.

    A picture that cannot be read never stops the others; the exit code is 3 if there was one.
    """
    if "paths" not in given:
        raise UsageError("no picture given", "resnetcli predict photo.jpg; - reads paths or a picture from stdin")
    if "checkpoint" not in given:
        say_pretrained(session_of(ctx), "--checkpoint")
    config = resolve(PredictConfig, given)
    if config.null and "-" not in config.paths and "null" in given.flags:
        raise UsageError("--null is about a list on stdin, and none is read", "name - among the paths")
    if as_json and "format" in given.flags and config.format != "json":
        if from_flag(ctx, "as_json"):
            raise UsageError(f"--json and --format {config.format} contradict each other", "give one of them")
        as_json = False  # exported: a flag is stronger
    if as_json:
        config = config.model_copy(update={"format": "json"})

    lines = _Lines(config.format, session_of(ctx).stop) if config.format in ("csv", "jsonl") else None
    with session_of(ctx).observed(LOADING) as on_event:
        from resnetcli.services import predict as service

        result = service.predict(
            config,
            stdin=sys.stdin.buffer if "-" in config.paths else None,
            on_event=on_event,
            on_prediction=lines,
            on_top_k=None if lines is None else lines.begin,
        )
    if lines is None:
        report(result, config.format)
    if result.failed:
        raise typer.Exit(DataError.exit_code)


class _Lines:
    """Lines of csv or jsonl, written one by one: a reader of the pipe can begin at once, and whoever stops the command
    has what was answered until then."""

    def __init__(self, form: str, stop: StopRequest) -> None:
        self.form, self.stop = form, stop
        self.header = ""
        self.top_k = 0

    def begin(self, top_k: int) -> None:
        from resnetcli.reporting import files

        self.top_k = top_k
        if self.form == "csv":
            self.header = files.predictions_csv_header(top_k)
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8")  # names of files, whatever the terminal's own encoding

    def __call__(self, prediction: Prediction) -> None:
        from resnetcli.reporting import files
        from resnetcli.reporting.text import visible

        csv = self.form == "csv"
        line = files.prediction_csv(prediction, self.top_k) if csv else files.to_json_line(prediction)
        if sys.stdout.isatty():  # a file has names as they are
            line = visible(line)
        write_document(self.header + line)
        self.header = ""
        self.stop.raise_if_requested("interrupted")


def report(result: PredictResult, form: str) -> None:
    """The answers as a table or as one JSON document."""
    from resnetcli.reporting import console, files, tables

    if form == "json":
        write_document(files.to_json(result))
    else:
        console.stdout().print(tables.predictions(result))

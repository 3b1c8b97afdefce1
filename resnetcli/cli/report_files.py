"""Reports as files: the folders of `evaluate --output` and `compare --output`, and `report/` in a run directory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import typer

from resnetcli.cli.curves import HISTORY
from resnetcli.config.commands import CompareConfig, EvaluateConfig
from resnetcli.errors import StorageError, named
from resnetcli.events import Notice
from resnetcli.results.compare import CompareResult
from resnetcli.results.evaluate import EvaluateResult
from resnetcli.results.train import REPORT_FOLDER, CurveNotes, EpochRow, TrainResult

TABLES = ("report.json", "per_class.csv", "confusion.csv", "predictions.csv")
PLOTS = ("confusion.png", "calibration.png")
COMPARISON = ("report.json", "differences.csv")

R = TypeVar("R")


def deliver(result: R, write: Callable[[R], R], report: Callable[[R], None]) -> None:
    """`write` the files of `result`, then `report` what it returns.

    Where the disk refuses, what was measured is reported all the same, and the error after it: on stderr, since stdout
    may hold a document by then. Raises typer.Exit with the error's code.
    """
    refused: StorageError | None = None
    try:
        result = write(result)
    except StorageError as error:
        refused = error
    report(result)
    if refused is not None:
        from resnetcli.reporting.console import stderr
        from resnetcli.reporting.errors import render_error

        render_error(refused, stderr())
        raise typer.Exit(refused.exit_code)


def evaluation_folder(config: EvaluateConfig) -> Path | None:
    """The folder that the report will go to, looked at before the measurement so that a bad one costs no time, and not
    made before there is a report.

    None if no files were asked for. Raises UsageError where a file of that name is there already, StorageError where
    the folder could not be made.
    """
    if config.output is None and not config.save_plots:
        return None
    wanted = (*(TABLES if config.output is not None else ()), *(PLOTS if config.save_plots else ()))
    return _checked(config.output or _free_folder(), wanted)


def comparison_folder(config: CompareConfig) -> Path | None:
    """The same for `compare`."""
    return None if config.output is None else _checked(config.output, COMPARISON)


def _checked(folder: Path, wanted: Iterable[str]) -> Path:
    from resnetcli.services.reports import check_free

    check_free(folder, wanted)
    return folder


def write_evaluation(
    result: EvaluateResult, folder: Path, *, tables: bool, plots: bool, parents: bool = True
) -> EvaluateResult:
    """Write tables and plots into `folder`; the result returned names them in `files`."""
    from resnetcli.reporting import files
    from resnetcli.services.reports import write_report

    contents: dict[str, bytes | None] = {}
    if tables:
        texts = (
            files.to_json(result),
            files.per_class_csv(result.scores),
            files.confusion_csv(result.scores),
            files.answers_csv(result.scores, result.answers),
        )
        contents |= {name: text.encode() for name, text in zip(TABLES, texts, strict=True)}
    if plots:
        from resnetcli.reporting.plots import calibration_png, confusion_png

        for name, draw in zip(PLOTS, (confusion_png, calibration_png), strict=True):
            contents[name] = drawn(name, partial(draw, result))
    return result.model_copy(update={"files": write_report(folder, contents, parents=parents)})


def drawn(name: str, draw: Callable[[], bytes]) -> bytes | None:
    """The picture that `draw` returns. Where it cannot be drawn None, and a warning on stderr: what was measured is
    worth more than a picture of it."""
    try:
        return draw()
    except Exception as error:  # whatever it is: no memory left, an incomplete installation, a bug of ours
        from resnetcli.reporting.console import stderr
        from resnetcli.reporting.progress import Observer

        Observer(stderr())(Notice(f"{name} could not be drawn ({named(error)})", warning=True))
        return None


def write_comparison(result: CompareResult, folder: Path) -> CompareResult:
    """Write the whole result and the images that get different answers; the result returned names the files."""
    from resnetcli.reporting import files
    from resnetcli.services.reports import write_report

    texts = (files.to_json(result), files.differences_csv(result))
    contents = {name: text.encode() for name, text in zip(COMPARISON, texts, strict=True)}
    return result.model_copy(update={"files": write_report(folder, contents, parents=True)})


def write_training(result: TrainResult, *, curves: bool = True) -> TrainResult:
    """Write `report/` into the run directory: curves, unless they were refused before, and what the closing measurement
    found."""
    folder = Path(result.run_dir) / REPORT_FOLDER
    if result.history:
        _write_curves(folder, result.history, result.notes, draw=curves)
    if result.measured is None:
        return result
    measured = write_evaluation(result.measured, folder, tables=True, plots=True, parents=False)
    return result.model_copy(update={"measured": measured})


def write_curves_of(checkpoint: str, folder: Path) -> tuple[str, ...]:
    """Write the curves of the run that `checkpoint` names, if it is one, into `folder`, unless there are some."""
    from resnetcli.services.history import read_history

    known = None if (folder / HISTORY).exists() else read_history(Path(checkpoint))
    return () if known is None else _write_curves(folder, *known)


def _write_curves(
    folder: Path, history: Sequence[EpochRow], notes: CurveNotes, *, draw: bool = True
) -> tuple[str, ...]:
    from resnetcli.reporting.plots import history_png
    from resnetcli.services.reports import write_report

    return write_report(folder, {HISTORY: drawn(HISTORY, partial(history_png, history, notes)) if draw else None})


def _free_folder() -> Path:
    """`report`, or `report-2` and so on where that is taken."""
    from resnetcli.services.reports import is_free

    names = (Path("report" if number == 1 else f"report-{number}") for number in count(1))
    return next(path for path in names if is_free(path))

"""Before and after a training run: what it would take, and how it went."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.reporting.layout import Adaptive, epoch_figures, figures_grid, simple_table
from resnetcli.reporting.scores_view import most_confused_table, overall_panel, per_class_table
from resnetcli.results.train import REPORT_FOLDER, DryRunResult, EpochRow, TrainResult

ROWS_SHOWN = 12
"""A longer history shows its first row and its last ones; metrics.csv has them all."""
STOPPED = {
    "finished": "finished",
    "patience": "stopped early: no better validation accuracy for --patience epochs",
    "max_time": "stopped by --max-time; --resume goes on",
}


def train_summary(result: TrainResult, shown: Collection[int] = (), report: Sequence[str] = ()) -> Group:
    """How a run went: history, the closing measurement, where it lies, and what to type next.

    The epochs `shown` had a line in the same place when they ended, and get no other; `report` has the names of the
    files in the report folder.
    """
    parts: list[RenderableType] = []
    unseen = [row for row in result.history if row.epoch not in shown]
    if unseen:
        title = "Epochs" if len(unseen) == len(result.history) else "Epochs before"
        parts.append(history_table(unseen, title, best_epoch(result.history)))
    if result.history:
        parts += [_sparklines(result.history), Text()]
    if result.measured is not None:
        parts += [overall_panel(result.measured), Text(), per_class_table(result.measured.scores), Text()]
        parts += [most_confused_table(result.measured.scores), Text()]
    run = shlex.quote(result.run_dir)
    rows: list[tuple[str, RenderableType]] = [
        ("run", Text(result.run_dir, style="bold")),
        ("checkpoint", Text(result.checkpoint)),
        *_report_rows(Path(result.run_dir) / REPORT_FOLDER, report),
        (
            "trained",
            f"{text.plural(result.epochs, 'epoch')}, {text.plural(result.steps, 'step')}, "
            f"{text.duration(result.train_seconds)}; {STOPPED.get(result.stopped, result.stopped)}",
        ),
        *_best_row(result.history),
        *_temperature_row(result),
        ("next", Text(f"resnetcli evaluate {run}", style="cyan")),
        ("", Text(f"resnetcli predict PICTURE --checkpoint {run}", style="cyan")),
    ]
    parts.append(figures_grid(rows))
    return Group(*parts)


def _report_rows(folder: Path, names: Sequence[str]) -> list[tuple[str, RenderableType]]:
    """Where the report is, and under it its pictures and its tables."""
    pictures = ", ".join(name for name in names if name.endswith(".png"))
    tables = ", ".join(name for name in names if not name.endswith(".png"))
    rows = [("pictures", pictures), ("tables", tables)]
    return [("report", Text(str(folder))), *((name, Text(value)) for name, value in rows if value)] if names else []


def _best_row(history: Sequence[EpochRow]) -> list[tuple[str, RenderableType]]:
    best = best_epoch(history)
    if best is None:
        return []
    row = next(row for row in history if row.epoch == best)
    return [("best", f"epoch {best}, top-1 {text.percent(row.val_top1 or 0.0)} on the validation images")]


def _temperature_row(result: TrainResult) -> list[tuple[str, RenderableType]]:
    """Why probabilities are as the network gives them, where a temperature could have been fitted."""
    if result.measured is None or result.measured.temperature is not None or best_epoch(result.history) is None:
        return []
    return [("temperature", "none: validation images held out of its fit do not gain by one")]


def best_epoch(history: Sequence[EpochRow]) -> int | None:
    """The first epoch with the best accuracy on the validation images; None without such images."""
    measured = [(row.val_top1, -row.epoch) for row in history if row.val_top1 is not None]
    return -max(measured)[1] if measured else None


def history_table(history: Sequence[EpochRow], title: str = "Epochs", best: int | None = None) -> Adaptive:
    """One row per epoch, the `best` one marked; the middle of a long history is left out."""
    return Adaptive(lambda level: _history(history, title, best, level), last_level=1)


def _history(history: Sequence[EpochRow], title: str, best: int | None, level: int) -> Table:
    names = ["epoch", "train loss", "top-1", "val loss", "val top-1", "lr", "images/s", "time"]
    names = names[: (8, 5)[level]]
    table = simple_table(title)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for index, row in enumerate(history):
        if len(history) > ROWS_SHOWN and 0 < index <= len(history) - ROWS_SHOWN:
            if index == 1:
                table.add_row("…")
            continue
        is_best = row.epoch == best
        cells = (
            text.count(row.epoch),
            *epoch_figures(row),
        )
        table.add_row(*cells[: len(names)], "★" if is_best else "", style="green" if is_best else "")
    return table


def dry_run(result: DryRunResult) -> Group:
    """Every setting with where it came from, and what the whole run would need."""
    settings = simple_table("Settings")
    settings.add_column("setting", no_wrap=True)
    settings.add_column("value", overflow="fold")
    settings.add_column("from", no_wrap=True)
    for name, value in result.config.items():
        if value == []:
            continue  # extensions, of a run that has none
        origin = result.origins.get(name, "")
        if origin == "scaled":
            origin = f"recipe, scaled for batch size {result.config['batch_size']}"
        settings.add_row(name, Text(_value(value)), origin, style="dim" if origin == "default" else "")
    enough = result.disk_needed <= result.disk_free
    rows: list[tuple[str, RenderableType]] = [
        ("device", f"{result.device}, {result.precision}"),
        ("network", f"{text.count(result.parameters)} parameters"),
        ("images", f"{text.count(result.train_images)} to train on, {text.count(result.val_images)} to validate on"),
        ("steps", text.count(result.steps)),
        ("first step", f"loss {result.first_loss:.4f} after {text.duration(result.step_seconds)}"),
        *_slower_steps(result),
        ("time", f"about {text.duration(result.estimated_seconds)}"),
        ("memory", f"{text.size(result.peak_memory)} at the peak"),
        (
            "disk",
            Text(
                f"{text.size(result.disk_needed)} needed, {text.size(result.disk_free)} free",
                style="" if enough else "bold red",
            ),
        ),
    ]
    needs = Panel(figures_grid(rows), title="The run would take", title_align="left", box=box.ROUNDED, expand=False)
    parts: list[RenderableType] = [settings, Text()]
    if result.rates:
        parts += [_rates(result), Text()]
    return Group(*parts, needs)


def _rates(result: DryRunResult) -> Table:
    """Learning rates before an extension, dim, and after it; a gap between epochs is a line of its own."""
    table = simple_table("Learning rate")
    for name in ("epoch", "first step", "last step"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    before = result.rates[0].epoch
    for rate in result.rates:
        if rate.epoch > before + 1:
            table.add_row("…")
        cells = (text.count(rate.epoch), f"{rate.first:.3g}", f"{rate.last:.3g}")
        table.add_row(*cells, "extended" if rate.extended else "", style="" if rate.extended else "dim")
        before = rate.epoch
    return table


def _slower_steps(result: DryRunResult) -> list[tuple[str, str]]:
    """A row on the steps with larger images, where the run has some."""
    if result.last_step_seconds == result.step_seconds:
        return []
    first, last = text.duration(result.step_seconds), text.duration(result.last_step_seconds)
    return [("a step", f"{first}, later, with larger images, {last}")]


def _sparklines(history: Sequence[EpochRow]) -> RenderableType:
    series: list[tuple[str, list[float | None], bool]] = [
        ("train loss", [row.train_loss for row in history], False),
        ("val loss", [row.val_loss for row in history], False),
        ("train top-1", [row.train_top1 for row in history], True),
        ("val top-1", [row.val_top1 for row in history], True),
    ]
    rows: list[tuple[str, RenderableType]] = []
    for name, values, is_share in series:
        known = [value for value in values if value is not None]
        if len(known) < 2:
            continue
        first, last = (text.percent(v) if is_share else f"{v:.4f}" for v in (known[0], known[-1]))
        rows.append((name, Text(f"{text.sparkline(values)}  {first} → {last}")))
    return figures_grid(rows)


def _value(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):  # extensions: the one setting that is a list
        return "; ".join(_extension(entry) for entry in value)
    return str(value)


def _extension(entry: Mapping[str, object]) -> str:
    """`stretch after epoch 3, of 3 planned`: where a run goes on by another plan, and how many epochs it had before."""
    inside = f" and {entry['step']} steps" if entry["step"] else ""
    return f"{entry['policy']} after epoch {entry['epoch']}{inside}, of {entry['epochs']} planned"

"""The few shapes that all our reports are made of."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from resnetcli.reporting import text
from resnetcli.results.train import EpochRow


def simple_table(title: str | Text = "", caption: str | Text = "") -> Table:
    """An empty table in the style of all ours: a rule under the header and nothing else."""
    return Table(
        title=title or None,
        caption=caption or None,
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="dim",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )


def figures_grid(rows: list[tuple[str, RenderableType]]) -> Table:
    """Names on the left, what is known of them on the right."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    return grid


def files_written(paths: tuple[str, ...]) -> Text:
    """The files that a command wrote, one a line."""
    return Text("\n").join([Text("wrote:", style="bold"), *(Text(f"  {path}") for path in paths)])


class Adaptive:
    """A table that gives up columns where there is no room, before a number is cut in half.

    `build(0)` is the whole table; each further level, up to `last_level`, has less.
    """

    def __init__(self, build: Callable[[int], Table], last_level: int) -> None:
        self.build = build
        self.last_level = last_level

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for level in range(self.last_level + 1):
            table = self.build(level)
            if Measurement.get(console, options.update(width=10_000), table).maximum <= options.max_width:
                break
        yield table


def epoch_figures(row: EpochRow) -> tuple[str, ...]:
    """What the table of a run and the line of an epoch both say: losses and accuracies, lr, images/s, time."""
    return (
        f"{row.train_loss:.4f}",
        text.percent(row.train_top1),
        "–" if row.val_loss is None else f"{row.val_loss:.4f}",
        "–" if row.val_top1 is None else text.percent(row.val_top1),
        f"{row.lr:.3g}",
        f"{row.images_per_s:,.0f}",
        text.duration(row.seconds),
    )

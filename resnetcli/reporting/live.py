"""Bars that move, under the lines that stay: for a terminal."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from resnetcli.reporting.progress import Clock
from resnetcli.reporting.redrawn import Redrawn, Row

MAX_BAR = 40
MIN_BAR = 10
"""Below so many columns a bar shows nothing that the count does not, and the count gets its room."""
ECHO = 3
"""Columns behind the last line that stay free: a terminal shows Ctrl-C there as ^C, and one that wrapped would move all
that rich has counted."""


class LiveProgress(Redrawn):
    """A bar for the epoch, or for the task in its place, one for the run, and a line of figures.

    A redraw costs about 2 ms of the training's own thread: two a second are half a per cent.
    """

    redraw_seconds = 0.5

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(console, clock)
        self._live = Live(
            console=console,
            auto_refresh=False,
            redirect_stdout=False,  # results leave through stdout, and must arrive there even while bars are shown
            transient=True,
            get_renderable=self.view,
        )
        self._started = False

    def draw(self) -> None:
        if not self._started:
            self._started = True
            self._live.start()
            # rich hides the cursor. A process that is killed (out of memory, a second Ctrl-C) could not bring it back.
            self.console.show_cursor(True)
        self._live.refresh()

    def stopping(self, line: str) -> str:
        words = super().stopping(line)
        return f"\r\x1b[K{words}" if self._started else f"\n{words}\n"  # over the last line: rich counts lines

    def close(self) -> None:
        if self._started:
            self._started = False
            self._live.stop()

    def view(self) -> RenderableType:
        """What is drawn: no line of it is wider than the console."""
        width = self.console.width
        parts: list[RenderableType] = []
        if rows := self.rows():
            parts.append(_bars(rows, width))
        if status := self.status(width - ECHO):
            parts.append(Text(status, no_wrap=True, overflow="ellipsis"))
        return Group(*parts)


def _bars(rows: list[Row], width: int) -> Table:
    """One line for each row: name, bar, count, time left. Where there is no room, first the words go, then the time."""
    names = [row.name for row in rows]
    for counts, times in (
        ([row.count for row in rows], [row.left for row in rows]),
        ([row.short for row in rows], [row.left for row in rows]),
        ([row.short for row in rows], ["" for row in rows]),
    ):
        texts = sum(max(map(len, column)) + 2 for column in (names, counts, times) if any(column))
        if width - texts >= MIN_BAR:
            break
    bar = min(MAX_BAR, width - texts)
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, overflow="ellipsis")
    if bar > 0:
        table.add_column(width=bar)
    for _ in (counts, times):
        table.add_column(justify="right", no_wrap=True, overflow="ellipsis")
    for row, count, left in zip(rows, counts, times, strict=True):
        shown = "" if row.total is None else ProgressBar(total=row.total, completed=row.done, width=bar)
        table.add_row(row.name, *([shown] if bar > 0 else []), count, Text(left, style="cyan"))
    return table

"""One line that is written over, under the lines that stay: for a notebook, where no cursor can be moved up."""

from __future__ import annotations

import time

from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from resnetcli.reporting.progress import Clock
from resnetcli.reporting.redrawn import Redrawn


class OneLineProgress(Redrawn):
    """Epoch, step, figures and time left in one line, after a carriage return and padded with spaces: notebooks know no
    sequence that erases."""

    redraw_seconds = 1.0

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(console, clock)
        self._shown = 0
        """Characters of the line that the cursor is in."""

    def show_line(self, line: str | Text) -> None:
        self.close()
        super().show_line(line)

    def draw(self) -> None:
        line = self.line(self.console.width - 1)  # in the last column the cursor of some terminals jumps to a new line
        self._write(line.ljust(self._shown))
        self._shown = len(line)

    def stopping(self, line: str) -> str:
        words, self._shown = super().stopping(line).ljust(self._shown), self._shown or len(line)
        return f"\r{words}"

    def close(self) -> None:
        if self._shown:
            self._write(" " * self._shown)
            self._write("")
            self._shown = 0

    def line(self, width: int) -> str:
        """The epoch, or the task in its place, with the figures that have room, and the time left of the whole."""
        rows = self.rows()
        if not rows:
            return self.status(width)
        head, left = f"{rows[0].name}  {rows[0].short}", rows[-1].left
        figures = self.status(width - len(head) - len(left) - 4)
        return "  ".join(part for part in (head, figures, left) if part)[:width]

    def _write(self, words: str) -> None:
        """From the start of the line that the cursor is in."""
        self.console.control(Control(ControlType.CARRIAGE_RETURN))
        self.console.print(Text(words), end="", soft_wrap=True)

"""The confusion matrix as a heat map of characters: counts and shares to read, colours to see."""

from __future__ import annotations

from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from resnetcli.results.evaluate import Scores

CELL_WIDTH = 7
NARROWEST_CELL = 5
"""Room for four digits and a space."""
NARROWEST_NAME, WIDEST_NAME = 4, 16
RIGHT = (38, 120, 178)
WRONG = (213, 94, 0)
"""Blue and vermilion of Okabe and Ito's palette, which colour-blind readers tell apart."""
DARK = (28, 28, 28)


class ConfusionHeatmap:
    """Rows: actual class; columns: predicted class; in each cell the count and its share of the row."""

    def __init__(self, scores: Scores) -> None:
        self.scores = scores

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = [c.name for c in self.scores.classes]
        longest = min(WIDEST_NAME, max(map(len, names)))
        room = options.max_width - 1 - NARROWEST_CELL * len(names)
        name_width = max(NARROWEST_NAME, min(longest, room))
        cell = min(CELL_WIDTH, (options.max_width - 1 - name_width) // len(names))
        yield Text("Confusion: actual class in rows, predicted class in columns", style="bold")
        if cell < NARROWEST_CELL:
            needed = NARROWEST_NAME + 1 + NARROWEST_CELL * len(names)
            yield Text(
                f"{len(names)} classes need {needed} columns and there are {options.max_width}; "
                "evaluate --output FOLDER writes the matrix to confusion.csv"
            )
            return
        header = "".join(name[: cell - 1].rjust(cell) for name in names)
        yield Text(" " * (name_width + 1) + header, style="bold", no_wrap=True)
        worst = max((pair.share for pair in self.scores.most_confused), default=1.0)
        for i, row in enumerate(self.scores.confusion):
            counts = Text(names[i][:name_width].ljust(name_width + 1), style="bold", no_wrap=True)
            shares = Text(" " * (name_width + 1), no_wrap=True)
            total = sum(row)
            for j, count in enumerate(row):
                share = count / total if total else 0.0
                style = _style(share, worst, right=i == j)
                counts.append(f"{count} ".rjust(cell) if count else "· ".rjust(cell), style)
                shares.append(f"{_share(share, cell)} ".rjust(cell) if count else " " * cell, style)
            yield counts
            yield shares


def _share(share: float, cell: int) -> str:
    if share < 0.9995 and cell >= CELL_WIDTH:
        return f"{100 * share:.1f}%"
    return f"{100 * share:.0f}%"


def _style(share: float, worst: float, *, right: bool) -> Style:
    """Background from dark to full colour: the diagonal by its share, a mistake by its share of the worst mistake."""
    if share == 0:
        return Style(dim=True)
    strength = share if right else min(1.0, share / worst)
    full = RIGHT if right else WRONG
    red, green, blue = (round(low + strength * (high - low)) for low, high in zip(DARK, full, strict=True))
    return Style(color="bright_white", bgcolor=Color.from_rgb(red, green, blue), bold=right)

"""The confusion matrix as a heat map of characters: counts and shares to read, colours to see."""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from resnetcli.results.evaluate import Scores

CELL_WIDTH = 7
NARROWEST_CELL = 5
"""Room for four digits and a space."""
NARROWEST_NAME, WIDEST_NAME = 4, 16

Shades = tuple[tuple[float, str], ...]
"""From which share on a cell has which style, in rising order."""
RIGHT: Shades = tuple((share, f"color(16) on color({n})") for share, n in ((0, 109), (0.5, 110), (0.7, 75), (0.9, 33)))
WRONG: Shades = tuple(
    (share, f"color(16) on color({n})") for share, n in ((0.02, 137), (0.05, 209), (0.1, 208), (0.2, 202))
)
"""Blue and orange, which colour-blind readers tell apart, from greyish to vivid. Nobody knows what is behind the cells:
so all are of a middling lightness, seen on black and on white, and carry black digits (contrast 6:1 at least). Of the
256 colours these are the ones that no theme changes, hence the same on terminals with more."""
RIGHT_OF_16: Shades = ((0, "black on cyan"), (0.5, "bright_white on blue"))
WRONG_OF_16: Shades = ((0.05, "black on yellow"), (0.2, "bright_white on red"))


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
        rich = console.color_system in ("256", "truecolor")
        right, wrong = (RIGHT, WRONG) if rich else (RIGHT_OF_16, WRONG_OF_16)
        for i, row in enumerate(self.scores.confusion):
            counts = Text(names[i][:name_width].ljust(name_width + 1), style="bold", no_wrap=True)
            shares = Text(" " * (name_width + 1), no_wrap=True)
            total = sum(row)
            for j, count in enumerate(row):
                share = count / total if total else 0.0
                style = _style(share, right if i == j else wrong, bold=i == j)
                counts.append(f"{count} ".rjust(cell) if count else "· ".rjust(cell), style)
                shares.append(f"{_share(share, cell)} ".rjust(cell) if count else " " * cell, style)
            yield counts
            yield shares


def _share(share: float, cell: int) -> str:
    if share < 0.9995 and cell >= CELL_WIDTH:
        return f"{100 * share:.1f}%"
    return f"{100 * share:.0f}%"


def _style(share: float, shades: Shades, *, bold: bool) -> Style:
    """Of the last shade that begins at or below `share`; nothing is in an empty cell."""
    if share == 0:
        return Style(dim=True)
    name = next((name for begin, name in reversed(shades) if share >= begin), "")
    return Style.parse(name) + Style(bold=bold)

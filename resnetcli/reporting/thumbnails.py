"""Pictures in a bare terminal: two pixels a character, one in its foreground and one in its background colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.style import Style
from rich.text import Text

SMALL, LARGE = 16, 32
"""Pixels a side; one pixel is one column wide and half a line high."""
MOST_LARGE = 12
"""More pictures than this are drawn small, so that they do not scroll away."""
GAP = 2


class Thumbnails:
    """A grid of images: uint8[N][32][32][3] (an array or nested sequences), each over its class name.

    `pixels` is the side that they are drawn with, 16 or 32; None decides by their number. Where nothing can be drawn,
    for want of a terminal, colours or letters, `instead` is shown.
    """

    def __init__(
        self, images: Sequence[Any], names: Sequence[str], pixels: int | None = None, *, instead: RenderableType
    ) -> None:
        if len(images) != len(names):
            raise ValueError(f"{len(images)} images but {len(names)} names")
        self.instead = instead
        self.images = images
        self.names = names
        self.pixels = pixels or (LARGE if len(images) <= MOST_LARGE else SMALL)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if console.no_color or options.ascii_only or console.color_system not in ("256", "truecolor"):
            yield self.instead
            return
        columns = max(1, (options.max_width + GAP) // (self.pixels + GAP))
        for start in range(0, len(self.images), columns):
            row = [_shrunk(image, self.pixels) for image in self.images[start : start + columns]]
            for y in range(0, self.pixels, 2):
                yield Text(" " * GAP).join([_line(image[y], image[y + 1]) for image in row])
            names = [name[: self.pixels].center(self.pixels) for name in self.names[start : start + columns]]
            yield Text((" " * GAP).join(names), no_wrap=True)


def _shrunk(image: Any, pixels: int) -> list[list[tuple[int, int, int]]]:
    """The image as rows of (red, green, blue), each the mean of a square of its pixels."""
    factor = len(image) // pixels
    return [[_mean(image, y * factor, x * factor, factor) for x in range(pixels)] for y in range(pixels)]


def _mean(image: Any, top: int, left: int, side: int) -> tuple[int, int, int]:
    red, green, blue = (
        sum(int(image[y][x][channel]) for y in range(top, top + side) for x in range(left, left + side)) // side**2
        for channel in range(3)
    )
    return red, green, blue


def _line(upper: list[tuple[int, int, int]], lower: list[tuple[int, int, int]]) -> Text:
    line = Text(no_wrap=True)
    for above, below in zip(upper, lower, strict=True):
        line.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
    return line

"""The two consoles: results on stdout, everything else on stderr.

What they can show is decided here and nowhere else: `NO_COLOR` beats `FORCE_COLOR`, which beats `TERM=dumb` and pipes;
`COLUMNS` sets the width; a stream that is not UTF-8 gets ASCII. Whatever is forced, bars move on a terminal only, and
only on one that lets a program go back over its lines.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import IO, Any, Literal, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from resnetcli.reporting.text import visible

WIDTH_WITHOUT_TERMINAL = 100
"""Columns of a pipe or file: enough for every table of ours."""

DUMB = ("dumb", "unknown", "emacs")
"""Values of TERM for what shows characters one after another and nothing else."""

_GLYPHS = {
    ".": "…·▂",
    "-": "–—−─━╴╸╺╶▄",
    "~": "±▅",
    "x": "×✗",
    "*": "★•",
    "+": "✓┌┐└┘├┤┬┴┼╭╮╰╯",
    "|": "│┃",
    ">": "→",
    "_": "▁",
    ",": "▃",
    "=": "▆▇",
    "#": "█▉▊▋▌▀",
    " ": "▍▎▏",
}
ASCII_SUBSTITUTES = str.maketrans({glyph: plain for plain, glyphs in _GLYPHS.items() for glyph in glyphs})
"""One character for one, so that columns stay aligned."""


class _SafeConsole(Console):
    """Shows what files say, and lets none of it speak to the terminal: a class name may hold an escape sequence.

    Where there is no terminal, a line that is not to be wrapped is not cut off at its width either.
    """

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*objects, **{"crop": self.is_terminal, **how})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


class _Stream(io.TextIOBase):
    """Passes everything on to another text stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]  # rich asks it whether boxes may be drawn
        return self._stream.encoding

    def write(self, text: str) -> int:
        self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


class _AsciiStream(_Stream):
    """Writes to a text stream that cannot show our glyphs, in ASCII; letters of a file's name pass where they can."""

    def write(self, text: str) -> int:
        return super().write(text.translate(ASCII_SUBSTITUTES))


class _Optional(_Stream):
    """Writes to a text stream for as long as it takes anything. A terminal that was closed, a pipe that nobody reads or
    a full disk ends what is said about the work, never the work."""

    def write(self, text: str) -> int:
        try:
            super().write(text)
        except OSError:
            self._fall_silent()
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            self._fall_silent()

    def _fall_silent(self) -> None:
        """What is still in buffers goes nowhere; Python would fail once more when it flushes them at exit."""
        with suppress(OSError, ValueError):  # a stream without a file descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def stdout() -> Console:
    """The console for results."""
    return console_for(sys.stdout)


def stderr() -> Console:
    """The console for progress and messages: where they cannot be written, they are not."""
    return console_for(sys.stderr, optional=True)


def console_for(stream: TextIO, *, optional: bool = False) -> Console:
    """A console that writes to `stream` as the environment and the stream's encoding allow; where `optional`, without
    an error when the stream takes nothing any longer."""
    if isinstance(stream, io.TextIOWrapper):
        # Lone surrogates in file names cannot be encoded even as UTF-8, and a report must not die of one.
        stream.reconfigure(errors="replace")
    if optional:
        stream = cast(TextIO, _Optional(stream))
    terminal = stream.isatty() and os.environ.get("TERM", "").lower() not in DUMB
    return _SafeConsole(
        file=stream if _is_unicode(stream) else cast(IO[str], _AsciiStream(stream)),
        force_terminal=terminal,
        force_interactive=terminal,
        color_system=_color_system(terminal),
        no_color=bool(os.environ.get("NO_COLOR")),
        width=_width(stream),
        # What users and files say is text: "[/]" in a path is no markup, and a number needs no colour.
        markup=False,
        emoji=False,
        highlight=False,
    )


def redrawing(console: Console) -> Literal["lines", "line", "nothing"]:
    """What a program can draw again on this console: any of its last lines, only the one that the cursor is in, or
    nothing at all.

    A cell of a notebook that runs `!command` gives it a pseudo-terminal, but shows what comes out as a page: colours
    and a carriage return work, moving the cursor up does not, and each bar that is redrawn leaves a copy behind. The
    kernel can be told by what it sets for its children: JPY_PARENT_PID, or else a pager `cat` and the terminal
    `xterm-color` (ipykernel; Visual Studio Code starts it by itself). The variables of an editor or a host (VSCODE_…,
    COLAB_…) tell nothing: they are in its real terminals too. A terminal without a name or without a size is none that
    anybody is known to draw. In continuous integration (CI) a terminal ends in a log.
    """
    if not console.is_terminal or os.environ.get("CI", "").lower() not in ("", "0", "false"):
        return "nothing"
    kernel = (os.environ.get("TERM"), os.environ.get("GIT_PAGER")) == ("xterm-color", "cat")
    nameless = os.name != "nt" and not os.environ.get("TERM")
    if os.environ.get("JPY_PARENT_PID") or kernel or nameless or _without_size(console.file):
        return "line"
    return "lines"


def _without_size(stream: IO[str]) -> bool:
    try:
        return os.get_terminal_size(stream.fileno()).columns == 0
    except (OSError, ValueError):
        return False  # not a terminal of this system: nothing is known of it


def same_place(a: TextIO, b: TextIO) -> bool:
    """Whether what is written to both can be read in one place: a terminal, a file, a pipe."""
    try:
        there, here = os.fstat(a.fileno()), os.fstat(b.fileno())
    except (OSError, ValueError):
        return False
    if not there.st_ino:  # Windows numbers files only
        return a.isatty() and b.isatty()
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def _is_unicode(stream: TextIO) -> bool:
    encoding = getattr(stream, "encoding", None) or "utf-8"  # io.StringIO has none and takes everything
    return encoding.lower().replace("_", "-").startswith("utf")


def _color_system(terminal: bool) -> Literal["auto", "256", "truecolor"] | None:
    if os.environ.get("NO_COLOR"):
        return "auto" if terminal else None
    if terminal:
        return "auto"
    if os.environ.get("FORCE_COLOR", "0") in ("", "0"):
        return None
    return "truecolor" if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit") else "256"


def _width(stream: TextIO) -> int | None:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return None if stream.isatty() else WIDTH_WITHOUT_TERMINAL

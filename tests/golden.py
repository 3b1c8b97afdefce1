"""Streams to draw on, and comparison with the files of tests/golden.

`RESNETCLI_UPDATE_GOLDEN=1 python -m pytest tests/reporting` writes those files anew; read the difference before you
keep it.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from rich.console import RenderableType

from resnetcli.reporting.console import console_for

FOLDER = Path(__file__).parent / "golden"


class Stream(io.TextIOWrapper):
    """A text stream in memory that may claim to be a terminal."""

    def __init__(self, encoding: str = "utf-8", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, newline="\n")
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode(self.encoding)


def drawn(renderable: RenderableType, encoding: str = "utf-8", terminal: bool = False) -> str:
    """What a stream receives when `renderable` is printed as a command prints it."""
    stream = Stream(encoding, terminal)
    console_for(stream).print(renderable)
    return stream.text()


def assert_golden(name: str, text: str) -> None:
    """`text` is what tests/golden/NAME.txt holds, spaces at the ends of lines aside."""
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    path = FOLDER / f"{name}.txt"
    if os.environ.get("RESNETCLI_UPDATE_GOLDEN"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")

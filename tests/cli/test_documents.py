"""A signal that arrives while a result is written: one whole document, and the exit code tells."""

from __future__ import annotations

import io
import json
import signal
import sys

import pytest

from resnetcli.cli.main import run
from resnetcli.interrupts import StopRequest


class Interrupting(io.StringIO):
    """Stdout during whose first write SIGINT arrives."""

    def __init__(self, stop: StopRequest) -> None:
        super().__init__()
        self.stop = stop

    def write(self, text: str) -> int:
        if self.stop.signum is None:
            self.stop._handle(signal.SIGINT, None)
        return super().write(text)


@pytest.mark.parametrize("line", ["inspect --shortcut identity --json", "checkpoints show pretrained --json"])
def test_the_document_is_whole_and_the_only_one(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    stdout = Interrupting(stop)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert run(line.split(), stop) == 130
    assert json.loads(stdout.getvalue())["command"] == line.rsplit(" ", 3 if "show" not in line else 2)[0]


def test_lines_end_behind_the_one_that_was_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = StopRequest()
    stdout = Interrupting(stop)
    monkeypatch.setattr(sys, "stdout", stdout)
    assert run(["predict", "none.png", "nothing.png", "--format", "jsonl"], stop) == 130
    assert [json.loads(line)["path"] for line in stdout.getvalue().splitlines()] == ["none.png"]

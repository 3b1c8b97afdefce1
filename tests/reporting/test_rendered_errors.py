"""Errors for people and for programs."""

from __future__ import annotations

import json
import signal

import pytest

from resnetcli.errors import DataError, Interrupted, ResnetCliError
from resnetcli.reporting.console import console_for
from resnetcli.reporting.errors import error_json, render_error
from tests.golden import Stream


def rendered(error: ResnetCliError, terminal: bool = False, encoding: str = "utf-8") -> str:
    stream = Stream(encoding, terminal)
    render_error(error, console_for(stream))
    return stream.text()


def test_an_error_is_its_message_and_below_it_the_hint() -> None:
    assert rendered(DataError("no such file: [x]", "look again")) == "error: no such file: [x]\nhint: look again\n"


def test_an_error_without_a_hint_is_one_line() -> None:
    assert rendered(DataError("broken")) == "error: broken\n"


def test_an_error_is_not_broken_into_lines_so_that_a_path_can_be_copied() -> None:
    assert rendered(DataError("x" * 300)).count("\n") == 1


def test_an_error_is_red_on_a_terminal() -> None:
    assert "\x1b[1;31merror: " in rendered(DataError("broken"), terminal=True)


def test_an_error_reaches_an_ascii_stream() -> None:
    assert rendered(DataError("step 3 … “gone”"), encoding="ascii") == "error: step 3 . ?gone?\n"


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [(DataError("m", "h"), "data", 3), (Interrupted(signal.SIGINT, "m", "h"), "interrupted", 130)],
)
def test_an_error_as_json_is_one_document(error: ResnetCliError, kind: str, code: int) -> None:
    document = json.loads(error_json(error))
    assert document == {
        "schema_version": 2,
        "error": {"kind": kind, "exit_code": code, "message": "m", "hint": "h"},
    }

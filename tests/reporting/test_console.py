"""What the surroundings ask for is what a stream gets."""

from __future__ import annotations

import pytest
from rich.text import Text

from resnetcli.reporting.console import ASCII_SUBSTITUTES, WIDTH_WITHOUT_TERMINAL, console_for, stderr, stdout
from resnetcli.reporting.tables import evaluation
from resnetcli.reporting.text import bar, sparkline
from tests.golden import Stream, drawn
from tests.reporting.examples import CLASSES, evaluate_result

RED = Text("word", style="red")


def test_a_pipe_gets_no_escape_sequence() -> None:
    assert drawn(RED) == "word\n"


def test_a_terminal_gets_colour() -> None:
    assert "\x1b[31m" in drawn(RED, terminal=True)


def test_no_color_leaves_a_terminal_without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in drawn(RED, terminal=True)


def test_an_empty_no_color_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    assert "\x1b[31m" in drawn(RED, terminal=True)


def test_force_color_colours_a_pipe_but_makes_no_terminal_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m" in drawn(RED)
    assert not console_for(Stream()).is_terminal


@pytest.mark.parametrize("terminal", [False, True])
def test_no_color_beats_force_color(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert drawn(RED, terminal=terminal) == "word\n"


@pytest.mark.parametrize("value", ["", "0"])
def test_force_color_that_is_empty_or_0_forces_nothing(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FORCE_COLOR", value)
    assert drawn(RED) == "word\n"


def test_a_dumb_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert drawn(RED, terminal=True) == "word\n"
    assert not console_for(Stream(terminal=True)).is_terminal


def test_a_pipe_is_wide_enough_for_the_tables() -> None:
    assert console_for(Stream()).width == WIDTH_WITHOUT_TERMINAL == 100


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("columns", [60, 200])
def test_columns_sets_the_width(monkeypatch: pytest.MonkeyPatch, columns: int, terminal: bool) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert console_for(Stream(terminal=terminal)).width == columns


@pytest.mark.parametrize("columns", ["", "0", "wide", "-5"])
def test_columns_that_is_no_width_is_ignored(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert console_for(Stream()).width == WIDTH_WITHOUT_TERMINAL


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437"])
def test_a_stream_that_is_not_utf8_gets_glyphs_in_ascii(encoding: str) -> None:
    glyphs = "…–—−±×·★" + bar(0.55, 10) + sparkline([1, 2, 3, 4, 5, 6, 7, 8])
    text = drawn(Text(glyphs), encoding)
    assert text.isascii()
    assert "?" not in text
    assert len(text.rstrip("\n")) == len(glyphs)


def test_letters_that_a_stream_can_show_pass_and_others_become_question_marks() -> None:
    assert drawn(Text("Vögel 鳥"), "cp1252") == "Vögel ?\n"


def test_a_file_name_that_is_not_unicode_does_not_stop_a_utf8_stream() -> None:
    assert drawn(Text("caf\udce9.png")) == "caf?.png\n"


def test_every_substitute_is_one_ascii_character() -> None:
    values = [value if isinstance(value, str) else chr(value) for value in ASCII_SUBSTITUTES.values()]
    assert all(len(value) == 1 and value.isascii() for value in values)


def test_text_is_never_read_as_markup_or_emoji() -> None:
    assert drawn("[red]a[/red] :smile: [/]") == "[red]a[/red] :smile: [/]\n"


def test_the_two_consoles_write_to_the_streams_of_the_moment(capsys: pytest.CaptureFixture[str]) -> None:
    stdout().print("result")
    stderr().print("message")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("result\n", "message\n")


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_line_of_a_report_is_wider_than_its_console(
    monkeypatch: pytest.MonkeyPatch, columns: int, encoding: str
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = drawn(evaluation(evaluate_result()), encoding).split("\n")
    assert max(map(len, lines)) <= columns
    assert len(lines) > len(CLASSES)

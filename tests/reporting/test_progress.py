"""What a watcher sees of a run: bars on a terminal, countable lines elsewhere, and a cursor in any case."""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path

import pytest

from resnetcli.events import CheckpointSaved, EpochDone, Event, Notice, Phase, Progress, RunStarted, StepDone
from resnetcli.reporting.console import console_for, same_place
from resnetcli.reporting.live import LiveProgress
from resnetcli.reporting.observers import observer
from resnetcli.reporting.one_line import OneLineProgress
from resnetcli.reporting.progress import Observer, PlainProgress, epoch_line
from resnetcli.reporting.redrawn import Redrawn
from tests.golden import Stream, assert_golden
from tests.reporting.examples import history

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
STEPS = 20


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run_started(**changes: int) -> RunStarted:
    figures = {"start_epoch": 1, "start_step": 0, "val_images": 5_000} | changes
    return RunStarted(
        run_dir=Path("runs") / "fast-1",
        device="cpu",
        precision="fp32",
        threads=2,
        parameters=8_882_762,
        train_images=45_000,
        epochs=3,
        steps_per_epoch=STEPS,
        batch_size=512,
        **figures,
    )


def step(epoch: int, number: int) -> StepDone:
    return StepDone(epoch=epoch, step=number, loss=1.25, top1=0.55, lr=0.05, images_per_s=1234.5)


def whole_run() -> list[Event]:
    events: list[Event] = [
        Phase("loading PyTorch"),
        Progress("Downloading", 0, 2_000_000, "B"),
        Progress("Downloading", 1_000_000, 2_000_000, "B"),
        Progress("Downloading", 2_000_000, 2_000_000, "B"),
        Notice("CIFAR-10 is in cache"),
        run_started(),
    ]
    for row in history(3):
        events += [step(row.epoch, number) for number in range(1, STEPS + 1)]
        events += [Progress("validating", done, 5_000, "images") for done in (0, 2_500, 5_000)]
        events += [CheckpointSaved(Path("runs"), row.step, 0.2), EpochDone(row, best=row.epoch != 2)]
    return [*events, Notice("little disk space is left", warning=True)]


def plain(clock: Clock) -> tuple[PlainProgress, Stream]:
    stream = Stream()
    return PlainProgress(console_for(stream), clock, phases=True), stream


def live(clock: Clock) -> tuple[LiveProgress, Stream]:
    stream = Stream(terminal=True)
    return LiveProgress(console_for(stream), clock), stream


def test_a_log_of_a_run_is_the_golden_one() -> None:
    watcher, stream = plain(Clock())
    with watcher:
        for event in whole_run():
            watcher(event)
    assert_golden("progress-plain", stream.text())


def test_a_quick_run_has_one_line_per_epoch() -> None:
    watcher, stream = plain(Clock())
    for event in whole_run():
        watcher(event)
    assert sum(line.startswith("epoch ") for line in stream.text().split("\n")) == 3


def test_a_heartbeat_comes_at_most_every_30_seconds() -> None:
    clock = Clock()
    watcher, stream = plain(clock)
    watcher(run_started())
    before = len(stream.text().split("\n"))
    for number in range(1, 61):
        clock.now += 2
        watcher(step(1, number))
    lines = stream.text().split("\n")[before - 1 : -1]
    assert len(lines) == 4
    assert lines[0] == f"epoch 1/3 step 15/{STEPS}  loss 1.2500  top-1 55.0 %  lr 0.05  1,234 images/s"


def test_a_long_task_has_a_line_at_its_start_one_every_10_seconds_and_one_at_its_end() -> None:
    clock = Clock()
    watcher, stream = plain(clock)
    for done in range(26):
        watcher(Progress("Downloading", done, 25, "batches"))
        clock.now += 1
    assert stream.text().split("\n")[:-1] == [f"Downloading: {done} of 25 batches" for done in (0, 10, 20, 25)]


def test_a_task_of_unknown_length_is_counted() -> None:
    watcher, stream = plain(Clock())
    watcher(Progress("Predicting", 500, None, "pictures"))
    assert stream.text() == "Predicting: 500 pictures\n"
    watcher, stream = plain(Clock())
    watcher(Progress("Predicting", 1, None, "pictures"))
    assert stream.text() == "Predicting: 1 picture\n"


def test_a_task_that_comes_again_starts_anew() -> None:
    watcher, stream = plain(Clock())
    for done in (0, 5, 0, 5):
        watcher(Progress("Checking", done, 5, "batches"))
    assert stream.text().count("Checking: 0 of 5") == stream.text().count("Checking: 5 of 5") == 2


def test_a_quick_validation_inside_a_run_leaves_no_line_in_the_log() -> None:
    watcher, stream = plain(Clock())
    for event in whole_run():
        watcher(event)
    assert "validating" not in stream.text()


def test_a_slow_validation_inside_a_run_shows_that_it_lives() -> None:
    clock = Clock()
    watcher, stream = plain(clock)
    watcher(run_started())
    for done in range(0, 5_000, 500):
        watcher(Progress("validating", done, 5_000, "images"))
        clock.now += 4
    assert stream.text().count("validating") == 3


def test_a_resumed_run_says_where_it_goes_on() -> None:
    watcher, stream = plain(Clock())
    watcher(run_started(start_epoch=2, start_step=7))
    assert "going on in epoch 2 after its step 7" in stream.text()


def test_a_final_run_has_no_validation_in_its_lines() -> None:
    watcher, stream = plain(Clock())
    watcher(run_started(val_images=0))
    watcher(EpochDone(history(1)[0].model_copy(update={"val_loss": None, "val_top1": None}), best=False))
    assert "val" not in stream.text()


def test_a_text_with_brackets_arrives_whole() -> None:
    watcher, stream = plain(Clock())
    watcher(Notice("data is in [cache]/x"))
    assert stream.text() == "data is in [cache]/x\n"


def test_a_line_of_a_log_is_never_broken_by_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    watcher, stream = plain(Clock())
    watcher(EpochDone(history(1)[0], best=True))
    assert stream.text().count("\n") == 1


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_shows_warnings_and_nothing_else(terminal: bool) -> None:
    stream = Stream(terminal=terminal)
    with observer(console_for(stream), quiet=True) as watcher:
        for event in whole_run():
            watcher(event)
    assert "little disk space is left" in stream.text()
    assert stream.text().count("\n") == 1


KERNEL = {"TERM": "xterm-color", "GIT_PAGER": "cat", "FORCE_COLOR": "1"}
"""What ipykernel sets for the commands of a cell."""


@pytest.mark.parametrize(
    ("terminal", "environment", "kind"),
    [
        (True, {}, LiveProgress),
        (True, {"TERM": "xterm-color"}, LiveProgress),
        (True, {"VSCODE_PID": "1", "COLAB_RELEASE_TAG": "r1", "JUPYTER_SERVER_ROOT": "/"}, LiveProgress),
        (True, {"CI": "false"}, LiveProgress),
        (True, {"JPY_PARENT_PID": "17"}, OneLineProgress),
        (True, KERNEL, OneLineProgress),
        (True, {"TERM": ""}, OneLineProgress),
        (True, {"TERM": "dumb"}, PlainProgress),
        (True, {"TERM": "dumb", "JPY_PARENT_PID": "17"}, PlainProgress),
        (True, {"TERM": "emacs"}, PlainProgress),
        (True, {"CI": "true"}, PlainProgress),
        (False, {}, PlainProgress),
        (False, KERNEL, PlainProgress),
        (False, {"JPY_PARENT_PID": "17"}, PlainProgress),
    ],
)
def test_what_is_drawn_is_what_the_place_can_show(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, environment: dict[str, str], kind: type[Observer]
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert type(observer(console_for(Stream(terminal=terminal)))) is kind


def test_a_terminal_without_a_size_gets_no_bars() -> None:
    """A pseudo-terminal whose other end is a program that only collects what comes."""
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as stream:
        assert type(observer(console_for(stream))) is OneLineProgress
    os.close(master)


def notebook(clock: Clock) -> tuple[OneLineProgress, Stream]:
    stream = Stream(terminal=True)
    return OneLineProgress(console_for(stream), clock), stream


def page(written: str) -> list[str]:
    """What a notebook shows of it: colours are dropped here, a carriage return goes back to the start of the line, and
    there is nothing else that it obeys."""
    lines = []
    for line in re.sub(r"\x1b\[[0-9;]*m", "", written).split("\n"):
        shown = ""
        for part in line.split("\r"):
            shown = part + shown[len(part) :]
        lines.append(shown.rstrip())
    return lines


@pytest.mark.parametrize("draws", [live, notebook])
def test_one_row_per_epoch_and_the_notices_stay(monkeypatch: pytest.MonkeyPatch, draws: type[Redrawn]) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    clock = Clock()
    watcher, stream = draws(clock)
    with watcher:
        for event in whole_run():
            clock.now += 0.1
            watcher(event)
    text = stream.text()
    assert [text.count(f"{row.train_loss:.4f}") for row in history(3)] == [1, 1, 1]
    assert text.count("★") == 2
    assert "CIFAR-10 is in cache" in text
    assert "little disk space is left" in text
    assert watcher.epochs_shown == {1, 2, 3}


def test_nothing_but_the_lines_that_stay_is_left_in_a_notebook() -> None:
    clock = Clock()
    watcher, stream = notebook(clock)
    with watcher:
        for event in [Phase("opening \x1b[2J"), *whole_run()]:
            clock.now += 0.9
            watcher(event)
    text = stream.text()
    assert not re.search(r"\x1b\[[0-9;?]*[^0-9;?m]", text)  # no sequence but colours
    assert text.count("\r") > 30
    assert [line.split()[0] for line in page(text) if line] == [
        *("CIFAR-10", "run", "cpu,", "45,000", "3", "epoch"),
        *("1/3", "2/3", "3/3", "warning:"),
    ]


def screen(watcher: LiveProgress, columns: int) -> list[str]:
    """What the bars of a terminal of that width show."""
    stream = Stream(terminal=True)
    console = console_for(stream)
    console.width = columns
    watcher.console.width = columns
    console.print(watcher.view())
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", stream.text()).split("\n")[:-1]]


def in_the_middle(clock: Clock, seconds: float = 4.0) -> LiveProgress:
    """A run in its second epoch, whose steps take several seconds."""
    watcher, _ = live(clock)
    watcher(run_started())
    for number in range(1, STEPS + 1):
        clock.now += seconds
        watcher(step(1, number))
    clock.now += 10
    watcher(CheckpointSaved(Path("runs"), STEPS, 0.2))
    watcher(EpochDone(history(3)[0], best=True))
    for number in (1, 2, 3):
        clock.now += seconds
        watcher(step(2, number))
    return watcher


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_bars_show_steps_figures_a_clock_and_the_time_left(columns: int) -> None:
    epoch, run, figures = screen(in_the_middle(Clock()), columns)
    assert max(map(len, (epoch, run, figures))) <= columns
    assert re.fullmatch(r"epoch 2/3 +━[━╸╺]{9,} +step 3/20 +1m 08s left", epoch)
    # 37 steps of 4 s, and two more validations of 10 s
    assert re.fullmatch(r"run +━[━╸╺]{9,} +step 23/60 +2m 48s left", run)
    assert figures.startswith("loss 1.2500  top-1 55.0 %")
    assert "1,234 images/s  1m 42s elapsed" in figures
    assert ("lr 0.05" in figures) == (columns >= 80)
    assert sum(epoch.count(glyph) for glyph in "━╸╺") >= (20 if columns < 80 else 35)


def test_the_time_left_is_known_after_the_first_step() -> None:
    clock = Clock()
    watcher, _ = live(clock)
    watcher(run_started())
    assert "first step" in screen(watcher, 80)[2]
    clock.now += 5
    watcher(step(1, 1))
    assert screen(watcher, 80)[0].endswith("step 1/20  1m 35s left")


def test_a_first_step_that_took_longer_is_forgotten_after_the_second() -> None:
    clock = Clock()
    watcher, _ = live(clock)
    watcher(run_started())
    for number, seconds in ((1, 15), (2, 3)):
        clock.now += seconds
        watcher(step(1, number))
    assert screen(watcher, 80)[0].endswith(" 54 s left")


def test_time_left_is_a_lower_bound_while_slower_steps_are_to_come() -> None:
    clock = Clock()
    watcher, _ = live(clock)
    watcher(run_started(small_epochs=1))
    for number in (1, 2):
        clock.now += 3
        watcher(step(1, number))
    assert screen(watcher, 80)[1].endswith("over 2m 54s left")
    watcher(EpochDone(history(3)[0], best=True))
    for number in (1, 2):
        clock.now += 5
        watcher(step(2, number))
    assert re.search(r"22/60 +3m 10s left$", screen(watcher, 80)[1])


def test_validation_takes_the_place_of_the_epoch() -> None:
    clock = Clock()
    watcher = in_the_middle(clock)
    for done in (0, 1_000):
        clock.now += 2
        watcher(Progress("validating", done, 5_000, "images"))
    validating, run, _ = screen(watcher, 80)
    assert re.fullmatch(r"validating +━[━╸╺]+ +1,000 of 5,000 images +8.0 s left", validating)
    assert run.startswith("run")
    watcher(Progress("validating", 5_000, 5_000, "images"))
    assert screen(watcher, 80)[0].startswith("epoch 2/3")


def test_what_is_being_done_at_the_start_is_on_the_screen_at_once() -> None:
    watcher, stream = live(Clock())
    watcher(Phase("loading PyTorch"))
    assert "loading PyTorch…" in stream.text()
    watcher(Phase("loading cifar10"))
    assert screen(watcher, 80) == ["loading cifar10…"]
    watcher(run_started())
    assert not [line for line in screen(watcher, 80) if "loading" in line]


@pytest.mark.parametrize("columns", [44, 60, 80, 200])
def test_no_line_on_a_terminal_is_wider_than_it(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """What is too wide is broken by the terminal, in the middle of a number."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for draws in (live, notebook):
        watcher, stream = draws(Clock())
        with watcher:
            for event in [
                *whole_run(),
                Notice("images of 24x24 pixels up to epoch 4, of 32x32 after it; 98.25 % of 17 s"),
            ]:
                watcher(event)
        lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.text()).replace("\r", "\n").split("\n")
        assert max(map(len, lines)) <= columns
        assert [line for line in lines if "98.25 %" in line]


@pytest.mark.parametrize(("columns", "kept"), [(80, 8), (60, 6), (44, 4)])
def test_a_narrow_table_of_epochs_loses_columns_but_never_half_a_number(
    monkeypatch: pytest.MonkeyPatch, columns: int, kept: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    watcher, stream = notebook(Clock())
    watcher(run_started())
    watcher(EpochDone(history(1)[0], best=True))
    header, row = (
        line for line in page(stream.text()) if line.lstrip().startswith(("epoch", "1/3")) and "step" not in line
    )
    names = ["epoch", "train loss", "top-1", "val loss", "val top-1", "lr", "images/s", "time"]
    assert len(re.split(r"  +", header.strip())) == kept
    assert len(re.split(r"  +", row.strip())) == kept
    assert [name for name in re.split(r"  +", header.strip()) if name not in names] == []


def test_a_terminal_that_moves_no_cursor_gets_lines_cut_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "60")
    stream = Stream(terminal=True)
    watcher = PlainProgress(console_for(stream), Clock())
    watcher(EpochDone(history(1)[0], best=True))
    lines = stream.text().split("\n")[:-1]
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60
    assert [" ".join(lines).split()] == [epoch_line(EpochDone(history(1)[0], best=True), None).split()]


def test_a_signal_is_answered_in_the_place_of_the_figures() -> None:
    """And without an end of line: rich goes up as many lines as it has drawn, and would leave a bar behind."""
    watcher = in_the_middle(Clock())
    assert watcher.stopping("stopping: saving first") == "\r\x1b[Kstopping: saving first"
    assert screen(watcher, 80)[2] == "stopping: saving first"
    watcher.close()
    assert watcher.stopping("stopping: saving first") == "\nstopping: saving first\n"
    line, _ = notebook(Clock())
    line(run_started())
    assert re.fullmatch(r"\rstopping: saving first +", line.stopping("stopping: saving first"))


def test_two_streams_are_read_in_one_place_where_they_are_one_file(tmp_path: Path) -> None:
    with (tmp_path / "a").open("w") as a, (tmp_path / "a").open("a") as same, (tmp_path / "b").open("w") as b:
        assert same_place(a, same)
        assert not same_place(a, b)
    assert not same_place(Stream(), Stream())  # of which nothing is known


def test_an_exception_leaves_the_cursor_shown_and_the_streams_as_they_were() -> None:
    before = sys.stdout, sys.stderr
    watcher, stream = live(Clock())
    watcher(run_started())
    with pytest.raises(KeyboardInterrupt), watcher:
        raise KeyboardInterrupt
    text = stream.text()
    assert text.rindex(SHOW) > text.rindex(HIDE)
    assert (sys.stdout, sys.stderr) == before


def test_a_process_that_is_killed_leaves_the_cursor_shown_too() -> None:
    watcher, stream = live(Clock())
    watcher(run_started())
    text_while_running = stream.text()
    watcher.close()
    assert text_while_running.rindex(SHOW) > text_while_running.rindex(HIDE)


def test_bars_that_never_started_write_nothing() -> None:
    watcher, stream = live(Clock())
    with watcher:
        pass
    watcher.close()
    assert stream.text() == ""


def test_bars_are_drawn_twice_a_second_however_fast_the_steps_come() -> None:
    clock = Clock()
    watcher, stream = live(clock)
    watcher(run_started())
    drawings = []
    for number in range(1, 1001):
        clock.now += 0.001
        before = len(stream.text())
        watcher(step(1, number))
        drawings.append(len(stream.text()) > before)
    watcher.close()
    assert sum(drawings) in (1, 2)


def test_every_observer_is_closed_by_its_context() -> None:
    closed = []

    class Watcher(Observer):
        def close(self) -> None:
            closed.append(True)

    with pytest.raises(ZeroDivisionError), Watcher(console_for(Stream())):
        raise ZeroDivisionError
    assert closed == [True]

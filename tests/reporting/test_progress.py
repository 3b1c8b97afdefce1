"""What a watcher sees of a run: bars on a terminal, countable lines elsewhere, and a cursor in any case."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resnetcli.events import CheckpointSaved, EpochDone, Event, Notice, Progress, RunStarted, StepDone
from resnetcli.reporting.console import console_for
from resnetcli.reporting.live import LiveProgress
from resnetcli.reporting.progress import Observer, PlainProgress, observer
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
        Progress("Downloading", 0, 2_000_000, "B"),
        Progress("Downloading", 1_000_000, 2_000_000, "B"),
        Progress("Downloading", 2_000_000, 2_000_000, "B"),
        Notice("CIFAR-10 is in cache"),
        run_started(),
    ]
    for row in history(3):
        events += [step(row.epoch, number) for number in range(1, STEPS + 1)]
        events += [Progress("Evaluating on val", done, 5_000, "images") for done in (0, 2_500, 5_000)]
        events += [CheckpointSaved(Path("runs"), row.step, 0.2), EpochDone(row, best=row.epoch != 2)]
    return [*events, Notice("little disk space is left", warning=True)]


def plain(clock: Clock) -> tuple[PlainProgress, Stream]:
    stream = Stream()
    return PlainProgress(console_for(stream), clock), stream


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
    assert "Evaluating" not in stream.text()


def test_a_slow_validation_inside_a_run_shows_that_it_lives() -> None:
    clock = Clock()
    watcher, stream = plain(clock)
    watcher(run_started())
    for done in range(0, 5_000, 500):
        watcher(Progress("Evaluating on val", done, 5_000, "images"))
        clock.now += 4
    assert stream.text().count("Evaluating on val") == 3


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


def test_a_terminal_gets_bars_and_a_pipe_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(observer(console_for(Stream(terminal=True))), LiveProgress)
    assert isinstance(observer(console_for(Stream())), PlainProgress)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(observer(console_for(Stream())), PlainProgress)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(observer(console_for(Stream(terminal=True))), PlainProgress)


def test_bars_leave_one_row_per_epoch_and_the_notices_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    clock = Clock()
    watcher, stream = live(clock)
    with watcher:
        for event in whole_run():
            clock.now += 0.1
            watcher(event)
    text = stream.text()
    assert [text.count(f"{row.train_loss:.4f}") for row in history(3)] == [1, 1, 1]
    assert text.count("★") == 2
    assert "CIFAR-10 is in cache" in text
    assert "little disk space is left" in text


def test_bars_show_steps_figures_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    clock = Clock()
    watcher, stream = live(clock)
    with watcher:
        watcher(run_started())
        clock.now += 5
        watcher(step(1, 10))
    assert "loss 1.2500  top-1 55.0 %  lr 0.05  1,234 images/s" in stream.text()


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

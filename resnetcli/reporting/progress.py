"""Observers of events: the base of all, and plain lines for a pipe or log.

They are context managers and callables that take an event. None starts a thread, and all look at the clock before they
write anything for a step, so that the training loop does not pay for being watched.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from resnetcli.events import CheckpointSaved, EpochDone, Event, Notice, Phase, Progress, RunStarted, StepDone
from resnetcli.reporting import text
from resnetcli.reporting.layout import epoch_figures
from resnetcli.reporting.text import wrapped

HEARTBEAT_SECONDS = 30.0
TASK_LINE_SECONDS = 10.0
Clock = Callable[[], float]


class Observer:
    """Shows warnings and nothing else: what `--quiet` asks for, and the base of the others."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self.epochs_shown: set[int] = set()
        """The epochs that have a line by now: a report in the same place need not say them again."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Notice) and event.warning:
            self.show_notice(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was found; may be called twice."""

    def stopping(self, line: str) -> str:
        """What the handler of a signal has to write to show `line`, without harm to what is drawn. It calls this in the
        middle of anything: nothing is printed here."""
        return f"\n{line}\n"

    def show_line(self, line: str | Text) -> None:
        print_line(line, self.console)

    def show_notice(self, notice: Notice) -> None:
        if notice.warning:
            self.show_line(Text.assemble(("warning: ", "bold yellow"), notice.text))
        else:
            self.show_line(notice.text)


def print_line(line: str | Text, console: Console) -> None:
    """In a file one line, however long; on a terminal, of any kind, it is cut between words."""
    styled = Text(line) if isinstance(line, str) else line
    if console.file.isatty() and len(styled.plain) > console.width:
        # Spaces become ends of lines, one for one, so that styles stay where they were.
        parts = [part for words in styled.plain.split("\n") for part in wrapped(words, console.width)]
        styled.plain = "\n".join(parts)
    console.print(styled, soft_wrap=True)


class PlainProgress(Observer):
    """Lines for a pipe or a log: one per epoch, a heartbeat every 30 s, and for other tasks one every 10 s; with
    `phases` also one for each of these."""

    def __init__(self, console: Console, clock: Clock = time.monotonic, *, phases: bool = False) -> None:
        super().__init__(console, clock)
        self._phases = phases
        self._run: RunStarted | None = None
        self._last_line = clock()
        self._tasks: dict[str, _Task] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case StepDone():
                self._heartbeat(event)
            case Progress():
                self._show_task(event)
            case EpochDone():
                self.epochs_shown.add(event.row.epoch)
                self._line(epoch_line(event, self._run))
            case RunStarted():
                self._run = event
                for line in run_lines(event):
                    self._line(line)
            case Notice():
                self.show_notice(event)
            case Phase():
                if self._phases:
                    self._line(event.text)
            case CheckpointSaved():
                pass  # one for each epoch: the epoch's line is enough

    def _line(self, line: str) -> None:
        self._last_line = self.clock()
        self.show_line(line)

    def _heartbeat(self, event: StepDone) -> None:
        if self.clock() - self._last_line >= HEARTBEAT_SECONDS:
            run = self._run
            epoch = f"epoch {event.epoch}/{run.epochs}" if run else f"epoch {event.epoch}"
            step = f"step {event.step}/{run.steps_per_epoch}" if run else f"step {event.step}"
            self._line(f"{epoch} {step}  {step_figures(event)}")

    def _show_task(self, event: Progress) -> None:
        now = self.clock()
        task = self._tasks.get(event.task)
        ended = event.total is not None and event.done >= event.total
        if task is None:
            # Each epoch's validation would double the log of a run: there, only a task that takes long shows.
            task = self._tasks[event.task] = _Task(shown_at=now, brief=self._run is not None)
            due = not task.brief
        else:
            due = now - task.shown_at >= TASK_LINE_SECONDS or (ended and not task.brief)
        if due:
            self._line(task_line(event))
            task.shown_at = now
        if ended:
            del self._tasks[event.task]


@dataclass
class _Task:
    """When a task last had a line, and whether it has lines at its start and end."""

    shown_at: float
    brief: bool


def run_lines(run: RunStarted) -> list[str]:
    """What is about to happen, and where."""
    images = f"{text.count(run.train_images)} training images"
    if run.val_images:
        images += f", {text.count(run.val_images)} for validation"
    steps = f"{text.plural(run.steps_per_epoch, 'step')} with batches of {text.count(run.batch_size)}"
    lines = [
        f"run {run.run_dir}",
        f"{run.device}, {run.precision}, {text.plural(run.threads, 'thread')}; {text.count(run.parameters)} parameters",
        images,
        f"{text.plural(run.epochs, 'epoch')} of {steps}",
    ]
    if (run.start_epoch > 1 or run.start_step > 0) and run.start_epoch <= run.epochs:
        lines.append(f"going on in epoch {run.start_epoch} after its step {run.start_step}")
    return lines


def step_figures(event: StepDone) -> str:
    """The figures of a step, means over its epoch so far."""
    speed = f"{event.images_per_s:,.0f} images/s"
    return f"loss {event.loss:.4f}  top-1 {text.percent(event.top1, 1)}  lr {event.lr:.3g}  {speed}"


def epoch_line(event: EpochDone, run: RunStarted | None) -> str:
    """An epoch as one line of a log."""
    row = event.row
    epoch = f"epoch {row.epoch}/{run.epochs}" if run else f"epoch {row.epoch}"
    parts = [epoch, f"train loss {row.train_loss:.4f} top-1 {text.percent(row.train_top1)}"]
    if row.val_loss is not None and row.val_top1 is not None:
        parts.append(f"val loss {row.val_loss:.4f} top-1 {text.percent(row.val_top1)}")
    parts += [f"lr {row.lr:.3g}", f"{row.images_per_s:,.0f} images/s", text.duration(row.seconds)]
    return "  ".join(parts) + ("  ★ best so far" if event.best else "")


COLUMNS = {
    "epoch": 8,
    "train loss": 12,
    "top-1": 9,
    "val loss": 10,
    "val top-1": 11,
    "lr": 9,
    "images/s": 10,
    "time": 8,
}
"""Of the live table, with their widths."""
MARK_WIDTH = 2
LEFT_OUT = ((), ("lr", "images/s"), ("lr", "images/s", "val loss", "top-1"))
"""What the table gives up where there is no room, before a number is cut in half."""


def epoch_header(width: int) -> str:
    """Names of the columns of `epoch_row`."""
    return _columns(tuple(COLUMNS), width)


def epoch_row(event: EpochDone, run: RunStarted | None, width: int) -> str:
    """An epoch as one row of a table, at most `width` characters wide (but 41 at least)."""
    row = event.row
    epoch = f"{row.epoch}/{run.epochs}" if run else str(row.epoch)
    return _columns((epoch, *epoch_figures(row)), width) + (" ★" if event.best else "")


def _columns(cells: tuple[str, ...], width: int) -> str:
    """The cells, one for each of `COLUMNS`, those of them that have room."""
    for left_out in LEFT_OUT:
        widths = {name: columns for name, columns in COLUMNS.items() if name not in left_out}
        if sum(widths.values()) + MARK_WIDTH <= width:
            break
    return "".join(cell.rjust(widths[name]) for name, cell in zip(COLUMNS, cells, strict=True) if name in widths)


def amount(event: Progress) -> str:
    """ "12.3 MiB of 162.6 MiB", "500 of 10,000 images" or "500 images"."""
    if event.unit == "B":
        done = text.size(event.done)
        return done if event.total is None else f"{done} of {text.size(event.total)}"
    done = text.count(event.done)
    if event.total is None:
        return f"{done} {event.unit.removesuffix('s') if event.done == 1 else event.unit}"
    return f"{done} of {text.count(event.total)} {event.unit}"


def task_line(event: Progress) -> str:
    """A task as one line of a log."""
    return f"{event.task}: {amount(event)}"

"""Two observers of events: bars that move on a terminal, plain lines in a pipe or log.

Both are context managers and callables that take an event. Neither starts a thread, and both look at the clock before
they do anything for a step, so that the training loop does not pay for being watched.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.text import Text

from resnetcli.events import CheckpointSaved, EpochDone, Event, Notice, Progress, RunStarted, StepDone
from resnetcli.reporting import text
from resnetcli.reporting.layout import epoch_figures

HEARTBEAT_SECONDS = 30.0
TASK_LINE_SECONDS = 10.0
Clock = Callable[[], float]


class Observer:
    """Shows warnings and nothing else: what `--quiet` asks for, and the base of the other two."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self.console = console
        self.clock = clock

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

    def show_line(self, line: str | Text) -> None:
        self.console.print(line, soft_wrap=True)

    def show_notice(self, notice: Notice) -> None:
        if notice.warning:
            self.show_line(Text.assemble(("warning: ", "bold yellow"), notice.text))
        else:
            self.show_line(notice.text)


class PlainProgress(Observer):
    """Lines for a pipe or a log: one per epoch, a heartbeat every 30 s, and for other tasks one every 10 s."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(console, clock)
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
                self._line(epoch_line(event, self._run))
            case RunStarted():
                self._run = event
                for line in run_lines(event):
                    self._line(line)
            case Notice():
                self.show_notice(event)
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


def observer(console: Console, quiet: bool = False) -> Observer:
    """The observer that suits `console`; `quiet` shows only warnings."""
    if quiet:
        return Observer(console)
    if console.is_terminal:
        from resnetcli.reporting.live import LiveProgress

        return LiveProgress(console)
    return PlainProgress(console)


def run_lines(run: RunStarted) -> list[str]:
    """What is about to happen, and where."""
    images = f"{text.count(run.train_images)} training images"
    if run.val_images:
        images += f", {text.count(run.val_images)} for validation"
    steps = f"{text.plural(run.steps_per_epoch, 'step')} with batches of {text.count(run.batch_size)}"
    lines = [
        f"run {run.run_dir}",
        f"{run.device}, {run.precision}, {text.plural(run.threads, 'thread')}; {text.count(run.parameters)} parameters",
        f"{images}; {text.plural(run.epochs, 'epoch')} of {steps}",
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


def epoch_header() -> str:
    """Names of the columns of `epoch_row`."""
    return _columns("epoch", "train loss", "top-1", "val loss", "top-1", "lr", "images/s", "time")


def epoch_row(event: EpochDone, run: RunStarted | None) -> str:
    """An epoch as one row of a table, 79 characters wide."""
    row = event.row
    columns = _columns(
        f"{row.epoch}/{run.epochs}" if run else str(row.epoch),
        *epoch_figures(row),
    )
    return columns + (" ★" if event.best else "")


def _columns(*cells: str) -> str:
    widths = (8, 11, 9, 9, 9, 9, 9, 8)
    return "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


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

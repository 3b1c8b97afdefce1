"""What is drawn again and again under the lines that stay, whatever draws it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

from rich.console import Console
from rich.text import Text

from resnetcli.events import CheckpointSaved, EpochDone, Event, Notice, Phase, Progress, RunStarted, StepDone
from resnetcli.reporting import text
from resnetcli.reporting.eta import Pace, RunPace
from resnetcli.reporting.progress import Clock, Observer, amount, epoch_header, epoch_row, run_lines


@dataclass(frozen=True, slots=True)
class Row:
    """Something that is counted: `count` says how far it is, `short` the same in less room, `left` the time it takes
    from here, where that is known."""

    name: str
    done: int
    total: int | None
    count: str
    short: str
    left: str


@dataclass(slots=True)
class _Task:
    event: Progress
    pace: Pace


@dataclass(slots=True)
class _Run:
    started: RunStarted
    pace: RunPace
    step: StepDone | None = None
    saved: int | None = None
    over: bool = field(default=False)
    """After its last epoch nothing of it is counted any longer."""


class Redrawn(Observer, ABC):
    """Keeps what is going on; a subclass draws it in `draw` and takes it away in `close`.

    One permanent line per epoch and notice; below them the epoch and the run, a task such as validation in place of the
    epoch, the figures of the last step. What cannot be counted is named.
    """

    redraw_seconds: ClassVar[float]

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(console, clock)
        self._drawn = float("-inf")
        self._run: _Run | None = None
        self._tasks: dict[str, _Task] = {}
        self._phase = ""
        self._stopping = ""
        """Said by a signal: it stays in the place of the figures until the end."""

    def __call__(self, event: Event) -> None:
        match event:
            case StepDone():
                if self._run is not None:
                    self._run.step = event
                    self._run.pace.stepped(event, self.clock())
                    self._redraw()
            case Progress():
                self._keep_task(event)
            case Phase():
                self._phase = event.text
                self._redraw(at_once=True)
            case EpochDone():
                self._keep_epoch(event)
            case RunStarted():
                self._keep_run(event)
            case Notice():
                self.show_notice(event)
            case CheckpointSaved():
                if self._run is not None:
                    self._run.saved = event.step

    def stopping(self, line: str) -> str:
        self._stopping = line[: self.console.width - 1]
        return self._stopping

    @abstractmethod
    def draw(self) -> None:
        """Shows `rows` and `status` as they are now."""

    def rows(self) -> list[Row]:
        """What is counted now, at most three rows in a run."""
        rows = [_task_row(task) for task in self._tasks.values()]
        run = self._run
        if run is None or run.over:
            return rows
        started, pace = run.started, run.pace
        if not rows:
            name = f"epoch {min(pace.epoch, started.epochs)}/{started.epochs}"
            rows.append(_step_row(name, pace.step, started.steps_per_epoch, pace.left_of_epoch()))
        steps = started.epochs * started.steps_per_epoch
        done = (pace.epoch - 1) * started.steps_per_epoch + pace.step
        return [*rows, _step_row("run", done, steps, pace.left(), "over " if pace.is_lower_bound else "")]

    def status(self, width: int) -> str:
        """What there is to say beside the counts: the figures of the last step, or what is being done; as much of it as
        has room."""
        run = self._run
        if self._stopping:
            return self._stopping[:width]
        if self._phase or run is None or run.over:
            return f"{self._phase}…"[:width] if self._phase else ""
        if run.step is None:
            return "first step: it takes longest"[:width]
        step, elapsed = run.step, text.duration(run.pace.elapsed(self.clock()))
        parts = {
            "loss": f"loss {step.loss:.4f}",
            "top1": f"top-1 {text.percent(step.top1, 1)}",
            "lr": f"lr {step.lr:.3g}",
            "speed": f"{step.images_per_s:,.0f} images/s",
            "elapsed": f"{elapsed} elapsed",
            "saved": "" if run.saved is None else f"saved at step {text.count(run.saved)}",
        }
        kept: set[str] = set()
        for name in ("loss", "elapsed", "top1", "speed", "lr", "saved"):  # the first that has no room ends it
            if not parts[name] or len("  ".join(parts[n] for n in (*kept, name))) > width:
                break
            kept.add(name)
        return "  ".join(part for name, part in parts.items() if name in kept)

    def _redraw(self, at_once: bool = False) -> None:
        if at_once or self.clock() - self._drawn >= self.redraw_seconds:
            self.draw()
            self._drawn = self.clock()

    def _keep_run(self, run: RunStarted) -> None:
        self._phase = ""
        for line in run_lines(run):
            self.show_line(line)
        self._run = _Run(run, RunPace(run, self.clock()), over=run.start_epoch > run.epochs)
        self._redraw(at_once=True)

    def _keep_epoch(self, event: EpochDone) -> None:
        run = self._run
        if not self.epochs_shown:  # only now, so that no notice comes between the names and the figures
            self.show_line(Text(epoch_header(self.console.width), style="bold"))
        row = epoch_row(event, run.started if run else None, self.console.width)
        self.show_line(Text(row, style="green" if event.best else ""))
        self.epochs_shown.add(event.row.epoch)
        if run is not None:
            run.pace.epoch_done(event, self.clock())
            run.over = event.row.epoch >= run.started.epochs
        self._redraw(at_once=True)

    def _keep_task(self, event: Progress) -> None:
        task = self._tasks.get(event.task)
        ended = event.total is not None and event.done >= event.total
        self._phase = ""
        if task is None:
            self._tasks[event.task] = _Task(event, Pace(event.done, self.clock()))
        else:
            task.event = event
            task.pace.reading(event.done, self.clock())
        self._redraw(at_once=task is None or ended)
        if ended:
            del self._tasks[event.task]


def _step_row(name: str, done: int, total: int, left: float | None, at_least: str = "") -> Row:
    short = f"{done:,}/{total:,}"
    return Row(name, done, total, f"step {short}", short, _left(left, at_least))


def _task_row(task: _Task) -> Row:
    event, pace = task.event, task.pace.seconds_per_unit
    left = None if event.total is None or pace is None else pace * (event.total - event.done)
    short = amount(event) if event.unit == "B" or event.total is None else f"{event.done:,}/{event.total:,}"
    return Row(event.task, event.done, event.total, amount(event), short, _left(left))


def _left(seconds: float | None, at_least: str = "") -> str:
    return "" if seconds is None or seconds < 1 else f"{at_least}{text.duration(seconds)} left"

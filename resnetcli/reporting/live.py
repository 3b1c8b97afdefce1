"""Bars that move, under the lines that stay: what `observer` chooses for a terminal."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text

from resnetcli.events import CheckpointSaved, EpochDone, Event, Notice, Progress, RunStarted, StepDone
from resnetcli.reporting import text
from resnetcli.reporting.progress import Clock, Observer, amount, epoch_header, epoch_row, run_lines, step_figures

REDRAW_SECONDS = 0.5
"""A redraw costs about 2 ms of the training's own thread: two a second are half a per cent."""


FIGURES_WIDTH = 78
"""Columns that name, figures and time left of the step bar take; the bar itself gets what remains."""


class LiveProgress(Observer):
    """An epoch bar and a step bar for a run, one bar for each other task, one permanent line per epoch and notice."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        super().__init__(console, clock)
        self._bars = Bars(
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            BarColumn(bar_width=min(24, max(4, console.width - FIGURES_WIDTH))),
            TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True)),
            _TimeLeft(),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,  # results leave through stdout, and must arrive there even while bars are shown
            transient=True,
        )
        self._started = False
        self._redrawn = float("-inf")
        self._run: RunStarted | None = None
        self._epoch_bar: TaskID | None = None
        self._step_bar: TaskID | None = None
        self._tasks: dict[str, TaskID] = {}
        self._saved = ""

    def __call__(self, event: Event) -> None:
        match event:
            case StepDone():
                if self._due():
                    self._show_step(event)
            case Progress():
                self._show_task(event)
            case EpochDone():
                self._show_epoch(event)
            case RunStarted():
                self._show_run(event)
            case Notice():
                self.show_notice(event)
            case CheckpointSaved():
                self._saved = f"saved at step {text.count(event.step)}"

    def close(self) -> None:
        if self._started:
            self._started = False
            self._bars.stop()

    def _due(self) -> bool:
        return self.clock() - self._redrawn >= REDRAW_SECONDS

    def _redraw(self) -> None:
        if not self._started:
            self._started = True
            self._bars.start()
            # rich hides the cursor. A process that is killed (out of memory, a second Ctrl-C) could not bring it back.
            self.console.show_cursor(True)
        self._bars.refresh()
        self._redrawn = self.clock()

    def _show_run(self, run: RunStarted) -> None:
        self._run = run
        for line in run_lines(run):
            self.show_line(line)
        self.show_line(Text(epoch_header(), style="bold"))
        # Both bars count steps: an epoch bar that moved once an epoch could not tell the time that is left.
        done = (run.start_epoch - 1) * run.steps_per_epoch + run.start_step
        steps = run.epochs * run.steps_per_epoch
        self._epoch_bar = self._bars.add_task("epochs", total=steps, completed=done, figures="")
        self._step_bar = self._bars.add_task("steps", total=run.steps_per_epoch, completed=run.start_step, figures="")
        self._redraw()

    def _show_step(self, event: StepDone) -> None:
        if self._run is None or self._epoch_bar is None or self._step_bar is None:
            return
        done = (event.epoch - 1) * self._run.steps_per_epoch + event.step
        figures = f"{event.epoch}/{self._run.epochs}  {self._saved}"
        self._bars.update(self._epoch_bar, completed=done, figures=figures)
        self._bars.update(self._step_bar, completed=event.step, figures=step_figures(event))
        self._redraw()

    def _show_epoch(self, event: EpochDone) -> None:
        self.show_line(Text(epoch_row(event, self._run), style="green" if event.best else ""))
        if self._run is None or self._epoch_bar is None or self._step_bar is None:
            return
        self._bars.update(self._epoch_bar, completed=event.row.epoch * self._run.steps_per_epoch)
        if event.row.epoch >= self._run.epochs:
            self._bars.remove_task(self._epoch_bar)
            self._bars.remove_task(self._step_bar)
            self._epoch_bar = self._step_bar = None
        else:
            self._bars.update(self._step_bar, completed=0)
        self._redraw()

    def _show_task(self, event: Progress) -> None:
        bar = self._tasks.get(event.task)
        ended = event.total is not None and event.done >= event.total
        if bar is None:
            bar = self._tasks[event.task] = self._bars.add_task(event.task, total=event.total, figures="")
        elif not ended and not self._due():
            return
        self._bars.update(bar, completed=event.done, total=event.total, figures=amount(event))
        if ended:
            self._bars.remove_task(self._tasks.pop(event.task))
        self._redraw()


class _TimeLeft(ProgressColumn):
    """The time that a bar still needs, once its speed is known."""

    def get_table_column(self) -> Column:
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text("" if left is None else f"{text.duration(left)} left" if left >= 1 else "", style="cyan")

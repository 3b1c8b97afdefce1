"""`report/history.png` of a run, kept up to date while it trains, so that a run that is stopped has it too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnetcli.errors import named
from resnetcli.events import EpochDone, Event, Notice, OnEvent, RunHistory
from resnetcli.results.train import REPORT_FOLDER, EpochRow

PAUSES = 20
"""A drawing is followed by a pause of so many times what it took: it costs a run 5 % at most, also where an epoch takes
only seconds. On an AVX2 CPU it takes 0.65 s, the first one 1.65 s with the import of matplotlib (CPU time)."""
HISTORY = "history.png"


class Curves:
    """Passes events on, and draws after the epochs. A picture that cannot be made is one warning, and the last try."""

    def __init__(self, on_event: OnEvent, clock: Callable[[], float] = time.monotonic) -> None:
        self._on_event, self._clock = on_event, clock
        self._run: RunHistory | None = None
        self._history: list[EpochRow] = []
        self._not_before = float("-inf")
        self._pending = False
        self.refused = False

    def __call__(self, event: Event) -> None:
        self._on_event(event)
        if isinstance(event, RunHistory):
            self._run, self._history = event, [*event.history]
            self._pending = bool(self._history) and not self._path(event).exists()
        elif isinstance(event, EpochDone):
            self._history.append(event.row)
            self._pending = True
            if self._clock() >= self._not_before:
                self.draw()

    def draw(self) -> None:
        """Draws what has not been drawn yet."""
        if not self._pending or self.refused or self._run is None:
            return
        began = self._clock()
        try:
            from resnetcli.reporting.plots import history_png
            from resnetcli.services.reports import write_report

            path = self._path(self._run)
            write_report(path.parent, {HISTORY: history_png(self._history, self._run.notes)})
        except Exception as error:  # whatever it is: it must not end a run
            self.refused = True
            self._on_event(Notice(f"{HISTORY} is not kept up to date ({named(error)})", warning=True))
        now = self._clock()
        self._pending, self._not_before = False, now + PAUSES * (now - began)

    @staticmethod
    def _path(run: RunHistory) -> Path:
        return run.run_dir / REPORT_FOLDER / HISTORY


@contextmanager
def keeping_curves(on_event: OnEvent) -> Iterator[Curves]:
    """Inside, the curves of a run are kept. What ends it early finds them complete; what a run that ends by itself
    leaves to draw is for whoever reports it."""
    curves = Curves(on_event)
    try:
        yield curves
    except BaseException:
        curves.draw()
        raise

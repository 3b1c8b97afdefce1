"""How long something still takes, from how far it has come and when."""

from __future__ import annotations

from collections import deque

from resnetcli.events import EpochDone, RunStarted, StepDone

WINDOW_SECONDS = 60.0
"""What is older tells little of now: other programs come and go. Two readings count however far they are apart, so that
steps of several seconds, or of minutes, have a speed too."""


class Pace:
    """Seconds per unit of something that is counted, over the last minute."""

    def __init__(self, done: float, now: float) -> None:
        self._readings = deque([(done, now)])

    def reading(self, done: float, now: float) -> None:
        self._readings.append((done, now))
        while len(self._readings) > 2 and self._readings[1][1] <= now - WINDOW_SECONDS:
            self._readings.popleft()

    @property
    def seconds_per_unit(self) -> float | None:
        """None until something was done."""
        (before, then), (done, now) = self._readings[0], self._readings[-1]
        return (now - then) / (done - before) if done > before else None


class RunPace:
    """Elapsed and remaining seconds of a run in this process, from its events and the times at which they came."""

    def __init__(self, run: RunStarted, now: float) -> None:
        self.run = run
        self.epoch, self.step = run.start_epoch, run.start_step
        self._began = self._last = now
        self._pace = Pace(run.start_step, now)
        self._warm = False
        self._per_step: float | None = None
        self._epoch_end: float | None = None

    def stepped(self, event: StepDone, now: float) -> None:
        self.epoch, self.step, self._last = event.epoch, event.step, now
        self._pace.reading(event.step, now)
        self._per_step = self._pace.seconds_per_unit or self._per_step
        if not self._warm:  # the first steps of a process take longer: they count only while nothing else is known
            self._warm = True
            self._pace = Pace(event.step, now)

    def epoch_done(self, event: EpochDone, now: float) -> None:
        self.epoch, self.step = event.row.epoch + 1, 0
        self._epoch_end = now - self._last
        self._pace = Pace(0, now)

    def elapsed(self, now: float) -> float:
        return now - self._began

    def left_of_epoch(self) -> float | None:
        """Of its steps; None before the first."""
        return None if self._per_step is None else self._per_step * (self.run.steps_per_epoch - self.step)

    def left(self) -> float | None:
        """Of all steps and of what comes between epochs, as far as that is known; None before the first step."""
        if self._per_step is None:
            return None
        epochs = self.run.epochs - self.epoch + 1
        steps = epochs * self.run.steps_per_epoch - self.step
        return self._per_step * steps + (self._epoch_end or 0.0) * epochs

    @property
    def is_lower_bound(self) -> bool:
        """Whether slower steps are still to come."""
        return self.epoch <= self.run.small_epochs < self.run.epochs

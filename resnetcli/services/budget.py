"""`train --budget`: the settings of the longest run that a time allows on this machine."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, replace

from resnetcli.config.base import IMAGE_SIZE, MAX_EPOCHS
from resnetcli.config.train import TrainConfig
from resnetcli.data.sizes import small_epochs
from resnetcli.events import Notice, OnEvent, Progress, ignore
from resnetcli.services.advice import advice
from resnetcli.services.pace import seconds_per_image, take_steps
from resnetcli.services.setup import Setup, prepare_new

LEAST_EPOCHS = 2
MOST_SMALL = 0.4
"""Fraction of the epochs that may have small images. Five epochs with two of them small are the shortest run whose
accuracy was measured (recipes/fast.toml); of three, two small ones cost 3.7 points (examples/ablation.md)."""
TIMED_STEPS = 5
MEASURING = 0.02
"""Fraction of the budget after which no further step of a size is timed."""
RESERVE = 0.03
"""Fraction of the budget kept for what is not measured: a checkpoint a minute, and the report."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that the parts of a run take here: a step with full-size and with small images (the same where all have
    full size), what ends each epoch, what ends the run. `steps` are those of an epoch."""

    full_step: float
    small_step: float
    steps: int
    epoch_end: float
    run_end: float

    def seconds(self, epochs: int, small: int) -> float:
        """Of a run of `epochs`, the first `small` of them with small images."""
        steps = self.full_step * (epochs - small) + self.small_step * small
        return self.steps * steps + self.epoch_end * epochs + self.run_end


def plan(pace: Pace, seconds: float, least: int = LEAST_EPOCHS) -> tuple[int, int]:
    """The most epochs that fit into `seconds`, `least` at any rate, and how many of them begin with small images: as
    few as fit, for small images only save time."""

    def most_small(epochs: int) -> int:
        return int(MOST_SMALL * epochs) if pace.small_step < pace.full_step else 0

    epochs = least
    while epochs < MAX_EPOCHS and pace.seconds(epochs + 1, most_small(epochs + 1)) <= seconds:
        epochs += 1
    fitting = (small for small in range(most_small(epochs)) if pace.seconds(epochs, small) <= seconds)
    return epochs, next(fitting, most_small(epochs))


def prepare_run(config: TrainConfig, on_event: OnEvent) -> Setup:
    """A run from its first step, in whose config nothing is left open: not by the machine, and not by a budget.

    With a budget, steps are taken and thrown away; the run itself begins as one whose config had said all from the
    start. Raises what `prepare_new` raises, DivergedError, NotEnoughMemoryError.
    """
    setup = prepare_new(config, on_event)
    if config.budget is None:
        return setup
    with advice(setup.config, setup.trainer.batches.batch_size):
        pace = _measure(setup, on_event)
    left = config.budget * 60 * (1 - RESERVE) - (time.monotonic() - setup.began)
    epochs, small = plan(pace, left, max(LEAST_EPOCHS, math.ceil(config.warmup_epochs)))
    size = config.start_size if small else IMAGE_SIZE
    decided = {
        "budget": None,
        "epochs": epochs,
        "start_size": size,
        "start_size_until": small / epochs if small else config.start_size_until,
    }
    expected = pace.seconds(epochs, small)
    sizes = f", the first {small} with images of {size}x{size} pixels" if small else ""
    text = f"{config.budget:g} minutes allow {epochs} epochs{sizes}"
    if expected > left:
        text = f"{config.budget:g} minutes are too few: {epochs} epochs, the least{sizes}"
    steps = f"a step takes {pace.full_step:.3g} s" + (f", {pace.small_step:.3g} s with small images" if small else "")
    on_event(Notice(f"{text}; about {expected / 60:.1f} minutes from here ({steps})", warning=expected > left))
    begun, dataset = setup.began, setup.dataset
    del setup  # its network and its optimiser's state
    return replace(prepare_new(config.model_copy(update=decided), ignore, dataset), began=begun)


def _measure(setup: Setup, on_event: OnEvent) -> Pace:
    config = setup.config
    at_most = MEASURING * 60 * (config.budget or math.inf)
    first_full = small_epochs(config)
    epochs = (0, first_full) if first_full else (0,)
    medians = []
    for done, epoch in enumerate(epochs):
        on_event(Progress("Measuring a few steps", done, len(epochs), "sizes"))
        medians.append(statistics.median(take_steps(setup, epoch, TIMED_STEPS, at_most)[1]))
    image = seconds_per_image(setup)
    on_event(Progress("Measuring a few steps", len(epochs), len(epochs), "sizes"))
    validated = len(setup.val[1])
    last = validated if config.measure_on == "val" else len(setup.dataset.test.labels)
    return Pace(medians[-1], medians[0], setup.trainer.batches.steps, image * validated, image * last)

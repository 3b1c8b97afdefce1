"""`train --budget`: the settings of the longest run that a time allows on this machine."""

from __future__ import annotations

import gc
import math
import time
from dataclasses import replace

import torch

from resnetcli.config.base import IMAGE_SIZE, MAX_EPOCHS
from resnetcli.config.train import TrainConfig
from resnetcli.events import Notice, OnEvent, Phase, ignore
from resnetcli.services.advice import advice
from resnetcli.services.pace import Pace, measure_pace
from resnetcli.services.setup import Setup, prepare_new

MIN_EPOCHS = 2
MAX_SMALL_FRACTION = 0.4
"""Of the epochs, how many may have small images: as in the five-epoch run of recipes/fast.toml, whose accuracy was
measured; two small ones of three cost 3.7 points (examples/ablation.md)."""
TIMED_STEPS = 5
"""Of each size; their median counts, for other programs slow single steps down."""
MEASURING_FRACTION = 0.02
"""Of the budget, after which no further step of a size is timed."""
RESERVE_FRACTION = 0.02
RESERVE_SECONDS = 5.0
"""Of the budget, and beside it, for what is not measured before: the drift of the machine, and the report, whose
pictures take 2 s on two cores of an AVX2 machine."""
MIN_SAVING = 0.03
"""Below this fraction of a step, what small images save is noise, and they only cost accuracy."""


def plan(pace: Pace, seconds: float, min_epochs: int = MIN_EPOCHS) -> tuple[int, int]:
    """The most epochs that fit into `seconds`, `min_epochs` at any rate, and how many of them begin with small images:
    as few as fit, for small images only save time."""

    def most_small(epochs: int) -> int:
        return round(MAX_SMALL_FRACTION * epochs) if pace.small_step < (1 - MIN_SAVING) * pace.full_step else 0

    epochs = min_epochs
    while epochs < MAX_EPOCHS and pace.seconds(epochs + 1, most_small(epochs + 1)) <= seconds:
        epochs += 1
    fitting = (small for small in range(most_small(epochs)) if pace.seconds(epochs, small) <= seconds)
    return epochs, next(fitting, most_small(epochs))


def prepare_within_budget(config: TrainConfig, on_event: OnEvent) -> Setup:
    """A run from its first step, as `prepare_new` makes it, with the epochs and the sizes of image that the budget of
    `config` allows.

    Steps are taken and thrown away: the run that is returned begins as one whose config had said all of this from the
    start. Raises what `prepare_new` raises, DivergedError, NotEnoughMemoryError.
    """
    measured = prepare_new(config, on_event)
    decided = _decide(measured, on_event)
    began, dataset, device = measured.began, measured.dataset, measured.runtime.device
    del measured
    gc.collect()  # a trainer and its step refer to each other
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    # What there is to say of data and weights has been said.
    return replace(prepare_new(config.model_copy(update=decided), ignore, dataset), began=began)


def _decide(setup: Setup, on_event: OnEvent) -> dict[str, object]:
    """The settings that the budget of `setup` stands for, and nothing left of the budget."""
    config = setup.config
    assert config.budget is not None
    seconds = 60 * config.budget
    on_event(Notice(f"taking a few steps, to see how many epochs {config.budget:g} min allow"))
    on_event(Phase("measuring steps"))
    with advice(config, setup.trainer.batches.batch_size):
        pace = measure_pace(setup, timed_steps=TIMED_STEPS, max_seconds=MEASURING_FRACTION * seconds)
    left = (1 - RESERVE_FRACTION) * seconds - RESERVE_SECONDS - (time.monotonic() - setup.began)
    epochs, small = plan(pace, left, max(MIN_EPOCHS, math.ceil(config.warmup_epochs)))
    size = config.start_size if small else IMAGE_SIZE
    expected = pace.seconds(epochs, small)
    sizes = f", the first {small} of them with images of {size}x{size} pixels" if small else ""
    text = f"a budget of {config.budget:g} min allows {epochs} epochs{sizes}"
    if expected > left:
        text = f"a budget of {config.budget:g} min is too small: the least are {epochs} epochs{sizes}"
    steps = f"a step takes {pace.full_step:.3g} s" + (f", with small images {pace.small_step:.3g} s" if small else "")
    on_event(Notice(f"{text}; about {expected / 60:.1f} min from here ({steps})", warning=expected > left))
    until = small / epochs if small else config.start_size_until
    return {"budget": None, "epochs": epochs, "start_size": size, "start_size_until": until}

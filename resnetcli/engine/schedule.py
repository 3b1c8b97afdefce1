"""Learning-rate schedules, also of a run that was extended. Everything here is a pure function of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from resnetcli.config.train import TrainConfig


@dataclass(frozen=True, slots=True)
class Clock:
    """Where a step lies in the schedule that holds for it."""

    step: int
    """Steps of that schedule before it."""
    total: int
    """Steps of that schedule."""
    end: int
    """Steps of the whole run, as it was planned at that moment."""


def clock(step: int, steps_per_epoch: int, config: TrainConfig) -> Clock:
    """The clock at optimiser step `step` (from 0, counted through the whole run).

    Where a run was extended, `stretch` makes the schedule that holds longer and leaves its beginning where it was,
    `restart` begins it again at the extension, and `constant` stops the clock at the last step before.
    """
    plans = [*(extension.epochs for extension in config.extensions), config.epochs]
    begin, held = 0, None
    total = end = plans[0] * steps_per_epoch
    for extension, epochs in zip(config.extensions, plans[1:], strict=True):
        first = extension.epoch * steps_per_epoch + extension.step
        if step < first:
            break
        end = epochs * steps_per_epoch
        if extension.policy == "restart":
            begin, held, total = first, None, max(1, end - first)
        elif held is not None:
            continue
        elif extension.policy == "stretch":
            total = end - begin
        else:
            held = max(first - 1 - begin, 0)
    return Clock(step - begin if held is None else held, total, end)


def learning_rate_share(step: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """The learning rate of optimiser step `step` (from 0) as a share of its peak, 0..1.

    Warm-up, Goyal et al., "Accurate, large minibatch SGD" (2017, https://arxiv.org/abs/1706.02677), rises linearly to
    1. Then: linear and cosine fall to 0 at the last step's end, the cosine as in Loshchilov & Hutter, "SGDR" (2016,
    https://arxiv.org/abs/1608.03983), whose warm restart is an extension here; step divides by `step_factor` every
    `step_epochs` epochs, constant stays. After three epochs of `fast` the cosine is 0.2 points worse than the line, and
    a warm-up epoch 0.4, both within chance (examples/ablation.md).
    """
    at = clock(step, steps_per_epoch, config)
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if at.step < warmup:
        return (at.step + 1) / warmup
    progress = (at.step - warmup) / max(1, at.total - warmup)
    match config.schedule:
        case "linear":
            return 1 - progress
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress))
        case "step":
            return float(config.step_factor ** -(at.step // steps_per_epoch // config.step_epochs))
        case "constant":
            return 1.0

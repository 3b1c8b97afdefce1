"""`train --resume RUN --epochs N --extend POLICY`: a run gets another number of epochs than it was planned for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from resnetcli.checkpoints.format import TrainerHeader
from resnetcli.config.extension import MAX_EXTENSIONS, ExtendConfig, Extension
from resnetcli.config.train import TrainConfig
from resnetcli.engine.schedule import learning_rate_share
from resnetcli.errors import UsageError
from resnetcli.events import Notice
from resnetcli.results.train import EpochRate

HARDLY_ANY = 0.01
"""Of the peak: a learning rate that changes little."""


def extended(config: TrainConfig, at: TrainerHeader, asked: ExtendConfig, run: Path) -> TrainConfig:
    """The settings of `run`, which stands at `at` and has those of `config`, with as many epochs as were asked for.

    Extensions that no step has been taken under make room. Raises UsageError.
    """
    here = at.epoch, at.step
    kept = tuple(e for e in config.extensions if (e.epoch, e.step) < here)
    planned = [*(e.epochs for e in config.extensions), config.epochs][len(kept)]
    option = f"--epochs {asked.epochs}"
    if (asked.epochs, 0) <= here:
        inside = f" and {at.step} steps of the next" if at.step else ""
        raise UsageError(
            f"{option}: {run} has done {at.epoch} epochs{inside}; it is the number for the whole run",
            f"give more than that, for instance --epochs {at.epoch + max(1, planned // 2)}",
        )
    if asked.epochs == config.epochs and kept == config.extensions:
        raise UsageError(f"{option}: {run} is planned for {planned} epochs already", f"go on with: --resume {run}")
    left = asked.epochs - at.epoch if asked.extend == "restart" else asked.epochs
    if config.warmup_epochs > left:
        raise UsageError(
            f"{option} --extend {asked.extend}: the warm-up of {config.warmup_epochs:g} epochs is longer than the "
            f"{left} that it would be part of",
            "give more epochs",
        )
    if len(kept) == MAX_EXTENSIONS:
        raise UsageError(f"{option}: {run} was extended {MAX_EXTENSIONS} times", f"start a new run with --init {run}")
    new = Extension(epoch=at.epoch, step=at.step, epochs=planned, policy=asked.extend)
    return config.model_copy(update={"epochs": asked.epochs, "extensions": (*kept, new)})


def same_plan(config: TrainConfig, then: Mapping[str, object], at: TrainerHeader) -> bool:
    """Whether a run whose settings are `config` had, up to `at`, the epochs and extensions of `then`, the settings as
    a checkpoint of that moment states them."""
    now = config.model_dump(mode="json")["extensions"]
    before = then.get("extensions", [])
    known = len(before) if isinstance(before, list) else 0
    plans = [*(extension["epochs"] for extension in now), config.epochs]
    later = config.extensions[known:]
    return (
        now[:known] == before
        and plans[known] == then.get("epochs", plans[known])
        and all((at.epoch, at.step) <= (e.epoch, e.step) for e in later)
    )


def rates(config: TrainConfig, steps_per_epoch: int) -> tuple[EpochRate, ...]:
    """The learning rates of some epochs before and after the last extension, and of the last epoch."""
    first = config.extensions[-1].epoch
    chosen = {*range(max(0, first - 2), min(first + 3, config.epochs)), config.epochs - 1}

    def rate(step: int) -> float:
        return config.lr * learning_rate_share(step, steps_per_epoch, config)

    return tuple(
        EpochRate(
            epoch=epoch + 1,
            first=rate(epoch * steps_per_epoch),
            last=rate((epoch + 1) * steps_per_epoch - 1),
            extended=epoch >= first,
        )
        for epoch in sorted(chosen)
    )


def announce(config: TrainConfig, steps_per_epoch: int) -> Iterator[Notice]:
    """What the last extension means, for whoever starts it."""
    last, shown = config.extensions[-1], rates(config, steps_per_epoch)
    parts = ["", ""]
    for row in shown:
        gap = ", …" if row.epoch == config.epochs and row.epoch - 1 not in {r.epoch for r in shown} else ""
        text = f"{gap}{', ' if parts[row.extended] else ''}{row.epoch}: {row.first:.3g} to {row.last:.3g}"
        parts[row.extended] += text
    before = f"{parts[0]}; from now on " if parts[0] else ""
    yield Notice(
        f"extended from {last.epochs} to {config.epochs} epochs ({last.policy}); learning rate by epoch, "
        f"first to last step: {before}{parts[1]}"
    )
    peak = max(shown[-1].first, shown[-1].last) / config.lr
    if last.policy == "constant" and peak < HARDLY_ANY:
        yield Notice(
            f"the learning rate stays at {shown[-1].last:.3g}, {100 * peak:.2g} % of the peak, which changes little: "
            "--extend stretch and restart take higher ones",
            warning=True,
        )

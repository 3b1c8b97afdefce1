"""What a service says while it works. Services never print: they call `on_event` with one of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from resnetcli.results.train import CurveNotes, EpochRow


@dataclass(frozen=True, slots=True)
class Notice:
    """One line that the user should read; `warning` marks what may matter to the result."""

    text: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """What is being done from now to the next event, where there is nothing to count: "loading PyTorch"."""

    text: str


@dataclass(frozen=True, slots=True)
class Progress:
    """`done` of `total` (None: not known) units of a task; `unit` is "B" for bytes, else a plural such as "images"."""

    task: str
    done: int
    total: int | None
    unit: str


@dataclass(frozen=True, slots=True)
class RunStarted:
    """Training is about to take its first step. `start_epoch` counts from 1; `start_step` were done of it before.
    Steps of the first `small_epochs` take less time than those after them, since their images are smaller."""

    run_dir: Path
    device: str
    precision: str
    threads: int
    parameters: int
    train_images: int
    val_images: int
    epochs: int
    steps_per_epoch: int
    batch_size: int
    start_epoch: int
    start_step: int
    small_epochs: int = 0


@dataclass(frozen=True, slots=True)
class RunHistory:
    """Just before `RunStarted`: the epochs that were done before, and what must be known to draw them."""

    run_dir: Path
    history: tuple[EpochRow, ...]
    notes: CurveNotes


@dataclass(frozen=True, slots=True)
class StepDone:
    """One optimiser step. `step` counts from 1 inside `epoch` (from 1); means are over the epoch so far."""

    epoch: int
    step: int
    loss: float
    top1: float
    lr: float
    images_per_s: float


@dataclass(frozen=True, slots=True)
class EpochDone:
    row: EpochRow
    best: bool


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    path: Path
    step: int
    seconds: float


Event = Notice | Phase | Progress | RunHistory | RunStarted | StepDone | EpochDone | CheckpointSaved
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `on_event` for callers that want none."""

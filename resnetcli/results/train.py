"""A training run, epoch by epoch."""

from __future__ import annotations

from pydantic import Field

from resnetcli.results.base import SCHEMA_VERSION, Result
from resnetcli.results.evaluate import EvaluateResult

REPORT_FOLDER = "report"
"""In a run directory, for the curves and what the closing measurement found."""


class EpochRow(Result):
    """One row of metrics.jsonl and metrics.csv; the validation columns are null in a final run."""

    epoch: int
    step: int
    train_loss: float
    train_top1: float
    val_loss: float | None
    val_top1: float | None
    lr: float
    images_per_s: float
    seconds: float
    memory_mib: float


class CurveNotes(Result):
    """What must be known of a run, besides its rows, to read its curves."""

    run: str
    """Name of the run directory."""
    size: int
    """Pixels a side of the validation images, and of the training images after `small_epochs`."""
    start_size: int
    """Pixels a side of the training images before that."""
    small_epochs: int
    """How many epochs begin with images of `start_size`; 0: none."""
    train_loss_with: tuple[str, ...]
    """What the training loss is of, and the validation loss is not: for instance "label smoothing 0.2"."""


class TrainResult(Result):
    schema_version: int = SCHEMA_VERSION
    command: str = "train"
    run_dir: str
    checkpoint: str
    """The checkpoint that was measured: best on validation, or the last epoch of a final run."""
    epochs: int
    steps: int
    stopped: str
    """ "finished", "patience" or "max_time"."""
    train_seconds: float
    history: tuple[EpochRow, ...]
    measured: EvaluateResult | None
    """On the test split, unless the run was told to leave it alone; None where the run stopped before its end."""
    notes: CurveNotes = Field(exclude=True, repr=False)
    """For history.png; not part of the JSON document."""


class EpochRate(Result):
    """The learning rate at the first and at the last step of an epoch (from 1)."""

    epoch: int
    first: float
    last: float
    extended: bool
    """Whether an extension holds at its end."""


class DryRunResult(Result):
    """One real step, and what the whole run would need."""

    schema_version: int = SCHEMA_VERSION
    command: str = "train --dry-run"
    config: dict[str, object]
    origins: dict[str, str]
    """For each setting: "flag", "environment", "file", "recipe" or "default"; "budget" for what a budget chose, and
    "run" for what a run that is extended has, and "scaled" for a recipe's rate for another batch size than its own."""
    device: str
    precision: str
    parameters: int
    train_images: int
    val_images: int
    steps: int
    first_loss: float
    step_seconds: float
    """Of a step with the images of the run's beginning."""
    last_step_seconds: float
    """Of a step with the images of its end: larger where it begins with smaller images."""
    estimated_seconds: float
    peak_memory: int
    disk_needed: int
    disk_free: int
    rates: tuple[EpochRate, ...] = ()
    """Of some epochs before and after an extension; of a new run none."""

"""The history of a run, which its checkpoint holds, as others see it: metrics.jsonl and metrics.csv, rewritten whole,
so never torn, and what must be known to read its curves."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.format import TRAINER_FILE, TrainerHeader, read_json, read_own_header
from resnetcli.checkpoints.manager import step_folders
from resnetcli.config.base import CONFIG_FILE, IMAGE_SIZE
from resnetcli.config.train import TrainConfig
from resnetcli.data.sizes import small_epochs
from resnetcli.errors import CheckpointError
from resnetcli.results.train import CurveNotes, EpochRow


def write_history(run_dir: Path, history: Sequence[EpochRow]) -> None:
    """One row for each epoch; pandas reads both files as they are. Raises StorageError."""
    table = io.StringIO()
    writer = csv.DictWriter(table, list(EpochRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.model_dump() for row in history)
    storage.write_file(run_dir / "metrics.csv", table.getvalue().encode())
    lines = "".join(row.model_dump_json() + "\n" for row in history)
    storage.write_file(run_dir / "metrics.jsonl", lines.encode())


def read_history(run_dir: Path) -> tuple[tuple[EpochRow, ...], CurveNotes] | None:
    """The epochs that a run has done, by its newest checkpoint that can be read, and what must be known beside them;
    None where it has done none."""
    for folder in reversed(step_folders(run_dir)):
        try:
            position = read_own_header(folder / TRAINER_FILE, TrainerHeader)
            config = read_json(run_dir / CONFIG_FILE, TrainConfig)
        except (CheckpointError, OSError):
            continue
        return (position.history, curve_notes(run_dir, config)) if position.history else None
    return None


def curve_notes(run_dir: Path, config: TrainConfig) -> CurveNotes:
    """What history.png says of the run in `run_dir` besides its rows."""
    train_loss_with = []
    if config.label_smoothing:
        train_loss_with.append(f"label smoothing {config.label_smoothing:g}")
    if mixes := [name for name, on in (("Mixup", config.mixup), ("CutMix", config.cutmix)) if on and config.mix_share]:
        of = "" if config.mix_share == 1 else f" in {100 * config.mix_share:g} % of the steps"
        train_loss_with.append(" or ".join(mixes) + of)
    return CurveNotes(
        run=run_dir.name or run_dir.resolve().name,
        size=IMAGE_SIZE,
        start_size=config.start_size,
        small_epochs=small_epochs(config),
        train_loss_with=tuple(train_loss_with),
    )

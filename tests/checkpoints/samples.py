"""Small checkpoints for the tests, and what can happen to a file."""

from __future__ import annotations

from pathlib import Path

import torch

from resnetcli.checkpoints.format import Architecture, ModelHeader, Normalization, TrainerHeader
from resnetcli.checkpoints.manager import Snapshot

NORMALIZATION = Normalization(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def snapshot(step: int, val_top1: float | None = None) -> Snapshot:
    """What a run would save at `step`, with 64 weights that tell which step it was."""
    metrics = {} if val_top1 is None else {"val_top1": val_top1}
    header = ModelHeader(
        architecture=Architecture(), class_names=("a", "b"), normalization=NORMALIZATION, step=step, metrics=metrics
    )
    position = TrainerHeader(
        epoch=0, step=step, global_step=step, seconds=0, total_seconds=0, history=(), versions={"torch": "2"}
    )
    return Snapshot({"w": torch.full((64,), float(step))}, header, {"m": torch.ones(3)}, position)


def damage(path: Path, how: str) -> None:
    """Leaves the file cut, with one bit flipped, gone or empty."""
    data = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(data[:-5])
    elif how == "flip":
        data[-3] ^= 1
        path.write_bytes(data)
    elif how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")

"""The life of a small run, in all that it does to the disk, and what must be true wherever it was cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.locks import RunLock
from resnetcli.checkpoints.manager import (
    CONFIG_FILE,
    CheckpointManager,
    newest_intact,
    read_best,
    step_folders,
    verify_folder,
)
from resnetcli.config.train import TrainConfig
from resnetcli.errors import UsageError
from resnetcli.services.checkpoints import prune
from resnetcli.services.history import write_history
from resnetcli.services.run_folder import new_run_folder
from tests.checkpoints.samples import snapshot

Saved = tuple[int, float | None]

FIRST: tuple[Saved, ...] = ((0, None), (1, 0.3), (2, 0.9), (3, None), (4, None))
SECOND: tuple[Saved, ...] = ((4, 0.95), (5, 0.2), (6, None))
"""A run that was stopped in a validation saves that step once more when it goes on."""


def live(root: Path, acknowledge: Callable[[Saved], None]) -> None:
    """Starts a run and saves; is resumed and replaces its newest checkpoint; is pruned by hand."""
    config = config_in(root)
    run = new_run_folder(config)
    with RunLock(run):
        manager = CheckpointManager(run, keep_last=2)
        storage.write_file(run / CONFIG_FILE, config.model_dump_json().encode())
        write_history(run, [])
        _save(manager, FIRST, acknowledge)
    with RunLock(run):
        manager = CheckpointManager(run, keep_last=2)
        manager.set_damaged_aside()
        _save(manager, SECOND, acknowledge)
    prune(run, keep_last=1, dry_run=False)


def _save(manager: CheckpointManager, saves: Iterable[Saved], acknowledge: Callable[[Saved], None]) -> None:
    for step, score in saves:
        manager.save(snapshot(step, score))
        acknowledge((step, score))


def config_in(root: Path) -> TrainConfig:
    return TrainConfig(output_dir=root / "runs", name="r")


def check_nothing_lost(root: Path, acknowledged: Iterable[Saved]) -> None:
    """What a reader finds, and then the next process: a newest checkpoint and a best one that are at least those that
    were acknowledged, nothing damaged, nothing left lying about, and room to go on."""
    run = config_in(root).output_dir / "r"
    promised = list(acknowledged)
    _check_readers(run, promised)
    if not run.is_dir() or not step_folders(run):
        assert new_run_folder(config_in(root)) == run  # nothing saved: the same command starts it again
    else:
        assert promised or _is_refused(root)
    with RunLock(run):
        manager = CheckpointManager(run, keep_last=2)
        litter = [p for p in run.rglob("*") if p.name.startswith((storage.TEMPORARY, storage.REPLACED))]
        assert not litter
        assert manager.set_damaged_aside() == []
        _check_readers(run, promised)
        manager.save(snapshot(99))
    assert newest_intact(run)[1].position.global_step == 99


def _check_readers(run: Path, promised: list[Saved]) -> None:
    for folder in step_folders(run):
        verify_folder(folder)
    if not promised:
        return
    _, newest = newest_intact(run)
    assert newest.position.global_step >= max(step for step, _ in promised)
    assert torch.equal(newest.model["w"], torch.full((64,), float(newest.position.global_step)))
    _, _, header, passed_over = read_best(run)
    assert header.metrics.get("val_top1", -1) >= max(-1 if score is None else score for _, score in promised)
    assert not passed_over
    TrainConfig.model_validate_json((run / CONFIG_FILE).read_text())


def _is_refused(root: Path) -> bool:
    try:
        new_run_folder(config_in(root))
    except UsageError:
        return True
    return False

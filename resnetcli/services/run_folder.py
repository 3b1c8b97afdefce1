"""Names a new run and makes its folder; nothing that is already there is ever written over."""

from __future__ import annotations

import errno
from itertools import count
from pathlib import Path

from resnetcli import durable
from resnetcli.checkpoints.locks import LOCK_FILE, SOFT_LOCK_FILE, check_not_in_use
from resnetcli.checkpoints.manager import step_folders
from resnetcli.checkpoints.storage import TEMPORARY
from resnetcli.config.base import CHECKPOINTS, CONFIG_FILE
from resnetcli.config.train import TrainConfig
from resnetcli.errors import StorageError, UsageError
from resnetcli.services.output_dir import check_output_dir, refusal_hint

OURS = (CHECKPOINTS, CONFIG_FILE, "metrics.csv", "metrics.jsonl", LOCK_FILE, SOFT_LOCK_FILE, ".holder")


def check_run_folder(config: TrainConfig) -> None:
    """Fails early where `new_run_folder` would fail: before data is fetched. Makes nothing. Raises UsageError,
    RunInUseError, StorageError."""
    check_output_dir(config.output_dir, config.name)
    if config.name is not None and (config.output_dir / config.name).is_dir():
        _check_unused(config.output_dir / config.name, soft_lock=config.soft_lock)


def new_run_folder(config: TrainConfig) -> Path:
    """Makes and returns `output_dir/name`; without a name, the recipe's and the first free number.

    Raises UsageError where a run of this name exists (RunInUseError if it is running), StorageError where the folder
    cannot be made.
    """
    try:
        durable.make_folder(config.output_dir, parents=True)
        if config.name is not None:
            return _named(config.output_dir / config.name, soft_lock=config.soft_lock)
        for number in count(1):
            path = config.output_dir / f"{Path(config.recipe).stem}-{number}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            durable.sync_folder(config.output_dir)
            return path
    except OSError as error:
        hint = refusal_hint(error, "--name" if error.errno == errno.ENAMETOOLONG else "--output-dir")
        raise StorageError(f"cannot make a run directory in {config.output_dir}: {error.strerror}", hint) from error
    raise AssertionError("there is always another number")


def _named(path: Path, *, soft_lock: bool) -> Path:
    durable.make_folder(path)
    _check_unused(path, soft_lock=soft_lock)
    return path


def check_still_unused(path: Path) -> None:
    """For whoever holds the run's lock: another process may have used the folder since it was found unused."""
    if step_folders(path):
        hint = f"go on with --resume {path}, or choose another --name"
        raise UsageError(f"{path}: a run of this name exists", hint)


def _check_unused(path: Path, *, soft_lock: bool) -> None:
    """A run that was stopped before it saved anything does not count; anything else in the folder does."""
    check_not_in_use(path, soft=soft_lock)
    check_still_unused(path)
    if any(p.name not in OURS and not p.name.startswith(TEMPORARY) for p in path.iterdir()):
        raise UsageError(f"{path}: a folder of this name exists and is not empty", "choose another --name")

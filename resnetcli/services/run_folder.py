"""Names a new run and makes its folder; nothing that is already there is ever written over."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from resnetcli.checkpoints.manager import RunLock, is_run
from resnetcli.config import TrainConfig
from resnetcli.errors import StorageError, UsageError


def new_run_folder(config: TrainConfig) -> Path:
    """Makes and returns `output_dir/name`; without a name, the recipe's and the first free number.

    Raises UsageError where a run of this name exists (RunInUseError if it is running), StorageError where the folder
    cannot be made.
    """
    try:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        if config.name is not None:
            return _named(config.output_dir / config.name)
        for number in count(1):
            path = config.output_dir / f"{Path(config.recipe).stem}-{number}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            return path
    except OSError as error:
        hint = "choose a folder that you can write to with --output-dir"
        raise StorageError(f"cannot make a run directory in {config.output_dir}: {error.strerror}", hint) from error
    raise AssertionError("there is always another number")


def _named(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    if is_run(path):
        with RunLock(path):
            hint = f"go on with --resume {path}, or choose another --name"
            raise UsageError(f"{path}: a run of this name exists", hint)
    if any(path.iterdir()):
        raise UsageError(f"{path}: a folder of this name exists and is not empty", "choose another --name")
    return path

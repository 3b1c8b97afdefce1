"""Whether a run could be written where it is wanted: asked before torch is imported, so that a "no" costs no time."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from resnetcli.config.base import CHECKPOINTS
from resnetcli.errors import CheckpointError, StorageError


def check_output_dir(output_dir: Path, name: str | None = None) -> None:
    """Makes nothing. Raises StorageError where no run directory, or none of this name, could be made in `output_dir`,
    which may be missing."""
    parent = check_can_be_made(output_dir, "--output-dir")
    _check_length(parent, [name] if name else [], f"--name {name}", "--name")


def check_can_be_made(folder: Path, option: str) -> Path:
    """Makes nothing; returns what there is of the path. Raises StorageError where the folder of `option` could not be
    made or written to."""
    parent, missing = folder.absolute(), []
    while True:
        try:
            status = parent.stat()
            break
        except (FileNotFoundError, NotADirectoryError):
            missing.append(parent.name)
            parent = parent.parent
        except OSError as error:
            raise StorageError(f"{option} {folder}: {error.strerror}", refusal_hint(error, option)) from error
    if not stat.S_ISDIR(status.st_mode):
        raise StorageError(f"{option} {folder}: {parent} is a file", "name a folder")
    if not _is_writable(parent):
        hint = f"choose a folder that you can write to with {option}"
        raise StorageError(f"{option} {folder}: {parent} is not writable", hint)
    _check_length(parent, missing, f"{option} {folder}", option)
    return parent


def _check_length(parent: Path, names: list[str], what: str, option: str) -> None:
    """Each of the names as if it lay in `parent`: of a path, the file system looks no further than what is missing."""
    for name in names:
        try:
            (parent / name).lstat()
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise StorageError(f"{what}: {error.strerror}", refusal_hint(error, option)) from error


def refusal_hint(error: OSError, option: str) -> str:
    """What to do about a path that the file system does not take."""
    if error.errno == errno.ENAMETOOLONG:
        return f"choose a shorter name with {option}: most file systems take 255 bytes, and a letter may need up to 4"
    return f"choose a folder that you can write to with {option}"


def check_run_dir(run: Path) -> None:
    """Raises CheckpointError where `run` is no folder, StorageError where it cannot go on in it."""
    if not run.is_dir():
        raise CheckpointError(f"{run}: not a run directory", "a run directory holds config.json and checkpoints/")
    for folder in (run, run / CHECKPOINTS):
        if folder.exists() and not (folder.is_dir() and _is_writable(folder)):
            hint = "make it writable, or go on with a copy of the run in another place"
            raise StorageError(f"cannot go on with {run}: {folder} is not a folder that can be written to", hint)


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)

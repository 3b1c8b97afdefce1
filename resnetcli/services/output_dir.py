"""Whether a run could be written where it is wanted: asked before torch is imported, so that a "no" costs no time."""

from __future__ import annotations

import os
from pathlib import Path

from resnetcli.errors import CheckpointError, StorageError


def check_output_dir(output_dir: Path) -> None:
    """Makes nothing. Raises StorageError where no run directory could be made in `output_dir`, which may be missing."""
    parent = next(p for p in (output_dir.absolute(), *output_dir.absolute().parents) if p.exists())
    if not parent.is_dir():
        raise StorageError(f"--output-dir {output_dir}: {parent} is a file", "name a folder")
    if not _is_writable(parent):
        hint = "choose a folder that you can write to with --output-dir"
        raise StorageError(f"cannot make a run directory in {output_dir}: {parent} is not writable", hint)


def check_run_dir(run: Path) -> None:
    """Raises CheckpointError where `run` is no folder, StorageError where it cannot go on in it."""
    if not run.is_dir():
        raise CheckpointError(f"{run}: not a run directory", "a run directory holds config.json and checkpoints/")
    for folder in (run, run / "checkpoints"):
        if folder.exists() and not (folder.is_dir() and _is_writable(folder)):
            hint = "make it writable, or go on with a copy of the run in another place"
            raise StorageError(f"cannot go on with {run}: {folder} is not a folder that can be written to", hint)


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)

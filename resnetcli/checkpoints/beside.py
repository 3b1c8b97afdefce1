"""Reading beside a run that saves: what is there may be replaced or cleared away while it is read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from resnetcli.errors import CheckpointError

_T = TypeVar("_T")


def beside_a_run(folder: Path, read: Callable[[Path], _T]) -> _T | None:
    """What `read` makes of a checkpoint, while its run may be saving, replacing and clearing away; None where it is
    gone by now. Raises CheckpointError where it is damaged."""
    while True:
        before = _identity(folder)
        try:
            return read(folder)
        except CheckpointError:
            now = _identity(folder)
            if now is None:
                return None
            if now == before:  # else it was replaced while it was read
                raise


def _identity(folder: Path) -> tuple[int, int] | None:
    """Which folder has this name; None: none."""
    try:
        status = os.lstat(folder)
    except FileNotFoundError:
        return None
    except OSError:
        return 0, 0
    return status.st_dev, status.st_ino

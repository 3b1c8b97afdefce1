"""Report files, written as durably as checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnetcli.checkpoints import storage


def write_report(folder: Path, contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Writes each file into `folder`, which is made if it is missing; returns their paths. Raises StorageError."""
    for name, data in contents.items():
        storage.write_file(folder / name, data)
    return tuple(str(folder / name) for name in contents)

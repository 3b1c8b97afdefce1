"""Report files, written as durably as checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnetcli.checkpoints import storage


def write_report(folder: Path, contents: Mapping[str, bytes]) -> tuple[str, ...]:
    """Writes each file into `folder`, which is made if it is missing; returns their paths. Raises StorageError, also
    where the folder above is gone: a run that vanished does not come back as a mere report."""
    storage.make_folder(folder)
    for name, data in contents.items():
        storage.write_file(folder / name, data)
    return tuple(str(folder / name) for name in contents)

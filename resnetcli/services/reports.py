"""Report files, written as durably as checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resnetcli.checkpoints import storage


def write_report(folder: Path, contents: Mapping[str, bytes | None]) -> tuple[str, ...]:
    """Writes each file into `folder`, which is made if it is missing; returns their paths. Of a file that could not be
    made (None) one that an earlier report left goes away, else it would pass for a part of this one. Raises
    StorageError, also where the folder above is gone: a run that vanished does not come back as a mere report."""
    storage.make_folder(folder)
    for name, data in contents.items():
        if data is None:
            storage.remove_file(folder / name)
        else:
            storage.write_file(folder / name, data)
    return tuple(str(folder / name) for name, data in contents.items() if data is not None)

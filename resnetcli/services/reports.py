"""Report files, written as durably as checkpoints; none of a report that was never finished stands in the way."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from resnetcli.checkpoints import storage
from resnetcli.errors import StorageError, UsageError
from resnetcli.services.output_dir import check_can_be_made
from resnetcli.untrusted import read_plain

UNFINISHED = ".unfinished-report"
"""Names the files of a report that is being written, or whose writer was killed, a line each. It goes last."""
MAX_BYTES = 2**12
"""Of that file: a report has some ten names."""


def check_free(folder: Path, wanted: Iterable[str]) -> None:
    """Asks early whether `write_report` could write the files `wanted` into `folder`; makes nothing, so that nothing is
    left where the measurement fails. Raises UsageError where one of them is there already, unless it is left of a
    report that was never finished, and StorageError where the folder cannot be made."""
    unfinished = _unfinished(folder)
    for name in wanted:
        if os.path.lexists(folder / name) and name not in unfinished:
            raise UsageError(f"{folder / name} exists, and nothing is overwritten", "choose another --output folder")
    if os.path.lexists(folder) and not folder.is_dir():
        raise UsageError(f"--output {folder}: is a file", "name a folder; it is made if it is missing")
    check_can_be_made(folder, "--output")


def is_free(folder: Path) -> bool:
    """Whether nothing lies there but what a killed command has left."""
    if not os.path.lexists(folder):
        return True
    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(storage.TEMPORARY)]
    except OSError:
        return False
    return set(names) <= {UNFINISHED, *_unfinished(folder)}


def _unfinished(folder: Path) -> list[str]:
    try:
        return read_plain(folder / UNFINISHED, MAX_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []


def write_report(folder: Path, contents: Mapping[str, bytes | None], *, parents: bool = False) -> tuple[str, ...]:
    """Writes each file into `folder`, which is made if it is missing; returns their paths. Of a file that could not be
    made (None) one that an earlier report left goes away, else it would pass for a part of this one. Raises
    StorageError; then no file and no folder is left that was not there before. Without `parents` also where the folder
    above is gone: a run that vanished does not come back as a mere report."""
    paths = {folder / name: data for name, data in contents.items() if data is not None}
    new = [path for path in paths if not os.path.lexists(path)]
    folders = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    mark = folder / UNFINISHED
    try:
        storage.make_folder(folder, parents=parents)
        with contextlib.suppress(StorageError):  # on a full disk the first file is refused too, and is what matters
            storage.write_file(mark, "\n".join(contents).encode())
        for name, data in contents.items():
            if data is None:
                storage.remove_file(folder / name)
            else:
                storage.write_file(folder / name, data)
        storage.remove_file(mark)
    except BaseException:
        with contextlib.suppress(StorageError, OSError):
            for path in (*new, mark):
                storage.remove_file(path)
            for path in folders:
                path.rmdir()
        raise
    return tuple(map(str, paths))

"""The only durable writer. A file or folder appears under its name complete, or not at all, also if the power fails.

Everything is written beside its place under a name that starts with `.tmp-`, synced, renamed, and the folder synced.
A reader never looks at such names; `sweep` clears what a killed process left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from resnetcli.errors import StorageError

TEMPORARY, REPLACED = ".tmp-", ".replaced-"


def write_file(path: Path, data: bytes) -> None:
    """Writes or replaces the file `path`. Raises StorageError; then the old file, if any, is untouched."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}")
    with _explained(path, len(data)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_synced(temporary, data)
            temporary.replace(path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Makes the folder `path` with these files. Raises StorageError; then there is no litter, and a folder that was
    there is still there. Otherwise it is replaced, never merged.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}")
    with _explained(path, sum(map(len, files.values()))):
        try:
            temporary.mkdir(parents=True)
            for name, data in files.items():
                _write_synced(temporary / name, data)
            _sync_folder(temporary)
            _rename_over(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _rename_over(new: Path, path: Path) -> None:
    """Gives `new` the name `path`. What had it is put aside first and removed last, so that at any moment one of them
    is whole; `sweep` gives it back its name if a kill came in between."""
    aside = path.with_name(f"{REPLACED}{path.name}")
    if path.exists():
        path.rename(aside)
    try:
        new.rename(path)
    except OSError:
        if aside.exists():
            aside.rename(path)
        raise
    _sync_folder(path.parent)
    shutil.rmtree(aside, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Removes a folder so that it is never seen half-empty under its own name."""
    doomed = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}")
    with _explained(path, 0):
        path.rename(doomed)
        _sync_folder(path.parent)
        shutil.rmtree(doomed)


def rename_folder(path: Path, to: Path) -> None:
    """Gives a folder another name, durably; a folder that has it already is removed."""
    with _explained(to, 0):
        if to.exists():
            remove_folder(to)
        path.rename(to)
        _sync_folder(path.parent)


def sweep(folder: Path) -> list[Path]:
    """Clears what killed writers left in `folder`; only for whoever holds the run's lock. Returns what was removed."""
    for aside in folder.glob(f"{REPLACED}*") if folder.is_dir() else []:
        path = aside.with_name(aside.name.removeprefix(REPLACED))
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(path)
    leftovers = sorted(folder.glob(f"{TEMPORARY}*")) if folder.is_dir() else []
    for path in leftovers:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return leftovers


@contextlib.contextmanager
def _explained(path: Path, size: int) -> Iterator[None]:
    """Turns an OSError into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            hint = f"free at least {size:,} bytes there, then try again; a run goes on with --resume"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "make the folder writable, or choose another"
        else:
            hint = "check that the folder still exists and its disk answers"
        raise StorageError(f"cannot write {path}: {error.strerror or error}", hint) from error


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder; its rename is as durable as it gets
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

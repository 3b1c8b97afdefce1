"""The durable writer of runs and reports.

A file or folder appears under its name complete, or not at all, also if the power fails.

Everything is written beside its place under a name that starts with `.tmp-`, synced, renamed, and the folder synced.
A reader never looks at such names; `sweep` clears what a killed process left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from resnetcli import durable
from resnetcli.errors import StorageError

TEMPORARY, REPLACED = ".tmp-", ".replaced-"
LONGEST_NAME = 200
"""Bytes of a file's own name in its temporary ones; file systems take 255 in all."""
WRITE_ATTEMPTS = 3
"""Of a file that another writer of the same name sweeps before it is renamed."""


def write_file(path: Path, data: bytes, *, parents: bool = False) -> None:
    """Writes or replaces the file `path`; with `parents` in a folder that is made if it is missing. Raises
    StorageError; then the old file, if any, is untouched."""
    with _explained(path, len(data)):
        if parents:
            durable.make_folder(path.parent, parents=True)
        _sweep_before(path)
        for attempt in range(WRITE_ATTEMPTS):
            temporary = path.with_name(f"{_prefix(path)}{uuid.uuid4().hex[:8]}")
            try:
                durable.write_synced(temporary, data)
                temporary.replace(path)
                break
            except FileNotFoundError:  # between its last byte and its name, another writer of `path` has swept it
                if attempt == WRITE_ATTEMPTS - 1 or not path.parent.is_dir():
                    raise
            finally:
                temporary.unlink(missing_ok=True)
        durable.sync_folder(path.parent)


def _prefix(path: Path) -> str:
    """What the temporary names of `path` begin with, cut so that they are no longer than a name may be."""
    name = path.name if len(os.fsencode(path.name)) <= LONGEST_NAME else path.name[: LONGEST_NAME // 4]
    return f"{TEMPORARY}{name}-"


def _sweep_before(path: Path) -> None:
    """Clears what killed writers of the file `path` left beside it; what others are writing stays."""
    pattern = re.compile(re.escape(_prefix(path)) + r"[0-9a-f]{8}")
    for name in os.listdir(path.parent):  # noqa: PTH208  # names are all that is wanted
        if pattern.fullmatch(name) and durable.is_abandoned(path.with_name(name)):
            path.with_name(name).unlink(missing_ok=True)


def remove_file(path: Path) -> None:
    """Removes the file `path` if it is there. Raises StorageError."""
    with _explained(path, 0):
        path.unlink(missing_ok=True)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Makes the folder `path` with these files. Raises StorageError; then there is no litter, and a folder that was
    there is still there. Otherwise it is replaced, never merged.

    What is above it must exist: a run directory that vanished would else come back without its other files.
    """
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}")
    with _explained(path, sum(map(len, files.values()))):
        try:
            temporary.mkdir()
            for name, data in files.items():
                durable.write_synced(temporary / name, data)
            durable.sync_folder(temporary)
            _rename_over(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def make_folder(path: Path, *, parents: bool = False) -> None:
    """Makes the folder `path`, in one that exists or with `parents`, or makes sure that it will still be there. Raises
    StorageError."""
    with _explained(path, 0):
        durable.make_folder(path, parents=parents)


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
    durable.sync_folder(path.parent)
    _remove(aside, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Removes a folder so that it is never seen half-empty under its own name."""
    doomed = path.with_name(f"{TEMPORARY}{path.name}-{uuid.uuid4().hex[:8]}")
    with _explained(path, 0):
        path.rename(doomed)
        durable.sync_folder(path.parent)
        _remove(doomed)


def _remove(path: Path, *, ignore_errors: bool = False) -> None:
    """Removes a folder with all that is in it; of a link only the link, for what it points to is not ours."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=ignore_errors)


def rename_folder(path: Path, to: Path) -> None:
    """Gives a folder another name, durably; a folder that has it already is removed."""
    with _explained(to, 0):
        if to.exists():
            remove_folder(to)
        path.rename(to)
        durable.sync_folder(path.parent)


def sweep(folder: Path) -> list[Path]:
    """Clears what killed writers left in the folder `folder`; only for whoever holds the run's lock. Returns what was
    removed. Raises StorageError where the disk refuses."""
    with _explained(folder, 0):
        asides, leftovers = sorted(folder.glob(f"{REPLACED}*")), sorted(folder.glob(f"{TEMPORARY}*"))
        if asides or leftovers:
            # The killed writer's last renames may not be on the disk yet. A power failure that took them back would
            # find what is emptied now under its old name: half a checkpoint, or the only copy of one.
            durable.sync_folder(folder)
        for aside in asides:
            path = aside.with_name(aside.name.removeprefix(REPLACED))
            if path.exists():
                _remove(aside, ignore_errors=True)
            else:
                aside.rename(path)
        for path in leftovers:
            _remove(path, ignore_errors=True)
        return leftovers


@contextlib.contextmanager
def _explained(path: Path, size: int) -> Iterator[None]:
    """Turns an OSError into a StorageError that says what to do; `size` is how many bytes were to be written."""
    try:
        yield
    except OSError as error:
        reason, hint = error.strerror or str(error), "check that the folder still exists and its disk answers"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            reason += f" ({size:,} bytes are needed, {_free(path)} are free on this disk)"
            hint = "free some space there, then try again; a run goes on with --resume"
        if error.errno == errno.EFBIG:
            hint = "files may not be that large here: see `ulimit -f`; a run goes on with --resume"
        elif error.errno == errno.ENAMETOOLONG:
            hint = "choose a shorter name: most file systems take 255 bytes, and a letter may need up to 4"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "make the folder writable, or choose another"
        raise StorageError(f"cannot write {path}: {reason}", hint) from error


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free:,}"
    except OSError:
        return "an unknown number"

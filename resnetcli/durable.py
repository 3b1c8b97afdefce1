"""The few operations from which everything that must last is made. They raise OSError.

Each is made of plain calls of the operating system, and storage is made of nothing else: so a test can stop, fail or
log it after every single one (`tests/faults/operations.py`).
"""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path


def write_synced(path: Path, *parts: bytes | memoryview) -> None:
    """Creates the file `path` from `parts`, and returns once they are on the disk. Raises FileExistsError where it is
    there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        _lock(descriptor)
        for part in parts:
            rest = memoryview(part).cast("B")
            while rest:  # a disk that fills up, and a size limit, take a part of it before they refuse
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def has_no_locks(error: Exception) -> bool:
    """Whether taking a lock failed because the file system, of a network for instance, has none."""
    numbers = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
    return isinstance(error, NotImplementedError) or (isinstance(error, OSError) and error.errno in numbers)


def is_abandoned(path: Path) -> bool:
    """Whether nobody writes the file `path` any more: the lock on it went with its writer. False where the file system
    has no locks. Windows has none of this kind, and does not let go of a file that is being written."""
    if sys.platform == "win32":
        return True
    else:  # noqa: RET505  # for mypy, to which what follows a return here is unreachable on Windows
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return False
        try:
            return _lock(descriptor)
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Locks an open file until it is closed, or its process is gone."""
    if sys.platform == "win32":
        return True
    else:  # noqa: RET505  # as above
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def make_folder(path: Path, *, parents: bool = False) -> None:
    """Makes the folder `path` where it is missing; with `parents` also what is missing above it.

    The folder above is synced even if `path` was there: whoever made it may have been killed before. Without that
    sync a power failure can take the name, and with it everything that was synced below.
    """
    above = path.parent
    if parents and not above.is_dir():
        make_folder(above, parents=True)
    there = path.is_dir()
    path.mkdir(exist_ok=True)
    try:
        sync_folder(above)
    except PermissionError:  # one may pass through it and not list it, as through many a /home
        if not there:
            raise


def sync_folder(path: Path) -> None:
    """Returns once the names in `path` are on the disk."""
    if os.name == "nt":  # Windows cannot open a folder; its rename is as durable as it gets
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

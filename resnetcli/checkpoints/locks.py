"""Who holds a run directory: one process at a time writes to it."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from resnetcli.checkpoints import storage
from resnetcli.durable import has_no_locks
from resnetcli.errors import RunInUseError, StorageError
from resnetcli.untrusted import read_plain

LOCK_FILE = ".lock"
SOFT_LOCK_FILE = ".soft-lock"
LOCK_SECONDS = 0.2
"""How long to try for the lock: a process that only asks whether it is free has it for a moment."""
HOLDER = re.compile(r"process (\d{1,10}) on ([\w. -]{0,255})")
MAX_HOLDER_BYTES = 512
"""Room for what HOLDER describes."""
HOLDER_SECONDS = 0.5
"""How long a process that finds the run held waits for the holder's name, which is written just after the lock."""


class RunLock:
    """Holds a run directory for this process; the kernel lets go when the process dies, however it dies.

    Some network file systems have no such locks. With `soft` a file that exists is one as well. A process that is
    killed leaves it behind; newer versions of filelock find that out on the same machine, else a message says which
    file to delete. Whoever holds the run by either is seen by both.
    """

    def __init__(self, run_dir: Path, *, soft: bool = False) -> None:
        self._lock = FileLock(run_dir / LOCK_FILE)
        self._soft = SoftFileLock(run_dir / SOFT_LOCK_FILE) if soft else None
        self._holder = run_dir / ".holder"
        self._run_dir = run_dir

    def __enter__(self) -> RunLock:
        self.acquire()
        with contextlib.suppress(StorageError):  # only a name for others; on a full disk `prune` must still get in
            storage.write_file(self._holder, f"process {os.getpid()} on {platform.node()}".encode())
        return self

    def acquire(self) -> None:
        """Takes the lock without a name. Raises RunInUseError, StorageError."""
        try:
            self._acquire_kernel_lock()
            self._acquire_soft_lock()
        except Timeout:
            self.release()
            raise RunInUseError(
                f"{self._run_dir} is in use by {self._held_by()}", "wait for it, stop it, or choose another --name"
            ) from None
        except OSError as error:
            self.release()
            raise StorageError(
                f"cannot write to {self._run_dir}: {error.strerror}",
                "make the folder writable or choose another with --output-dir",
            ) from error

    def _acquire_kernel_lock(self) -> None:
        try:
            self._lock.acquire(timeout=LOCK_SECONDS, poll_interval=0.02)
        except (OSError, NotImplementedError) as error:  # Timeout is an OSError without a number
            if not has_no_locks(error):
                raise
            if self._soft is None:
                raise StorageError(
                    f"{self._run_dir}: this file system has no locks, so that two processes could write to one run",
                    "--soft-lock holds the run by a file that exists, or choose a local disk with --output-dir",
                ) from error

    def _acquire_soft_lock(self) -> None:
        """With `soft` takes it; else only sees to it that nobody has it."""
        if self._soft is not None:
            self._soft.acquire(timeout=LOCK_SECONDS, poll_interval=0.02)
        elif os.path.lexists(self._run_dir / SOFT_LOCK_FILE):
            raise Timeout(str(self._run_dir / SOFT_LOCK_FILE))

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(OSError):  # a folder that vanished or is read-only by now was reported when it hurt
            self._holder.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        if self._soft is not None:
            self._soft.release()
        self._lock.release()

    def _held_by(self) -> str:
        """Who wrote down that it holds the run; not the process before, which may have been killed with its name still
        there."""
        until = time.monotonic() + HOLDER_SECONDS
        while True:
            try:
                holder = read_plain(self._holder, MAX_HOLDER_BYTES).decode()
            except (OSError, ValueError):
                holder = ""
            if HOLDER.fullmatch(holder) and not _is_gone(holder):
                return holder
            if time.monotonic() > until:
                soft = self._run_dir / SOFT_LOCK_FILE
                known = f", or by nobody any longer: then delete {soft}" if os.path.lexists(soft) else ""
                return f"another process{known}"
            time.sleep(0.01)


def check_not_in_use(run_dir: Path, *, soft: bool = False) -> None:
    """Raises RunInUseError where another process holds the run, StorageError as RunLock does. Leaves nothing."""
    if (run_dir / LOCK_FILE).exists():
        lock = RunLock(run_dir, soft=soft)
        lock.acquire()
        lock.release()


def _is_gone(holder: str) -> bool:
    """Whether a holder, as a RunLock writes it, was a process of this machine that no longer lives."""
    match = HOLDER.fullmatch(holder)
    if match is None or match[2] != platform.node() or os.name == "nt":  # where asking for a process would end it
        return False
    try:
        os.kill(int(match[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # of another user
        return False
    return False

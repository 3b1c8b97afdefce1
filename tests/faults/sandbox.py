"""Work in a forked child, which may be killed, fenced in or given a disk of its own without harm to the tests."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 0x1000, 0x4000, 1 << 18

Tell = Callable[[object], None]


def in_child(work: Callable[[Tell], object]) -> tuple[int, list[Any]]:
    """Runs `work(tell)` in a forked child. Returns how that ended (exit code, or minus the signal) and all that it
    told, which also a killed child has told. An exception that `work` lets through fails the test."""
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, from newer Pythons: the child has none
        child = os.fork()
    if child == 0:
        code, real_write = 0, os.write
        try:
            work(lambda what: real_write(write, (json.dumps(what) + "\n").encode()))
        except BaseException:
            code = 70
            real_write(write, (json.dumps({"failed": traceback.format_exc()}) + "\n").encode())
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as pipe:
        told = [json.loads(line) for line in pipe]
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code != 70, told[-1]["failed"]
    return code, told


def own_mounts() -> None:
    """From here on this process (single-threaded, as a fresh child is) mounts what nobody else sees. Raises OSError."""
    user, group = os.getuid(), os.getgid()
    if _libc().unshare(CLONE_NEWNS) != 0:  # without the right to mount, a user namespace brings it
        _call("unshare", CLONE_NEWNS | CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)


def mount_small_disk(folder: Path, options: str) -> None:
    """A disk in memory over `folder`, for instance of "size=100k"."""
    _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options.encode())


def make_read_only(folder: Path) -> None:
    """From here on `folder` takes no more writing, not even from root. It is covered by itself: what is open for
    writing there would keep a disk from being made read-only."""
    _call("mount", os.fsencode(folder), os.fsencode(folder), None, MS_BIND, None)
    _call("mount", None, os.fsencode(folder), None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)


@cache
def can_mount() -> bool:
    """Whether this machine lets `own_mounts` do what it is for."""

    def attempt(tell: Tell) -> None:
        try:
            own_mounts()
            mount_small_disk(Path("/tmp"), "size=100k")
            tell("yes")
        except OSError:
            tell("no")

    return in_child(attempt)[1] == ["yes"]


def limit_file_size(size: int) -> None:
    """No file that this process writes may grow beyond `size` bytes (write fails with EFBIG)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> None:
    if getattr(_libc(), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")

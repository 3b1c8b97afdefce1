"""Reading files that others may have written: plain ones only, no further than they may reach, and JSON that says one
thing.

Every file that this tool reads back by itself goes through here: a pipe under its name would never answer, a device
never end, and a few bytes can be made to cost gigabytes.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from io import BufferedReader
from pathlib import Path
from typing import Any

MAX_ITEMS = 2**17
"""Values in one JSON text. The history of MAX_EPOCHS has 110,000; empty lists alone, 16 MB of them, took 2.3 GB."""


def open_plain(path: Path) -> BufferedReader:
    """A plain file, to be read in binary. Raises OSError, also for a pipe, a device and a folder, none of which is
    waited for: what lies under the name is asked before it is opened, and again when it is open."""
    _check_plain(path, path.stat().st_mode)
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
    descriptor = os.open(path, flags)
    try:
        _check_plain(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_plain(path: Path, most: int) -> bytes:
    """All of a plain file of at most `most` bytes. Raises OSError, also for a longer one."""
    with open_plain(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EINVAL, f"more than {most:,} bytes", str(path))
    return data


def parse_json(text: str | bytes) -> Any:
    """A JSON text. Raises ValueError where it is none, has more than MAX_ITEMS values, is nested too deeply, or gives
    one key of an object twice, which two readers may understand differently."""
    raw = text.encode() if isinstance(text, str) else text
    if json_values(raw) > MAX_ITEMS:
        raise ValueError(f"more than {MAX_ITEMS:,} values")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def json_values(text: bytes) -> int:
    """No fewer than the values that a JSON text has."""
    return sum(text.count(mark) for mark in (b"[", b"{", b","))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:80]!r} is there twice")
        found[key] = value
    return found


def _check_plain(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a plain file", str(path))

"""Whether anybody still reads stdout, where that is a pipe: `resnetcli … | head` need not work on for nobody."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from resnetcli.interrupts import StopRequest


@contextmanager
def watched_reader(stop: StopRequest, descriptor: int = 1) -> Iterator[None]:
    """While this is open, the main thread hears from `stop` when the reader of `descriptor`, a pipe or a socket, has
    gone. Writing would show it as well, but most commands write for the first time when all work is done.

    It arrives as SIGHUP, so that whoever ignores that (`nohup`) has chosen to go on without a reader too. Windows can
    neither wait for it nor send it, and finds out when it writes.
    """
    if not _is_pipe(descriptor):
        yield
        return
    watcher = _Watcher(stop, descriptor)
    watcher.start()
    try:
        yield
    finally:
        watcher.end()


def _is_pipe(descriptor: int) -> bool:
    """Whether it is one that can be watched here."""
    try:
        kind = os.fstat(descriptor).st_mode
    except OSError:
        return False
    return sys.platform != "win32" and (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind))


class _Watcher(threading.Thread):
    def __init__(self, stop: StopRequest, descriptor: int) -> None:
        super().__init__(name="reader", daemon=True)
        self._stop_request, self._descriptor = stop, descriptor
        self._ended, self._lock = False, threading.Lock()

    def run(self) -> None:
        if sys.platform != "win32":
            poll = select.poll()
            poll.register(self._descriptor, 0)  # errors and hang-ups are reported all the same
            gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll())
            with self._lock:
                if gone and not self._ended:
                    self._stop_request.reader_is_gone()

    def end(self) -> None:
        """From now on nothing is sent: a signal would end the interpreter on its own way out."""
        with self._lock:
            self._ended = True

"""One object that knows whether SIGINT or SIGTERM has arrived, and how politely to leave."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from resnetcli.errors import Interrupted


class StopRequest:
    """Outside `deferred` the first signal raises `Interrupted` where it arrives; inside, it only sets `signum`, and
    the work saves and raises by itself. A second signal leaves at once, whatever is going on.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._deferred = False

    def __call__(self) -> bool:
        """Whether to stop: what a loop asks once a step."""
        return self.signum is not None

    def install(self) -> None:
        """Take over SIGINT and SIGTERM of this process (main thread only)."""
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """While this is open, a signal waits for the work to notice it."""
        before, self._deferred = self._deferred, True
        try:
            yield
        finally:
            self._deferred = before

    def raise_if_requested(self, message: str, hint: str = "") -> None:
        if self.signum is not None:
            raise Interrupted(self.signum, message, hint)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            _say("left at once; the newest checkpoint on disk is whole")
            os._exit(128 + signum)  # the second signal: no clean-up, as asked
        self.signum = signum
        if self._deferred:
            _say("stopping: saving first (again to leave without)")
        else:
            raise Interrupted(signum, f"interrupted by {signal.Signals(signum).name}")


def _say(line: str) -> None:
    """On stderr, without buffers or locks: the handler may have interrupted whoever holds them."""
    with suppress(OSError):
        os.write(2, f"\n{line}\n".encode())

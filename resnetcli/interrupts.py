"""One object that knows whether SIGINT or SIGTERM has arrived, and how politely to leave."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
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
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def raise_if_requested(self, message: str, hint: str = "") -> None:
        if self.signum is not None:
            raise Interrupted(self.signum, message, hint)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            os._exit(128 + signum)  # the second signal: no clean-up, as asked; what is on disk is whole at any moment
        self.signum = signum
        if not self._deferred:
            raise Interrupted(signum, f"interrupted by {signal.Signals(signum).name}")

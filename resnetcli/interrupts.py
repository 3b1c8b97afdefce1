"""One object that knows whether SIGINT, SIGTERM or SIGHUP has arrived, and how politely to leave."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from resnetcli.errors import Interrupted

HANG_UP: int | None = getattr(signal, "SIGHUP", None)
"""What a terminal sends that is closed, or a connection that breaks. Windows has none."""


class StopRequest:
    """Outside `deferred` the first signal raises `Interrupted` where it arrives; inside, it only sets `signum`, and
    the work saves and raises by itself. A second signal leaves at once, whatever is going on; unless it is a hang-up,
    which the kernel sends, and the shell once more, when nobody is there any longer to be in a hurry.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._deferred = False

    def __call__(self) -> bool:
        """Whether to stop: what a loop asks once a step."""
        return self.signum is not None

    def install(self) -> None:
        """Take over SIGINT, SIGTERM and SIGHUP of this process (main thread only); a SIGHUP that `nohup` has switched
        off stays so."""
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)
        if HANG_UP is not None and signal.getsignal(HANG_UP) is not signal.SIG_IGN:
            signal.signal(HANG_UP, self._handle)

    def uninstall(self) -> None:
        """The work is done: what is left is the interpreter's own end, which a signal may shorten."""
        for signum in (signal.SIGINT, signal.SIGTERM, HANG_UP):
            if signum is not None and signal.getsignal(signum) == self._handle:
                signal.signal(signum, signal.SIG_DFL)

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
            if signum == HANG_UP:
                return
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

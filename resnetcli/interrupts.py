"""One object that knows whether a signal has asked to stop, and how politely to leave."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from resnetcli.errors import Interrupted


def _known(*names: str) -> tuple[int, ...]:
    """The numbers of the signals that this system has."""
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


URGENT = _known("SIGINT", "SIGBREAK")
"""What a person sends with Ctrl-C, on Windows with Ctrl-Break too."""
WARNINGS = _known("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
"""What the system sends when time is nearly up, perhaps more than once, with nobody there to be in a hurry: a terminal
that is closed (and its shell once more), a batch system before its limit (SLURM's `--signal=USR1@60`, Grid Engine's and
LSF's USR2), the kernel at a limit of CPU time (and then every second)."""
STOPPING = (*URGENT, signal.SIGTERM, *WARNINGS)
"""All that end a run with what was done saved. SIGQUIT is not among them: Ctrl-\\ stays the way out at once."""

READER_GONE = int(getattr(signal, "SIGPIPE", 13))
"""Stands for a pipe that nobody reads any longer; with 128 added, what a shell reports for other programs then."""

SAVING = "saving first"
"""What a training run does before it stops."""


class StopRequest:
    """Outside `deferred` the first signal raises `Interrupted` where it arrives; inside, it only sets `signum`, and
    the work saves and raises by itself. A second SIGINT or SIGTERM leaves at once, whatever is going on. A warning
    never does, nor does the SIGTERM with which a batch system follows its warning up, nor any first signal behind a
    reader that has gone: Ctrl-C ends `tee` as well, and `tee` may be the quicker of the two.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.frame: Callable[[str], str] = on_its_own
        """Puts what the handler says into the form in which it is written; a display that draws over lines sets it."""
        self._deferred = False
        self._until = ""
        self._warned = False
        self._reader_gone = False

    def __call__(self) -> bool:
        """Whether to stop: what a loop asks once a step."""
        return self.signum is not None

    def install(self) -> None:
        """Take over the signals of `STOPPING` in this process (main thread only). One that is ignored stays so: `nohup`
        switches SIGHUP off, `trap '' INT` and a script's `&` switch SIGINT off."""
        for signum in STOPPING:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._handle)

    def uninstall(self) -> None:
        """The work is done: what is left is the interpreter's own end, which a signal may shorten."""
        for signum in STOPPING:
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, signal.SIG_DFL)

    @contextmanager
    def deferred(self, until: str = SAVING) -> Iterator[None]:
        """While this is open, a signal waits for the work to notice it; `until` says what for."""
        before, self._deferred = (self._deferred, self._until), True
        self._until = until
        try:
            yield
        finally:
            self._deferred, self._until = before

    def raise_if_requested(self, message: str, hint: str = "") -> None:
        if self.signum is not None:
            raise Interrupted(self.signum, message, hint)

    def reader_is_gone(self) -> None:
        """From another thread: nobody reads the results any longer. The main thread hears of it as of a SIGHUP."""
        self._reader_gone = True
        main = threading.main_thread().ident
        if main is not None and sys.platform != "win32":
            signal.pthread_kill(main, signal.SIGHUP)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self._reader_gone and signum in WARNINGS:
            signum, self._reader_gone = READER_GONE, False
        warning = signum in WARNINGS or signum == READER_GONE
        if self.signum is not None and (warning or self.signum != READER_GONE):
            if warning:
                return
            if self._warned and signum == signal.SIGTERM:
                self._warned = False
                return
            saved = "; the newest checkpoint on disk is whole" if self._until == SAVING else ""
            _say(on_its_own(f"left at once{saved}"))
            os._exit(128 + signum)  # the second signal: no clean-up, as asked
        self._warned = warning
        self.signum = signum
        if self._deferred:
            if signum != READER_GONE:  # else nobody asked for it, and the end tells what was saved
                again = "Ctrl-C" if self._warned else "again"
                _say(self.frame(f"stopping: {self._until} ({again} to leave without)"))
        else:
            raise Interrupted(signum, f"interrupted by {signal.Signals(signum).name}")


def on_its_own(line: str) -> str:
    """The line between two ends of line, for it may come in the middle of another."""
    return f"\n{line}\n"


def _say(words: str) -> None:
    """On stderr, without buffers or locks: the handler may have interrupted whoever holds them."""
    with suppress(OSError):
        os.write(2, words.encode())

"""Every failure that a user can cause or meet, one exit code per class.

    ResnetCliError                 1   a bug of ours, unless a subclass says otherwise
     ├─ UsageError                 2   an option, a config key or a combination of them is wrong
     │   └─ NotEnoughMemoryError   2   what was asked for does not fit into this machine
     ├─ DataError                  3   a data set or an image is missing, damaged or not what it claims
     ├─ CheckpointError            4   a checkpoint is missing, damaged, foreign or does not fit
     ├─ DivergedError              5   the loss or a gradient stopped being finite
     ├─ RunInUseError              6   another process holds the run directory
     └─ StorageError               7   the disk is full, read-only or refuses
    Interrupted                128+n   signal n of `interrupts.STOPPING`; what could be saved was saved

An expected error carries what was wrong (with the value), and a hint: what to do next. It is shown without a traceback.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class ResnetCliError(Exception):
    """Base of all expected errors.

    `message` says what was wrong, with the value; `hint` says what to do next, or is empty.
    """

    exit_code: ClassVar[int] = 1
    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ResnetCliError):
    exit_code = 2
    kind = "usage"


class NotEnoughMemoryError(UsageError):
    kind = "memory"


class DataError(ResnetCliError):
    exit_code = 3
    kind = "data"


class CheckpointError(ResnetCliError):
    exit_code = 4
    kind = "checkpoint"


class DivergedError(ResnetCliError):
    exit_code = 5
    kind = "diverged"


class RunInUseError(ResnetCliError):
    exit_code = 6
    kind = "in_use"


class StorageError(ResnetCliError):
    exit_code = 7
    kind = "storage"


class Interrupted(BaseException):
    """Raised for a signal; `signum` decides the exit code (128 + signum, as shells report it).

    Not an `Exception`: it comes out of a signal handler in the middle of anything, and no handler of ordinary
    failures, ours or a library's, may take it for one.
    """

    kind: ClassVar[str] = "interrupted"

    def __init__(self, signum: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.signum = signum
        self.message = message
        self.hint = hint
        self.exit_code = 128 + signum


Expected = ResnetCliError | Interrupted
"""What is shown as a message instead of a traceback."""


def first_line(error: BaseException) -> str:
    """What an exception of somebody else says, in one line; its type where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def named(error: BaseException) -> str:
    """The type of an exception, and the first line of what it says."""
    return ": ".join((type(error).__name__, *str(error).splitlines()[:1]))


OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "bad_alloc", "ALLOC_FAILED", "ALLOCATION_FAILED")
"""What torch and the libraries below it say, in exceptions that have no type of their own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was no memory left, of this machine or of its GPU. Torch's own class is told by its name, since
    torch must not be imported here."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))
    )

"""The entry point: `resnetcli …` becomes one call of one command, and whatever happens becomes an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from resnetcli.cli.reader import watched_reader
from resnetcli.errors import Interrupted, StorageError
from resnetcli.interrupts import READER_GONE, StopRequest


def run(argv: Sequence[str], stop: StopRequest | None = None) -> int:
    """Run one command line and return its exit code. Nothing that a command raises comes out of here."""
    from typer.main import get_command

    from resnetcli.cli.app import app
    from resnetcli.cli.failures import fail
    from resnetcli.cli.session import CURRENT, Session

    session = Session(stop or StopRequest())
    CURRENT.set(session)
    try:
        _check_working_folder()
        command = get_command(app)
        outcome = command.main(args=list(argv), prog_name="resnetcli", standalone_mode=False, obj=session)
        sys.stdout.flush()
    except BaseException as error:
        return fail(error, session, argv)
    if session.stop.signum not in (None, READER_GONE):  # all that was asked for is there, but so was the wish to stop
        return 128 + session.stop.signum
    return outcome if isinstance(outcome, int) else 0


def _check_working_folder() -> None:
    """Raises StorageError where the current folder was deleted: libraries that torch loads abort the process then."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise StorageError("the current folder does not exist any more", "change into another: `cd`") from None


def _open_streams() -> None:
    """Connects standard streams that the caller closed to nowhere. Else the next file that is opened would get such a
    number, a checkpoint perhaps, and what is meant for stderr would be written into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115


def main() -> NoReturn:
    """The console script: signals become requests to stop, and the process exits with the code of the command."""
    _open_streams()
    stop = StopRequest()
    try:
        stop.install()  # before anything is imported: whoever sees a typing error in the command stops it that soon
        with watched_reader(stop):
            code = run(sys.argv[1:], stop)
        stop.uninstall()
    except Interrupted as error:  # outside the command, where nobody else could say it
        with suppress(OSError):
            os.write(2, f"stopped: {error.message}\n".encode())
        code = error.exit_code
    sys.exit(code)

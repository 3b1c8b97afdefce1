"""From anything that a command can raise to one message, on the right stream, and an exit code."""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress

import typer
from typer._click import exceptions as click  # Typer >= 0.26 carries its own Click and exports only a part of it

from resnetcli.cli.session import Session
from resnetcli.errors import (
    Expected,
    Interrupted,
    NotEnoughMemoryError,
    ResnetCliError,
    StorageError,
    UsageError,
    first_line,
    is_out_of_memory,
)
from resnetcli.interrupts import READER_GONE
from resnetcli.spelling import suggestion

BROKEN_PIPE = 128 + READER_GONE
"""What a shell reports for other programs whose reader has gone."""

STORAGE_HINTS = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EACCES: "choose a path that you may write to and read from",
    errno.EPERM: "choose a path that you may write to and read from",
    errno.EROFS: "choose a path on a disk that can be written to",
}


def fail(error: BaseException, session: Session, argv: Sequence[str]) -> int:
    """Report `error` and return the exit code: as JSON on stdout if that was asked for, else as text on stderr."""
    if isinstance(error, BrokenPipeError):
        return hang_up()
    if isinstance(error, SystemExit):
        if isinstance(error.__context__, BrokenPipeError):  # rich turns a broken pipe into an exit with code 1
            return hang_up()
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    if session.stop.signum == READER_GONE and not (isinstance(error, Interrupted) and error.hint):
        return hang_up()  # there is nothing to say, unless a run was saved that can go on
    if isinstance(error, click.NoArgsIsHelpError):
        sys.stdout.write(error.message)  # empty where rich has printed the help already
        return error.exit_code
    expected = explain(error, session)
    from resnetcli.reporting.console import stderr
    from resnetcli.reporting.errors import error_json, render_error
    from resnetcli.reporting.text import visible

    if session.debug:
        # Lines of source, messages and names of files, as they come from whoever made them.
        with suppress(OSError, ValueError):
            sys.stderr.write(visible("".join(traceback.format_exception(error))))
    if wants_json(argv, os.environ):
        try:
            sys.stdout.write(error_json(expected))
            sys.stdout.flush()
            return expected.exit_code
        except OSError:
            discard_stdout()  # a full disk, and stdout is a file on it: what is left is stderr
    render_error(expected, stderr())  # where stderr is gone too, the exit code still tells
    return expected.exit_code


def explain(error: BaseException, session: Session) -> Expected:
    """The expected error that stands for `error`."""
    if isinstance(error, ResnetCliError | Interrupted):
        return error
    if session.stop.signum is not None:
        # A signal that arrives inside somebody's import or callback may come out wrapped in their exception.
        return Interrupted(session.stop.signum, f"interrupted by {signal.Signals(session.stop.signum).name}")
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Interrupted(signal.SIGINT, "interrupted by SIGINT")
    if isinstance(error, click.ClickException):
        return _usage(error)
    if is_out_of_memory(error):
        hint = "end what else uses it, or compute elsewhere: --device cpu, or another GPU"
        return NotEnoughMemoryError(f"not enough memory ({first_line(error)})", hint)
    if isinstance(error, OSError) and error.errno is not None:
        if error.errno == errno.ENOENT and "temporary directory" in str(error):  # of tempfile, which torch asks too
            hint = "set the environment variable TMPDIR to a folder that can be written to"
            return StorageError("there is no folder for temporary files that can be written to", hint)
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return StorageError(f"{where}{error.strerror or error}", STORAGE_HINTS.get(error.errno, ""))
    return ResnetCliError(
        f"unexpected {type(error).__name__}: {error}",
        "this is a bug in resnetcli: please report it with what the same command prints with --debug",
    )


def wants_json(argv: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether the command line asks for JSON; read from the bare words, since parsing them may be what failed."""
    words = list(argv)
    if "--" in words:
        words = words[: words.index("--")]
    pairs = list(itertools.pairwise(words))
    if "--json" in words or "--format=json" in words or ("--format", "json") in pairs:
        return True
    if environ.get("RESNETCLI_JSON", "").lower() in ("1", "true", "t", "yes", "y", "on"):
        return True
    return "predict" in words and "--format" not in " ".join(words) and environ.get("RESNETCLI_FORMAT") == "json"


def hang_up() -> int:
    """Leave quietly after a broken pipe."""
    discard_stdout()
    return BROKEN_PIPE


def discard_stdout() -> None:
    """What is still buffered goes nowhere; Python would fail once more when it flushes at exit."""
    with suppress(OSError, ValueError):  # a stream without a file descriptor has nothing that could fail
        devnull = os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, sys.stdout.fileno())
        os.close(devnull)


def _usage(error: click.ClickException) -> UsageError:
    ctx = getattr(error, "ctx", None)
    hint = (
        f"`{ctx.command_path} --help` shows what it takes"
        if ctx is not None
        else "`resnetcli --help` shows the commands"
    )
    if isinstance(error, click.NoSuchOption):
        options = (
            [] if ctx is None else [name for p in ctx.command.get_params(ctx) for name in (*p.opts, *p.secondary_opts)]
        )
        return UsageError(f"no such option {error.option_name}{suggestion(error.option_name, options)}", hint)
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        param = error.param
        source = None if ctx is None or param is None else ctx.get_parameter_source(param.name)
        if ctx is not None and param is not None and source is not None and source.name == "ENVIRONMENT":
            label = f"{param.envvar}={param.resolve_envvar_value(ctx)}"
            return UsageError(f"{label}: must be true or false", hint)
    if isinstance(error, click.BadOptionUsage):
        hint = "`--help` shows what it takes"
    message = error.format_message()
    if ctx is not None and (unknown := re.match(r"No such command ('(.*?)'|\"(.*?)\")\.", message, re.DOTALL)):
        word = unknown[2] or unknown[3] or ""  # Typer's own suggestions go by looks
        message = f"no such command {unknown[1]}{suggestion(word, ctx.command.list_commands(ctx))}"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint)

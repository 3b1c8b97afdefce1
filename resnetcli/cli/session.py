"""What one invocation carries from the entry point to its command: the stop request and the global switches."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from resnetcli.interrupts import StopRequest, on_its_own

if TYPE_CHECKING:  # events bring pydantic with them, which --help can do without
    from resnetcli.events import Notice, OnEvent

LOADING = "loading PyTorch"
"""The first phase of most commands: seconds, in which there would be nothing on the screen."""


@dataclass
class Session:
    stop: StopRequest = field(default_factory=StopRequest)
    debug: bool = False
    quiet: bool = False
    epochs_shown: set[int] = field(default_factory=set)
    """Epochs of a run that have a line on stderr."""

    @contextmanager
    def observed(self, phase: str = "", *, logged: bool = False) -> Iterator[OnEvent]:
        """Show on stderr what a service says while it works, and before that `phase`, what is being done until it says
        something. A log has a line for each phase only where they are `logged`: where the work takes minutes."""
        from resnetcli.events import Phase
        from resnetcli.reporting.console import stderr
        from resnetcli.reporting.observers import observer

        with observer(stderr(), quiet=self.quiet, phases=logged) as on_event:
            self.stop.frame = on_event.stopping
            try:
                if phase:
                    on_event(Phase(phase))
                yield on_event
            finally:
                self.stop.frame = on_its_own
        self.epochs_shown |= on_event.epochs_shown

    def notify(self, notice: Notice) -> None:
        """Show one line on stderr, outside a service."""
        with self.observed() as on_event:
            on_event(notice)


CURRENT: ContextVar[Session] = ContextVar("session")
"""Of the running invocation, for what has no context at hand."""


def write_document(text: str) -> None:
    """All of the text to stdout: a signal waits until it is there, so that nobody reads half a document, or the one of
    an error behind it."""
    with CURRENT.get(Session()).stop.deferred("writing the result first"):
        sys.stdout.write(text)
        sys.stdout.flush()


def session_of(ctx: typer.Context) -> Session:
    """The session of the running invocation."""
    root = ctx.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session()  # the app called without `run`, as a completion does
    return root.obj

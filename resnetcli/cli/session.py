"""What one invocation carries from the entry point to its command: the stop request and the global switches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import typer

from resnetcli.interrupts import StopRequest

if TYPE_CHECKING:  # events bring pydantic with them, which --help can do without
    from resnetcli.events import Notice, OnEvent


@dataclass
class Session:
    stop: StopRequest = field(default_factory=StopRequest)
    debug: bool = False
    quiet: bool = False

    @contextmanager
    def observed(self) -> Iterator[OnEvent]:
        """Show on stderr what a service says while it works."""
        from resnetcli.reporting.console import stderr
        from resnetcli.reporting.progress import observer

        with observer(stderr(), quiet=self.quiet) as on_event:
            yield on_event

    def notify(self, notice: Notice) -> None:
        """Show one line on stderr, outside a service."""
        with self.observed() as on_event:
            on_event(notice)


def session_of(ctx: typer.Context) -> Session:
    """The session of the running invocation."""
    root = ctx.find_root()
    if not isinstance(root.obj, Session):
        root.obj = Session()  # the app called without `run`, as a completion does
    return root.obj

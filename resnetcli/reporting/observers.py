"""Which observer suits a console."""

from __future__ import annotations

from rich.console import Console

from resnetcli.reporting.console import redrawing
from resnetcli.reporting.progress import Observer, PlainProgress


def observer(console: Console, quiet: bool = False, phases: bool = False) -> Observer:
    """Bars on a terminal, one line that is written over in a notebook, lines elsewhere, with one for each phase where
    there shall be `phases`; with `quiet` only warnings."""
    if quiet:
        return Observer(console)
    what = redrawing(console)
    if what == "lines":
        from resnetcli.reporting.live import LiveProgress

        return LiveProgress(console)
    if what == "line":
        from resnetcli.reporting.one_line import OneLineProgress

        return OneLineProgress(console)
    return PlainProgress(console, phases=phases)

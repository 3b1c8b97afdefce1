"""What lies under the default folder of runs: for completion, and for what is said when no checkpoint was given."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from resnetcli.cli.session import Session
from resnetcli.config.base import CHECKPOINTS, PRETRAINED
from resnetcli.config.train import TrainConfig
from resnetcli.events import Notice

RECENT_SECONDS = 24 * 3600
"""So long after its last checkpoint a run may be what is meant by a command that names none."""


def run_directories(folder: Path | None = None) -> list[Path]:
    """Run directories in `folder` (default: the default output_dir), newest first; an unreadable folder has none."""
    folder = TrainConfig.model_fields["output_dir"].default if folder is None else folder
    try:
        found = [(path.stat().st_mtime, path) for path in folder.iterdir() if (path / CHECKPOINTS).is_dir()]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def complete_checkpoint(incomplete: str) -> list[str]:
    """Shell completion of CKPT: the packaged weights, and what RUN is completed to."""
    return [name for name in (PRETRAINED,) if name.startswith(incomplete)] + complete_run(incomplete)


def complete_run(incomplete: str) -> list[str]:
    """Shell completion of RUN: run directories, and once one is named its checkpoints."""
    runs = run_directories()
    names = [run.as_posix() for run in runs]
    for run in runs:
        if incomplete.startswith(f"{run.as_posix()}/"):
            names += sorted(path.as_posix() for path in (run / CHECKPOINTS).glob("step-*"))
    return [name for name in names if name.startswith(incomplete)]


def newest_run() -> str | None:
    """The run directory that a person may have meant who names no checkpoint."""
    runs = run_directories()
    return runs[0].as_posix() if runs else None


def say_pretrained(session: Session, option: str = "") -> None:
    """Where no checkpoint was given, tell a person who may mean the run that was just made what is taken; `option` is
    what the command wants before a checkpoint.

    Not at every call: results name their checkpoint, a script knows what it calls, and `RECENT_SECONDS` after its last
    checkpoint a run is no longer the one that was just made.
    """
    newest = newest_run()
    if newest is None or not sys.stderr.isatty():
        return
    try:
        saved = max(path.stat().st_mtime for path in Path(newest, CHECKPOINTS).glob("step-*"))
    except (OSError, ValueError):  # none yet, or gone
        return
    if time.time() - saved < RECENT_SECONDS:
        add = f"{option} {shlex.quote(newest)}".strip()
        session.notify(Notice(f"no checkpoint given: {PRETRAINED} is taken; add {add} for the newest run here"))

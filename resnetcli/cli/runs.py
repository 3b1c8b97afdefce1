"""What lies under the default folder of runs: for completion, and for what is said when no checkpoint was given."""

from __future__ import annotations

from pathlib import Path

from resnetcli.cli.session import Session
from resnetcli.config.base import PRETRAINED
from resnetcli.config.train import TrainConfig
from resnetcli.events import Notice


def run_directories(folder: Path | None = None) -> list[Path]:
    """Run directories in `folder` (default: the default output_dir), newest first; an unreadable folder has none."""
    folder = TrainConfig.model_fields["output_dir"].default if folder is None else folder
    try:
        found = [(path.stat().st_mtime, path) for path in folder.iterdir() if (path / "checkpoints").is_dir()]
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
            names += sorted(path.as_posix() for path in (run / "checkpoints").glob("step-*"))
    return [name for name in names if name.startswith(incomplete)]


def newest_run() -> str | None:
    """The run directory that a person may have meant who names no checkpoint."""
    runs = run_directories()
    return runs[0].as_posix() if runs else None


def say_pretrained(session: Session, usage: str) -> None:
    """Where no checkpoint was given although there is a run, say what is taken; `usage` holds {} where a name goes."""
    newest = newest_run()
    if newest is not None:
        session.notify(
            Notice(f"no checkpoint given: {PRETRAINED} is taken; for the newest run here: {usage.format(newest)}")
        )

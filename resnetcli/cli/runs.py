"""What lies under the default folder of runs: for completion, and for the hint when no checkpoint was given."""

from __future__ import annotations

from pathlib import Path

from resnetcli.config import TrainConfig
from resnetcli.errors import UsageError


def run_directories(folder: Path | None = None) -> list[Path]:
    """Run directories in `folder` (default: the default output_dir), newest first; an unreadable folder has none."""
    folder = TrainConfig.model_fields["output_dir"].default if folder is None else folder
    try:
        found = [(path.stat().st_mtime, path) for path in folder.iterdir() if (path / "checkpoints").is_dir()]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)]


def complete_checkpoint(incomplete: str) -> list[str]:
    """Shell completion of CKPT and RUN: run directories, and once one is named its checkpoints."""
    runs = run_directories()
    names = [run.as_posix() for run in runs]
    for run in runs:
        if incomplete.startswith(f"{run.as_posix()}/"):
            names += sorted(path.as_posix() for path in (run / "checkpoints").glob("step-*"))
    return [name for name in names if name.startswith(incomplete)]


def no_checkpoint(usage: str) -> UsageError:
    """The error for a command that needs a checkpoint and got none; `usage` holds {} where the checkpoint goes."""
    runs = run_directories()
    if runs:
        newest = runs[0].as_posix()
        return UsageError(f"no checkpoint given; the newest run here is {newest}", usage.format(newest))
    return UsageError(
        "no checkpoint given, and there is no run under ./runs",
        f"`resnetcli train` makes one; else name a file: {usage.format('CKPT')}",
    )

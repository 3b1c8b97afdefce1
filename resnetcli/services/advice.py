"""What a run that cannot go on as it was asked for says to whoever asked: what is left of it, and the next command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from resnetcli.checkpoints.manager import step_folders
from resnetcli.config.base import CONFIG_FILE
from resnetcli.config.train import TrainConfig
from resnetcli.engine.loop import OTHER_WEIGHTS
from resnetcli.errors import DivergedError, NotEnoughMemoryError, first_line, is_out_of_memory


@contextmanager
def advice(config: TrainConfig, batch_size: int, run_dir: Path | None = None) -> Iterator[None]:
    """Around training steps: a DivergedError gets the command that starts again, and what says that there is no memory
    becomes a NotEnoughMemoryError with the flag that halves the need. Neither changes anything of the run."""
    try:
        yield
    except DivergedError as error:
        if run_dir is None:
            raise
        hint = error.hint if error.hint == OTHER_WEIGHTS else _lower_rate(error.hint, config, run_dir)
        raise DivergedError(f"{error.message}; {_saved(run_dir)}", hint) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = first_line(error)
        parts = f" in {config.grad_accum} parts" if config.grad_accum > 1 else ""
        message = f"not enough memory on {config.device} for steps of {batch_size} images{parts} ({reason})"
        if run_dir is not None:
            message += f"; {_saved(run_dir)}"
        raise NotEnoughMemoryError(message, _less_memory(config, run_dir)) from error


def _saved(run_dir: Path) -> str:
    folders = step_folders(run_dir)
    return f"{folders[-1]} is whole" if folders else f"{run_dir} holds no checkpoint yet"


def _again(run_dir: Path, flag: str) -> str:
    """The command for the same run with another setting, under another name."""
    return f"resnetcli train --config {run_dir / CONFIG_FILE} --name {run_dir.name}-again {flag}"


def _lower_rate(hint: str, config: TrainConfig, run_dir: Path) -> str:
    return f"{hint}: {_again(run_dir, f'--lr {config.lr / 4:g}')}"


def _less_memory(config: TrainConfig, run_dir: Path | None) -> str:
    """The smallest division of the batch that halves what a step needs, or more."""
    divisors = (d for d in range(2 * config.grad_accum, min(config.batch_size, 1024) + 1) if not config.batch_size % d)
    parts = next(divisors, None)
    if parts is None:
        flag, what = f"--batch-size {max(2, config.batch_size // 2)}", "takes less memory"
    else:
        flag, what = f"--grad-accum {parts}", f"computes the batch in {parts} parts, which BatchNorm sees one by one"
    if run_dir is None:
        return f"{flag} {what}"
    return f"{flag} {what}: {_again(run_dir, flag)}; when there is room again, --resume {run_dir}"

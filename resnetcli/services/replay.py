"""`checkpoints verify --replay`: recorded steps of a run, computed once more and held against what the run saved.

A run keeps its newest checkpoints and its best. From one of them the steps to a later one are taken again, with all
that belongs to them: order, augmentation, optimiser, averaging, validation. If the files were copied faithfully and
this machine computes as that one did, every byte of the later checkpoint comes out again.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from resnetcli.checkpoints.beside import beside_a_run
from resnetcli.checkpoints.format import TrainerHeader
from resnetcli.checkpoints.manager import Snapshot, read_snapshot, step_folders
from resnetcli.config.commands import ReplayConfig
from resnetcli.errors import CheckpointError, UsageError
from resnetcli.events import Event, Notice, OnEvent, Progress, StepDone
from resnetcli.results.checkpoints import ChangedVersion, ReplayedPart, ReplayResult
from resnetcli.results.train import EpochRow
from resnetcli.services.setup import Setup
from resnetcli.services.train import Validation, changed_versions, read_config, reopen, take_snapshot

MEASURED = ("images_per_s", "seconds", "memory_mib")
"""Columns of an epoch's row that are of the clock and the machine, not of the computation."""
PARTS = {
    "optimizer/": "optimiser state",
    "fast/": "fast weights",
    "rng": "random numbers",
    "sums": "losses of the epoch",
}


def replay(run: Path, config: ReplayConfig, *, on_event: OnEvent) -> ReplayResult:
    """Replays from one checkpoint of `run` to the next and compares; writes nothing. Raises CheckpointError where the
    run keeps no two that are intact, UsageError where they lie further apart than `config.steps`."""
    (start, before), (end, recorded) = _read_pair(run, config.steps)
    stated = {n: v for n, v in config.model_dump(exclude={"steps"}).items() if v is not None}
    never = {"max_time": None, "save_every": math.inf}
    settings = read_config(run).model_copy(update={**never, **stated})
    setup = reopen(settings, start, before, on_event)
    began = time.monotonic()
    replayed = _train_to(setup, recorded.position, on_event)
    parts = _compare(recorded, replayed, before.position)
    return ReplayResult(
        from_checkpoint=str(start),
        to_checkpoint=str(end),
        from_step=before.position.global_step,
        to_step=recorded.position.global_step,
        equal=not any(part.different for part in parts),
        parts=parts,
        recorded_sha256=_digest(recorded),
        replayed_sha256=_digest(replayed),
        changed=tuple(ChangedVersion(name=n, recorded=a, here=b) for n, a, b in changed_versions(setup, recorded)),
        device=str(setup.runtime.device),
        threads=setup.runtime.threads,
        precision=setup.runtime.precision,
        seconds=time.monotonic() - began,
    )


def _read_pair(run: Path, most: int | None) -> tuple[tuple[Path, Snapshot], tuple[Path, Snapshot]]:
    """Both checkpoints of `_pair`; found anew where the run, which may still be saving, has cleared one away."""
    while True:
        a, b = _pair(run, most)
        first, second = beside_a_run(a, read_snapshot), beside_a_run(b, read_snapshot)
        if first is not None and second is not None:
            return (a, first), (b, second)


def _pair(run: Path, most: int | None) -> tuple[Path, Path]:
    """The newest two neighbours among the intact checkpoints that lie at most `most` steps apart."""
    intact: list[tuple[Path, TrainerHeader]] = []
    for folder in step_folders(run):
        try:
            snapshot = beside_a_run(folder, read_snapshot)
            intact += [] if snapshot is None else [(folder, snapshot.position)]
        except CheckpointError:  # `verify` itself has named it
            continue
    pairs = [(a, b) for a, b in pairwise(intact) if (a[1].epoch, a[1].step) < (b[1].epoch, b[1].step)]
    if not pairs:
        raise CheckpointError(
            f"{run}: a replay goes from one intact checkpoint to a later one, and there are {len(intact)}",
            "train with --keep-last 2 or more",
        )
    near = [(a, b) for a, b in pairs if most is None or b[1].global_step - a[1].global_step <= most]
    if not near:
        apart = min(b[1].global_step - a[1].global_step for a, b in pairs)
        raise UsageError(f"--steps {most}: checkpoints of {run} are at least {apart} steps apart", f"--steps {apart}")
    (a, _), (b, _) = near[-1]
    return a, b


def _train_to(setup: Setup, target: TrainerHeader, on_event: OnEvent) -> Snapshot:
    """What the run comes to at the position `target`, as the run itself would have saved it there."""
    trainer = setup.trainer
    first, saved = trainer.global_step, []

    def there() -> bool:
        return (trainer.position.epoch, trainer.position.step) >= (target.epoch, target.step)

    validate = Validation(setup, lambda: False)

    def progress(event: Event) -> None:
        if isinstance(event, StepDone):
            total = target.global_step - first
            on_event(Progress("Replaying", trainer.global_step - first, total, "steps"))
        elif isinstance(event, Notice):
            on_event(event)

    trainer.run(
        validate=lambda: None if there() else validate(),  # a run that was stopped while it validated
        save=lambda metrics: saved.append(take_snapshot(setup, metrics, validate.calibration)),
        on_event=progress,
        stop=there,
    )
    return saved[-1]


def _compare(recorded: Snapshot, replayed: Snapshot, before: TrainerHeader) -> tuple[ReplayedPart, ...]:
    groups: dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]] = {"weights": (recorded.model, replayed.model)}
    for prefix, name in PARTS.items():
        both = [{k: v for k, v in s.trainer.items() if k.startswith(prefix)} for s in (recorded, replayed)]
        if both[0] or both[1]:
            groups[name] = both[0], both[1]
    parts = [_tensors(name, *both) for name, both in groups.items()]
    passed = len(before.history)
    then, now = recorded.position.history[passed:], replayed.position.history[passed:]
    if then or now:
        parts.append(_rows(then, now))
    return tuple(parts)


def _tensors(name: str, recorded: Mapping[str, Tensor], replayed: Mapping[str, Tensor]) -> ReplayedPart:
    different, largest = [], 0.0
    names = sorted(recorded.keys() | replayed.keys())
    for key in names:
        a, b = recorded.get(key), replayed.get(key)
        if a is not None and b is not None and _bytes(a) == _bytes(b):
            continue
        different.append(key)
        if a is not None and b is not None and a.shape == b.shape:
            largest = max(largest, float((a.double() - b.cpu().double()).abs().max()))
    return ReplayedPart(
        name=name,
        count=len(names),
        different=len(different),
        first=different[0] if different else None,
        max_difference=largest if different else None,
    )


def _rows(then: tuple[EpochRow, ...], now: tuple[EpochRow, ...]) -> ReplayedPart:
    """Losses, accuracies and learning rates of the epochs that ended in between, figure by figure."""
    figures = [n for n in EpochRow.model_fields if n not in MEASURED]
    count, different, largest = 0, [], 0.0
    for i in range(max(len(then), len(now))):
        a, b = (rows[i].model_dump() if i < len(rows) else {} for rows in (then, now))
        for name in figures:
            count += 1
            if (x := a.get(name)) != (y := b.get(name)):
                different.append(f"{name} of epoch {(a or b)['epoch']}: {x}, {y}")
                largest = max(largest, abs(x - y) if x is not None and y is not None else 0.0)
    return ReplayedPart(
        name="figures of epochs",
        count=count,
        different=len(different),
        first=different[0] if different else None,
        max_difference=largest if different else None,
    )


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().numpy().tobytes()


def _digest(snapshot: Snapshot) -> str:
    """sha256 over name, type, shape and bytes of every tensor, by name."""
    digest = hashlib.sha256()
    for tensors in (snapshot.model, snapshot.trainer):
        for name in sorted(tensors):
            digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
            digest.update(_bytes(tensors[name]))
    return digest.hexdigest()

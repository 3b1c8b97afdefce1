"""`checkpoints`: list, show, verify, prune and export what runs have saved."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from resnetcli.checkpoints import locks, manager, storage
from resnetcli.checkpoints.beside import beside_a_run
from resnetcli.checkpoints.format import MODEL_FILE, ModelHeader, Normalization, encode, read_own_header
from resnetcli.checkpoints.packaged import NAMES
from resnetcli.checkpoints.portable import rounded, without_places
from resnetcli.checkpoints.reading import describe, describe_open, measured_on_test, open_checkpoint, placed
from resnetcli.checkpoints.soundness import check_sound
from resnetcli.config.base import StoredPrecision
from resnetcli.errors import CheckpointError, StorageError, UsageError
from resnetcli.models.rescale import rescale
from resnetcli.results.checkpoints import CheckpointInfo, CheckpointProblem, CheckpointsResult, RunInfo
from resnetcli.services.networks import MEAN, STD, build

OTHER_FORMATS = (
    *(".bin", ".ckpt", ".gguf", ".h5", ".keras", ".mlmodel", ".msgpack", ".npy", ".npz", ".onnx", ".pb", ".pickle"),
    *(".pkl", ".pt", ".pt2", ".pth", ".tar", ".tflite", ".zip"),
)
"""Endings of files that hold weights in other formats."""
NORMALIZATION = Normalization(mean=MEAN, std=STD)


def list_run(run: Path) -> CheckpointsResult:
    """All checkpoints of a run, oldest first; damaged ones among the problems. Raises CheckpointError where there is
    no run."""
    infos, problems = _survey(run_directory(run))
    return CheckpointsResult(command="checkpoints list", checkpoints=infos, problems=problems)


def list_runs(folder: Path) -> CheckpointsResult:
    """The runs in `folder`, that with the newest checkpoint last; by headers alone, so that it takes no time to look
    at many. Raises StorageError where the folder cannot be listed; one that is missing has none."""
    try:
        runs = [path for path in sorted(folder.iterdir()) if path.is_dir() and manager.is_run(path)]
    except FileNotFoundError:
        runs = []
    infos = [info for run in runs if (info := _run_info(run)) is not None]
    return CheckpointsResult(
        command="checkpoints list", checkpoints=(), runs=tuple(sorted(infos, key=lambda info: info.created or ""))
    )


def _run_info(run: Path) -> RunInfo | None:
    """None where its checkpoints cannot be listed."""
    try:
        folders = manager.step_folders(run)
        headers: dict[Path, ModelHeader] = {}
        for folder in manager.best_first(run):
            with contextlib.suppress(CheckpointError):
                headers[folder] = read_own_header(folder / MODEL_FILE, ModelHeader)
        size = sum(file.stat().st_size for folder in folders for file in folder.glob("*.safetensors"))
    except (CheckpointError, OSError):
        return None
    best = next(iter(headers), None)
    newest = next((headers[folder] for folder in reversed(folders) if folder in headers), None)
    return RunInfo(
        path=str(run),
        checkpoints=len(folders),
        epoch=None if newest is None else newest.epoch,
        step=None if newest is None else newest.step,
        created=None if newest is None else newest.created,
        size=size,
        val_top1=None if best is None else headers[best].metrics.get("val_top1"),
        test_top1=None if best is None else measured_on_test(run).get(best.name),
    )


def show(target: str) -> CheckpointsResult:
    """One checkpoint in any form, verified. Raises CheckpointError."""
    checkpoint = open_checkpoint(target, NORMALIZATION)
    build(checkpoint)
    return CheckpointsResult(command="checkpoints show", checkpoints=(describe_open(checkpoint),))


def verify(target: str) -> CheckpointsResult:
    """Holds every file of a run or of one checkpoint against its manifest and the network. What is wrong is in
    `problems`. Raises CheckpointError where nothing is there: a name that does not exist is not a damaged one."""
    path = Path(target)
    if target not in NAMES and path.is_dir() and manager.is_run(path):
        infos, problems = _survey(path)
        if not infos and not problems:
            problems = (CheckpointProblem(path=target, message=f"{target}: this run has saved no checkpoint yet"),)
        return CheckpointsResult(command="checkpoints verify", checkpoints=infos, problems=problems)
    try:
        checkpoint = open_checkpoint(target, NORMALIZATION)
        build(checkpoint)
        if checkpoint.kind == "checkpoint":
            manager.verify_folder(path)
    except CheckpointError as error:
        if target not in NAMES and not os.path.lexists(path):
            raise
        problem = CheckpointProblem(path=target, message=error.message)
        return CheckpointsResult(command="checkpoints verify", checkpoints=(), problems=(problem,))
    return CheckpointsResult(command="checkpoints verify", checkpoints=(describe_open(checkpoint),))


def prune(run: Path, keep_last: int, dry_run: bool, soft_lock: bool = False) -> CheckpointsResult:
    """Removes all but the newest `keep_last` and the best; with `dry_run` only says which. Raises RunInUseError, and
    CheckpointError where one is damaged: it could be what is kept, and an intact one what is removed."""
    run_directory(run)
    if dry_run:
        with contextlib.suppress(StorageError):  # a run that cannot be written to can be looked at
            locks.check_not_in_use(run)
        return _prune(run, lambda: manager.prunable(run, keep_last)).model_copy(update={"dry_run": True})
    with locks.RunLock(run, soft=soft_lock):
        return _prune(run, lambda: manager.CheckpointManager(run, keep_last).prune())


def _prune(run: Path, remove: Callable[[], list[Path]]) -> CheckpointsResult:
    before, problems = _survey(run)
    if problems:
        raise CheckpointError(
            f"{'; '.join(problem.message for problem in problems)}: nothing was removed",
            "move what is damaged out of the run, then prune again",
        )
    removed = tuple(map(str, remove()))
    infos, problems = _survey(run)
    return CheckpointsResult(
        command="checkpoints prune",
        checkpoints=infos,
        problems=problems,
        removed=removed,
        removed_bytes=sum(file.size for info in before if info.path in removed for file in info.files),
    )


def export(
    target: str, out: Path, force: bool, dtype: StoredPrecision = "fp32", scale: float = 1.0
) -> CheckpointsResult:
    """Writes one portable .safetensors: weights, rounded to `dtype`, and a header without the paths of this machine;
    no training state; with convolutions `scale` times as large, and the same answers. Raises CheckpointError,
    UsageError, StorageError."""
    _check_name(out)
    if out.exists() and not force:
        raise UsageError(f"{out} exists", "choose another name, or overwrite it with --force")
    checkpoint = open_checkpoint(target, NORMALIZATION)
    model = build(checkpoint)
    if scale != 1:
        rescale(model, scale)
        check_sound(model.state_dict(), out)
    weights, header = rounded(model.state_dict(), without_places(checkpoint.header), dtype)
    storage.write_file(out, encode(weights, header), parents=True)
    written = describe(out, "portable", header)
    return CheckpointsResult(command="checkpoints export", checkpoints=(written,), written=str(out))


def _check_name(out: Path) -> None:
    """Raises UsageError for a name that does not end in .safetensors, or that names another format before it."""
    stem = out.with_suffix("") if out.suffix == ".safetensors" else out
    if stem.suffix.lower() in OTHER_FORMATS:
        raise UsageError(
            f"{out}: {stem.suffix} names another format than safetensors, which is what is written",
            f"try {stem.with_suffix('.safetensors')}",
        )
    if stem == out:
        raise UsageError(f"{out}: the name of a portable checkpoint ends in .safetensors", f"try {out}.safetensors")


def run_directory(run: Path) -> Path:
    """`run`, if it is a run directory. Raises CheckpointError."""
    if not run.is_dir() or not manager.is_run(run):
        raise CheckpointError(f"{run}: not a run directory", "a run directory holds config.json and checkpoints/")
    return run


def _survey(run: Path) -> tuple[tuple[CheckpointInfo, ...], tuple[CheckpointProblem, ...]]:
    """What is intact and what is not, beside the run itself: what it clears away meanwhile is neither."""
    infos: list[CheckpointInfo] = []
    problems: list[CheckpointProblem] = []
    for folder in manager.step_folders(run):
        try:
            info = beside_a_run(folder, lambda folder: describe(folder, "checkpoint", manager.verify_folder(folder)))
        except CheckpointError as error:
            problems.append(CheckpointProblem(path=str(folder), message=error.message))
        else:
            infos += [] if info is None else [info]
    intact = {info.path for info in infos}
    best = next((path for path in map(str, manager.best_first(run)) if path in intact), None)
    measured = measured_on_test(run)
    marked = (placed(info, measured, best=info.path == best, last=info is infos[-1]) for info in infos)
    return tuple(marked), tuple(problems)

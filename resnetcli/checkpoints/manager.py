"""The checkpoints of one run: what is kept, which is best, where to go on.

There is no index file and no "latest" link that could disagree with the folders: the newest is the one with the
highest step, the best is the one whose own header has the highest validation accuracy.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from resnetcli.checkpoints import storage
from resnetcli.checkpoints.beside import beside_a_run
from resnetcli.checkpoints.format import (
    MANIFEST_FILE,
    MODEL_FILE,
    TRAINER_FILE,
    ModelHeader,
    TrainerHeader,
    encode,
    manifest_for,
    read_manifest,
    read_own_header,
    read_tensors,
    read_weights,
)
from resnetcli.checkpoints.soundness import check_sound
from resnetcli.config.base import CHECKPOINTS, CONFIG_FILE
from resnetcli.errors import CheckpointError

STEP_NAME = re.compile(rf"(?:{re.escape(storage.REPLACED)})?step-(\d{{7,}})")
READ_ATTEMPTS = 20
"""How often the best of a run is looked for anew, where it is gone before it was read."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that one checkpoint holds."""

    model: dict[str, Tensor]
    header: ModelHeader
    trainer: dict[str, Tensor]
    position: TrainerHeader


def step_folders(run_dir: Path) -> list[Path]:
    """The checkpoints of a run, oldest first, and what has the name of one and is no folder, for its reader to name.
    Raises CheckpointError where they cannot be listed."""
    folder = run_dir / CHECKPOINTS
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  # names are all that is wanted
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not os.path.lexists(folder):
            return []
        raise CheckpointError(
            f"{folder}: cannot be read ({error.strerror})", "a folder of checkpoints is expected"
        ) from error
    # What was put aside comes first, and counts only until another has its name: a kill in between may have left
    # nothing else of this step.
    folders = {int(match[1]): folder / name for name in names if (match := STEP_NAME.fullmatch(name))}
    return [folders[step] for step in sorted(folders)]


def is_run(path: Path) -> bool:
    return (path / CHECKPOINTS).is_dir() or (path / CONFIG_FILE).is_file()


def read_model(folder: Path) -> tuple[dict[str, Tensor], ModelHeader]:
    """Weights of a checkpoint folder, held against its manifest. Raises CheckpointError."""
    return read_weights(folder / MODEL_FILE, read_manifest(folder).files[MODEL_FILE])


def read_snapshot(folder: Path) -> Snapshot:
    """Everything in a checkpoint folder, held against its manifest. Raises CheckpointError."""
    files = read_manifest(folder).files
    model, header = read_weights(folder / MODEL_FILE, files[MODEL_FILE])
    trainer, position = read_tensors(folder / TRAINER_FILE, TrainerHeader, files[TRAINER_FILE])
    check_sound(trainer, folder / TRAINER_FILE)
    return Snapshot(model, header, trainer, position)


def verify_folder(folder: Path) -> ModelHeader:
    """Holds both files against the manifest, and their numbers against what such numbers can be; returns the header.
    Raises CheckpointError."""
    return read_snapshot(folder).header


def best_first(run_dir: Path) -> list[Path]:
    """The checkpoints of a run in the order of preference: by validation accuracy (of equals the earliest), then
    those that were not validated, newest first, as in a final run, last those whose header cannot be read."""
    ranked, damaged = _ranked(step_folders(run_dir))
    return [*ranked, *damaged]


def _ranked(folders: list[Path]) -> tuple[list[Path], list[Path]]:
    """By preference; and those whose header cannot be read, newest first. Those that are gone are in neither."""
    scores: dict[Path, float] = {}
    damaged: list[Path] = []
    for folder in folders:
        try:
            score = beside_a_run(folder, _score)
        except CheckpointError:
            damaged.insert(0, folder)
        else:
            scores |= {} if score is None else {folder: score}
    validated = [folder for folder, score in scores.items() if score >= 0]
    rest = [folder for folder in reversed(scores) if scores[folder] < 0]
    return sorted(validated, key=lambda folder: -scores[folder]) + rest, damaged


def _score(folder: Path) -> float:
    """Validation accuracy by the header alone, -1 where there is none. Raises CheckpointError."""
    return read_own_header(folder / MODEL_FILE, ModelHeader).metrics.get("val_top1", -1.0)


def _problem(folder: Path) -> str:
    try:
        beside_a_run(folder, verify_folder)
    except CheckpointError as error:
        return error.message
    return ""


def read_best(run_dir: Path) -> tuple[Path, dict[str, Tensor], ModelHeader, tuple[str, ...]]:
    """Folder, weights and header of the best checkpoint that is intact, and what is wrong with those that were passed
    over, or may have been: one whose header cannot be read could be the best.

    Raises CheckpointError where none is intact.
    """
    for _ in range(READ_ATTEMPTS):
        ranked, damaged = _ranked(step_folders(run_dir))
        reasons = [reason for folder in damaged if (reason := _problem(folder))]
        for folder in ranked:
            try:
                found = beside_a_run(folder, read_model)
            except CheckpointError as error:
                reasons.append(error.message)
                continue
            if found is None:  # it went because a better one was saved, or a newer one: look again
                break
            return folder, *found, tuple(reasons)
        else:
            raise CheckpointError(
                f"{run_dir}: no checkpoint to use ({'; '.join(reasons) or 'this run has saved none yet'})",
                "wait for its first, train again, or choose another",
            )
    raise CheckpointError(
        f"{run_dir}: its checkpoints are replaced faster than they can be read", "wait for the run, or stop it"
    )


def newest_intact(run_dir: Path) -> tuple[Path, Snapshot]:
    """The newest checkpoint that is what was written. Raises CheckpointError where none is."""
    damaged: list[str] = []
    for folder in reversed(step_folders(run_dir)):
        try:
            return folder, read_snapshot(folder)
        except CheckpointError as error:
            damaged.append(error.message)
    reason = "; ".join(damaged) or "it holds no checkpoint yet"
    raise CheckpointError(
        f"{run_dir}: nothing to resume ({reason})",
        "start it again with --config and its config.json, or restore it from a copy",
    )


class CheckpointManager:
    """Saves and prunes for the process that holds the run's lock."""

    def __init__(self, run_dir: Path, keep_last: int) -> None:
        self.run_dir = run_dir
        self.folder = run_dir / CHECKPOINTS
        self.keep_last = keep_last
        storage.sweep(run_dir)
        storage.make_folder(self.folder)
        storage.sweep(self.folder)

    def save(self, snapshot: Snapshot) -> Path:
        """Writes a checkpoint, and only when it is safe on disk removes what is no longer kept. Raises StorageError."""
        path = self.folder / f"step-{snapshot.position.global_step:07d}"
        files = {
            MODEL_FILE: encode(snapshot.model, snapshot.header),
            TRAINER_FILE: encode(snapshot.trainer, snapshot.position),
        }
        storage.write_folder(path, {**files, MANIFEST_FILE: manifest_for(files)})
        # Not verified once more: those of before were when the run went on, those since were written by this process.
        self._remove(_superfluous(step_folders(self.run_dir), self.keep_last))
        return path

    def set_damaged_aside(self) -> list[str]:
        """Renames damaged checkpoints, so that none counts as newest or best while new ones are saved; returns what is
        wrong with them."""
        reasons = []
        for folder in step_folders(self.run_dir):
            try:
                verify_folder(folder)
            except CheckpointError as error:
                reasons.append(error.message)
                storage.rename_folder(folder, folder.with_name(f"damaged-{folder.name}"))
        return reasons

    def prune(self) -> list[Path]:
        """Keeps the newest `keep_last` and the best of those that are intact, and the damaged ones; returns what was
        removed."""
        return self._remove(prunable(self.run_dir, self.keep_last))

    def _remove(self, folders: list[Path]) -> list[Path]:
        for folder in folders:
            storage.remove_folder(folder)
        return folders


def prunable(run_dir: Path, keep_last: int) -> list[Path]:
    """What may go of the intact checkpoints: all but the newest `keep_last` and the best. A damaged one counts as
    neither: kept in the place of an intact one it would be the end of the run."""
    return _superfluous([folder for folder in step_folders(run_dir) if _is_intact(folder)], keep_last)


def _superfluous(folders: list[Path], keep_last: int) -> list[Path]:
    kept = {*folders[-keep_last:], *_ranked(folders)[0][:1]}
    return [folder for folder in folders if folder not in kept]


def _is_intact(folder: Path) -> bool:
    try:
        return beside_a_run(folder, verify_folder) is not None
    except CheckpointError:
        return False

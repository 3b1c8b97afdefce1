"""Opens whatever a person has at hand: the name of packaged weights, a run directory, a checkpoint directory, a
portable .safetensors, a foreign file."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor

from resnetcli.checkpoints.beside import beside_a_run
from resnetcli.checkpoints.foreign import load_foreign
from resnetcli.checkpoints.format import (
    FLOATS,
    HEADER_KEY,
    MANIFEST_FILE,
    MAX_CLASSES,
    MAX_HEADER_BYTES,
    MODEL_FILE,
    Architecture,
    ModelHeader,
    Normalization,
    entry_for,
    read_header,
    read_manifest,
    read_weights,
)
from resnetcli.checkpoints.manager import (
    STEP_NAME,
    best_first,
    is_run,
    read_best,
    read_model,
    step_folders,
    verify_folder,
)
from resnetcli.checkpoints.packaged import NAMES, packaged_file, read_packaged
from resnetcli.checkpoints.portable import settings, without_places
from resnetcli.checkpoints.soundness import check_sound
from resnetcli.config.base import CHECKPOINTS, CLASS_NAMES
from resnetcli.errors import CheckpointError
from resnetcli.results.checkpoints import MAX_GENERATIONS, Ancestor, CheckpointInfo, FileInfo
from resnetcli.results.train import REPORT_FOLDER
from resnetcli.spelling import nearest
from resnetcli.untrusted import parse_json, read_plain


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights with what is known about them. `kind`: "packaged", "run", "checkpoint", "portable" or "foreign"."""

    path: Path
    kind: str
    weights: dict[str, Tensor]
    header: ModelHeader
    passed_over: tuple[str, ...] = ()
    """What is wrong with checkpoints of the run that would have been preferred."""
    remarks: tuple[str, ...] = ()
    """What was decided about a foreign file, and what of it was left out."""
    names: dict[str, str] = field(default_factory=dict)
    """Of a foreign file, our names to its own."""

    @property
    def label(self) -> str:
        """What opens it again: a path, or the name of packaged weights."""
        if self.kind == "packaged":
            return self.path.stem
        return f".{os.sep}{self.path}" if str(self.path) in NAMES else str(self.path)


def open_checkpoint(target: str | Path, foreign_normalization: Normalization) -> Checkpoint:
    """Reads CKPT in any of its forms and verifies what can be verified. Raises CheckpointError.

    A foreign file does not say how its images were normalised: `foreign_normalization` is taken. The name of packaged
    weights means these in every folder, whatever lies there; what lies there is `./pretrained`. A Path is no name.
    """
    if isinstance(target, str) and target in NAMES:
        weights, header = read_packaged(target)
        return Checkpoint(packaged_file(target), "packaged", weights, header)
    path = Path(target)
    _check_there(path, target)
    if path.is_dir():
        alone = (path / MODEL_FILE).is_file() and not (path / MANIFEST_FILE).exists()
        if alone and HEADER_KEY not in read_header(path / MODEL_FILE):  # what accelerate and transformers save
            return open_checkpoint(path / MODEL_FILE, foreign_normalization)
        if (path / MANIFEST_FILE).exists() or (path / MODEL_FILE).exists():
            weights, header = read_model(path)
            return Checkpoint(path, "checkpoint", weights, header.model_copy(update={"chosen_by": "user"}))
        if not is_run(path):
            raise CheckpointError(
                f"{target}: neither a run directory nor a checkpoint directory",
                f"a run holds checkpoints/, a checkpoint holds {MODEL_FILE}",
            )
        folder, weights, header, passed_over = read_best(path)
        chosen_by = "val" if "val_top1" in header.metrics else "none"
        return Checkpoint(folder, "run", weights, header.model_copy(update={"chosen_by": chosen_by}), passed_over)
    if not path.is_file():
        raise CheckpointError(f"{target}: neither a file nor a folder", "name a checkpoint")
    if path.suffix == ".safetensors" and HEADER_KEY in read_header(path):
        weights, header = read_weights(path)
        return Checkpoint(path, "portable", weights, header)
    foreign = load_foreign(path)
    check_sound(foreign.weights, path)  # as float32 and with biases folded, which may have left the range of float32
    outputs = foreign.weights.get("head.weight")
    count = outputs.shape[0] if outputs is not None and outputs.ndim == 2 else len(CLASS_NAMES)
    if not 1 <= count <= MAX_CLASSES:
        raise CheckpointError(f"{target}: a head of {count:,} classes", f"1 to {MAX_CLASSES:,} are expected")
    header = ModelHeader(
        architecture=Architecture(shortcut=foreign.shortcut, num_classes=count),
        class_names=CLASS_NAMES if count == len(CLASS_NAMES) else tuple(f"class {i}" for i in range(count)),
        normalization=foreign_normalization,
        origin=path.name if foreign.part is None else f"{path.name} ({foreign.part})",
    )
    return Checkpoint(path, "foreign", foreign.weights, header, remarks=foreign.remarks, names=foreign.names)


def _check_there(path: Path, target: str | Path) -> None:
    """Raises CheckpointError where there is nothing, or nothing that may be looked at."""
    for place in (path, path / MODEL_FILE):  # the second asks for the permission to enter a folder
        try:
            place.stat()
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.ELOOP):
                hint = "name another, or get the permission to read it and to enter the folders above it"
                raise CheckpointError(f"{target}: cannot be read ({error.strerror})", hint) from error
            if place == path:
                raise CheckpointError(f"{target}: no such checkpoint", _near(path)) from error


def check_fit(checkpoint: Checkpoint, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights, complete and of the right shapes for a network with the state `expected`, in its order.

    A missing `num_batches_tracked`, which old files lack, is no fault: it has no effect at the default momentum. Raises
    CheckpointError with what was expected and what was found.
    """
    weights = dict(checkpoint.weights)
    for name in expected:
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, expected[name].new_zeros((), device="cpu"))
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    problems = [
        f"{len(names)} {what}, first {names[0]}{_in_file(checkpoint, names[0])}"
        for what, names in (("missing", missing), ("unknown", extra))
        if names
    ]
    problems += [
        f"{name} is {tuple(weights[name].shape)}, expected {tuple(tensor.shape)}{_in_file(checkpoint, name)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ][:3]
    problems += [
        f"{name} holds {weights[name].dtype}, expected {tensor.dtype} or another float"
        for name, tensor in expected.items()
        if name in weights and tensor.is_floating_point() and weights[name].dtype not in (*FLOATS, torch.float64)
    ][:3]
    if problems:
        variant = checkpoint.header.architecture.shortcut
        raise CheckpointError(
            f"{checkpoint.path}: does not fit the network (shortcut={variant}): " + "; ".join(problems),
            "is it a checkpoint of this network? resnetcli inspect shows the layers",
        )
    return {
        name: weights[name].to(tensor.dtype) if tensor.is_floating_point() else weights[name]
        for name, tensor in expected.items()
    }


def _in_file(checkpoint: Checkpoint, name: str) -> str:
    """What a foreign file calls it, where that is another name."""
    theirs = checkpoint.names.get(name, name)
    return "" if theirs == name else f" (in the file {theirs[:100]})"


def lineage_from(checkpoint: Checkpoint, name: str) -> tuple[Ancestor, ...]:
    """The lineage of what is trained from these weights, which a person named `name`. Raises CheckpointError.

    Beyond MAX_GENERATIONS the oldest are left out; the last one kept still names an `init`, and so does not pass for
    the first.
    """
    path, header = checkpoint.path, without_places(checkpoint.header)
    try:
        parent = Ancestor(
            name=name if checkpoint.kind == "packaged" else Path(name).absolute().name,
            sha256=entry_for(path / MODEL_FILE if path.is_dir() else path).sha256,
            created=header.created,
            step=header.step,
            epoch=header.epoch,
            data=header.data,
            val_fraction=header.val_fraction,
            split_seed=header.split_seed,
            recipe=header.recipe,
            config=settings(header.config),
            origin=header.origin,
            versions=header.versions,
        )
    except ValidationError as error:
        raise CheckpointError(
            f"{checkpoint.label}: its name or its header holds what no run of ours has written ({_first(error)})",
            "start from a checkpoint of this tool",
        ) from error
    return (parent, *header.lineage)[:MAX_GENERATIONS]


def _first(error: ValidationError) -> str:
    """What was wrong, and where."""
    first = error.errors()[0]
    return f"{' '.join(map(str, first['loc'][:2]))[:100]}: {first['msg']}"


def describe_open(checkpoint: Checkpoint) -> CheckpointInfo:
    """What `inspect` and `checkpoints` show of a checkpoint that is open."""
    info = describe(checkpoint.path, checkpoint.kind, checkpoint.header).model_copy(update={"path": checkpoint.label})
    folder = checkpoint.path.absolute()
    if folder.parent.name != CHECKPOINTS or not STEP_NAME.fullmatch(folder.name):
        return info
    steps = step_folders(folder.parent.parent)
    best, newest = map(_first_intact, (best_first(folder.parent.parent), list(reversed(steps))))
    measured = measured_on_test(folder.parent.parent)
    return placed(info, measured, best=checkpoint.kind == "run" or best == folder, last=newest == folder)


def placed(info: CheckpointInfo, measured: dict[str, float], *, best: bool, last: bool) -> CheckpointInfo:
    """A checkpoint with its place among those of its run. The best is chosen by the validation images, where there are
    any, or is the last; any other only by a person."""
    chosen_by = "user" if not best else "val" if "val_top1" in info.metrics else "none"
    metrics = dict(info.metrics)
    if (name := Path(info.path).name) in measured:
        metrics["test_top1"] = measured[name]
    return info.model_copy(update={"best": best, "last": last, "chosen_by": chosen_by, "metrics": metrics})


def measured_on_test(run: Path) -> dict[str, float]:
    """Top-1 on the test images, by the report that ended the run, of the checkpoint folder that it names."""
    try:
        report = parse_json(read_plain(run / REPORT_FOLDER / "report.json", MAX_HEADER_BYTES))
        top1 = float(report["scores"]["top1"]["value"])
        known = report["protocol"]["split"] == "test" and 0 <= top1 <= 1
        return {Path(report["checkpoint"]).name: top1} if known else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _first_intact(folders: list[Path]) -> Path | None:
    for folder in folders:
        try:
            if beside_a_run(folder, verify_folder) is not None:
                return folder
        except CheckpointError:
            continue
    return None


def describe(path: Path, kind: str, header: ModelHeader) -> CheckpointInfo:
    """The same of one whose weights were not read. Raises CheckpointError."""
    entries = read_manifest(path).files if path.is_dir() else {path.name: entry_for(path)}
    files = tuple(FileInfo(name=name, size=entry.size, sha256=entry.sha256) for name, entry in entries.items())
    return CheckpointInfo(
        path=str(path),
        kind=kind,
        step=header.step,
        epoch=header.epoch,
        created=header.created,
        recipe=header.recipe,
        data=header.data,
        chosen_by=header.chosen_by,
        metrics=header.metrics,
        calibration=header.calibration,
        strangeness_threshold=None if header.appearance is None else header.appearance.threshold,
        class_names=header.class_names,
        mean=header.normalization.mean,
        std=header.normalization.std,
        versions=header.versions,
        lineage=header.lineage,
        files=files,
        best=kind == "run",
        rounded_to=None if header.rounded is None else header.rounded.dtype,
        rounding_error=None if header.rounded is None else header.rounded.largest_error,
    )


def _near(path: Path) -> str:
    """What the user may have meant: packaged weights of a name like that, or the runs that lie where it was looked
    for."""
    if meant := nearest(str(path), NAMES):
        return f"did you mean {meant}, the packaged weights?"
    try:
        runs = [p for p in path.parent.iterdir() if p.is_dir() and step_folders(p)]
        newest = sorted(runs, key=lambda p: p.stat().st_mtime)[-3:]
    except (OSError, CheckpointError):
        newest = []
    if newest:
        return "there are " + ", ".join(map(str, newest))
    return f"{' and '.join(NAMES)} is always there; your own comes from: resnetcli train"

"""The only parser of our files: what lies in a checkpoint, and whether it is what was written.

    step-0000391/
        model.safetensors     weights; "resnetcli" in its header is a `ModelHeader` as JSON, so this file travels alone
        trainer.safetensors   optimiser, averaged weights, RNG; its header holds a `TrainerHeader`: position and history
        manifest.json         schema version, and sha256 and size of the two

Nothing is ever unpickled. A safetensors file checks its own structure but not its content (a flipped bit in a weight
goes unnoticed), hence the digests.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import TypeVar

import safetensors
import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from resnetcli.config import Shortcut
from resnetcli.errors import CheckpointError
from resnetcli.results import EpochRow

SCHEMA_VERSION = 1
HEADER_KEY = "resnetcli"
MODEL_FILE, TRAINER_FILE, MANIFEST_FILE = "model.safetensors", "trainer.safetensors", "manifest.json"
MAX_HEADER_BYTES = 16 * 2**20
"""Far above any header of ours (about 40 kB), far below what would hurt to parse."""


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Architecture(Part):
    """Enough to build the network."""

    name: str = "resnet50-small"
    shortcut: Shortcut = "identity"
    num_classes: int = Field(10, ge=1, le=100_000)
    image_size: int = 32


class Normalization(Part):
    """Per channel, as fractions of full scale: (x / 255 - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class ModelHeader(Part):
    """All that a user of the weights must know."""

    schema_version: int = SCHEMA_VERSION
    architecture: Architecture
    class_names: tuple[str, ...]
    normalization: Normalization
    data: str | None = None
    chosen_by: str = "unknown"
    val_fraction: float | None = None
    split_seed: int | None = None
    recipe: str | None = None
    config: dict[str, object] = {}
    step: int | None = None
    epoch: float | None = None
    metrics: dict[str, float] = {}
    created: str | None = None
    versions: dict[str, str] = {}
    origin: str | None = None
    """The foreign file that the weights were imported from, if they were."""


class TrainerHeader(Part):
    """Where the loop stood. `step` counts inside `epoch` (from 0)."""

    schema_version: int = SCHEMA_VERSION
    epoch: int
    step: int
    global_step: int
    seconds: float
    """Training time of the unfinished epoch so far."""
    total_seconds: float
    history: tuple[EpochRow, ...]
    versions: dict[str, str]


class FileEntry(Part):
    size: int
    sha256: str


class Manifest(Part):
    schema_version: int = SCHEMA_VERSION
    files: dict[str, FileEntry]


_Model = TypeVar("_Model", bound=BaseModel)


def encode(tensors: dict[str, Tensor], header: BaseModel) -> bytes:
    """A safetensors file. Its bytes depend on nothing but the arguments."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(contiguous, {HEADER_KEY: header.model_dump_json()})


def manifest_for(files: dict[str, bytes]) -> bytes:
    """The manifest of these files, to be written last."""
    entries = {name: FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    return (Manifest(files=entries).model_dump_json(indent=2) + "\n").encode()


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file without its tensors. Raises CheckpointError for anything that is none."""
    try:
        with path.open("rb") as file:
            prefix = file.read(8)
            size = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else 0
            if not 2 <= size <= MAX_HEADER_BYTES:
                raise CheckpointError(f"{path}: not a safetensors file (header of {size:,} bytes)", _HINT)
            metadata = json.loads(file.read(size)).get("__metadata__", {})
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", _HINT) from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a safetensors file (its header is not JSON)", _HINT) from error
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: the metadata in its header is damaged", _HINT)
    return metadata


def read_tensors(path: Path, header_model: type[_Model]) -> tuple[dict[str, Tensor], _Model]:
    """Tensors (on the CPU) and header of one of our files. Raises CheckpointError."""
    metadata = read_header(path)
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but without the header that resnetcli writes", _HINT)
    header = parse(metadata[HEADER_KEY], header_model, path)
    try:
        # Read, not mapped: a file that is replaced under a mapping takes the weights with it.
        tensors = safetensors.torch.load(path.read_bytes())
    except (safetensors.SafetensorError, OSError, ValueError, MemoryError) as error:
        raise CheckpointError(f"{path}: damaged ({error})", _HINT) from error
    return tensors, header


def parse(text: str | bytes, model: type[_Model], path: Path) -> _Model:
    """JSON of ours to its model; a newer schema gets a message of its own."""
    try:
        document = json.loads(text)
        version = document.get("schema_version") if isinstance(document, dict) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: schema version {version}, but this resnetcli reads up to {SCHEMA_VERSION}",
                "update resnetcli: pip install --upgrade resnetcli",
            )
        return model.model_validate_json(text)
    except (ValueError, RecursionError) as error:
        what = f"{error.error_count()} invalid fields" if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(f"{path}: damaged header ({what})", _HINT) from error


def verify_folder(folder: Path) -> Manifest:
    """Holds each file of a checkpoint against the manifest. Raises CheckpointError with what differs."""
    path = folder / MANIFEST_FILE
    try:
        manifest = parse(path.read_bytes(), Manifest, path)
    except OSError as error:
        raise CheckpointError(f"{folder}: no readable {MANIFEST_FILE} ({error.strerror})", _HINT) from error
    if set(manifest.files) != {MODEL_FILE, TRAINER_FILE}:
        raise CheckpointError(f"{path}: lists {sorted(manifest.files)}, not {MODEL_FILE} and {TRAINER_FILE}", _HINT)
    for name, entry in manifest.files.items():
        verify_file(folder / name, entry)
    return manifest


def verify_file(path: Path, entry: FileEntry) -> None:
    """Raises CheckpointError where size or sha256 of `path` differ from `entry`."""
    try:
        size = path.stat().st_size
        if size != entry.size:
            difference, what = abs(size - entry.size), "short (truncated?)" if size < entry.size else "too long"
            raise CheckpointError(f"{path}: {difference:,} bytes {what}", _HINT)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", _HINT) from error
    if digest != entry.sha256:
        raise CheckpointError(f"{path}: its sha256 is not the one in the manifest (damaged or altered)", _HINT)


_HINT = "resnetcli checkpoints list RUN shows the others; --resume RUN uses the newest intact one"

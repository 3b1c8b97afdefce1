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
import os
import re
import struct
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError
from torch import Tensor

from resnetcli.checkpoints.soundness import check_sound
from resnetcli.config.base import MAX_EPOCHS, HalfPrecision, Shortcut
from resnetcli.errors import CheckpointError
from resnetcli.results.checkpoints import MAX_GENERATIONS, Ancestor, Appearance, Calibration
from resnetcli.results.train import EpochRow
from resnetcli.untrusted import MAX_ITEMS, json_values, open_plain, parse_json, read_plain

SCHEMA_VERSION = 1
HEADER_KEY = "resnetcli"
LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
MODEL_FILE, TRAINER_FILE, MANIFEST_FILE = "model.safetensors", "trainer.safetensors", "manifest.json"
MAX_HEADER_BYTES = 4 * 2**20
"""Room for the history of MAX_EPOCHS; a model's header has about 40 kB."""
MAX_CLASSES = 100_000
MAX_FILE_BYTES = 2**31
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
_Positive = Annotated[float, Field(gt=0)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Architecture(Part):
    """Enough to build the network."""

    name: Literal["resnet50-small"] = "resnet50-small"
    shortcut: Shortcut = "identity"
    num_classes: int = Field(10, ge=1, le=MAX_CLASSES)
    image_size: Literal[32] = 32


class Normalization(Part):
    """Per channel, as fractions of full scale: (x / 255 - mean) / std."""

    mean: tuple[float, float, float]
    std: tuple[_Positive, _Positive, _Positive]


class Rounding(Part):
    """Convolutions and head were stored in half precision; the rest, BatchNorm above all, stays float32."""

    dtype: HalfPrecision
    largest_error: float = Field(ge=0)
    """No weight differs by more from what was trained."""


class ModelHeader(Part):
    """All that a user of the weights must know."""

    schema_version: int = SCHEMA_VERSION
    architecture: Architecture
    class_names: tuple[str, ...]
    normalization: Normalization
    data: str | None = None
    chosen_by: str = "unknown"
    val_fraction: float | None = Field(default=None, ge=0, le=0.5)
    split_seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    recipe: str | None = None
    config: dict[str, object] = {}
    step: int | None = None
    epoch: float | None = None
    metrics: dict[str, float] = {}
    calibration: Calibration | None = None
    """Of these very weights: there where they were validated, and nowhere else (not inside an epoch, not without a
    validation split)."""
    appearance: Appearance | None = None
    created: str | None = None
    versions: dict[str, str] = {}
    origin: str | None = None
    """The foreign file that the weights were imported from, if they were."""
    lineage: tuple[Ancestor, ...] = Field(default=(), max_length=MAX_GENERATIONS)
    """The weights that `config["init"]` named, then those that their own training started from, and so on."""
    rounded: Rounding | None = None
    """None: the weights are as training left them."""


class TrainerHeader(Part):
    """Where the loop stood. `step` counts inside `epoch` (from 0)."""

    schema_version: int = SCHEMA_VERSION
    epoch: int = Field(ge=0, le=MAX_EPOCHS)
    step: int = Field(ge=0)
    global_step: int = Field(ge=0)
    seconds: float = Field(ge=0)
    """Training time of the unfinished epoch so far."""
    total_seconds: float = Field(ge=0)
    history: tuple[EpochRow, ...]
    versions: dict[str, str]


class FileEntry(Part):
    size: int
    sha256: str


class Manifest(Part):
    schema_version: int = Field(default=SCHEMA_VERSION, ge=1)
    files: dict[str, FileEntry]

    def encode(self) -> bytes:
        """The one text that says this: nothing watches over the manifest but its own form."""
        return (json.dumps(self.model_dump(), indent=2) + "\n").encode()


_Model = TypeVar("_Model", bound=BaseModel)


DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.uint8: "U8",
}
"""What a checkpoint holds, by its name in the format."""


def encode(tensors: dict[str, Tensor], header: BaseModel) -> bytes:
    """A safetensors file: length of the header, header, and tensors, the widest numbers first, so that all lie aligned.
    Its bytes depend on nothing but the arguments. Raises MemoryError, and CheckpointError for a header that no reader
    takes: a run shall hear of it when it begins, not when it is to be resumed.

    Written here, because the library's own encoder aborts the process where it finds no memory (seen under RLIMIT_AS).
    """
    entries: dict[str, object] = {"__metadata__": {HEADER_KEY: to_json(header)}}
    parts: list[memoryview] = []
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0])):
        parts.append(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        start, end = end, end + len(parts[-1])
        entries[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES or json_values(text) > MAX_ITEMS:
        size = f"{len(text):,} bytes and {json_values(text):,} values"
        raise CheckpointError(
            f"a header of {size} is more than a checkpoint can have", "start from weights whose header holds less"
        )
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def manifest_for(files: dict[str, bytes]) -> bytes:
    """The manifest of these files, to be written last."""
    entries = {name: FileEntry(size=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in files.items()}
    return Manifest(files=entries).encode()


def read_header(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file without its tensors. Raises CheckpointError for anything that is none."""
    try:
        with open_plain(path) as file:
            return _metadata(_read_head(file, path), path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", _HINT) from error


def read_own_header(path: Path, header_model: type[_Model]) -> _Model:
    """The header of one of our files, without the tensors. Raises CheckpointError."""
    return parse(_ours(read_header(path), path), header_model, path)


def read_tensors(
    path: Path, header_model: type[_Model], entry: FileEntry | None = None
) -> tuple[dict[str, Tensor], _Model]:
    """Tensors (on the CPU) and header of one of our files, held against its manifest entry if there is one.

    Raises CheckpointError.
    """
    try:
        with open_plain(path) as file:
            _size(file, path)
            head = _read_head(file, path)
            # Read, not mapped: a file that is replaced under a mapping takes the weights with it.
            data = head + file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", _HINT) from error
    if entry is not None:
        _check_size(path, entry, len(data))
        _check_digest(path, entry, hashlib.sha256(data).hexdigest())
    header = parse(_ours(_metadata(head, path), path), header_model, path)
    try:
        return safetensors.torch.load(data), header
    except (safetensors.SafetensorError, ValueError, KeyError, MemoryError) as error:
        raise CheckpointError(f"{path}: damaged ({error})", _HINT) from error


def read_weights(path: Path, entry: FileEntry | None = None) -> tuple[dict[str, Tensor], ModelHeader]:
    """Weights and header of a file of weights: what is stored in half precision becomes float32, counters stay int64.

    Raises CheckpointError, also for numbers of any other kind (converted in silence, they would pass for weights) and
    for what `check_sound` refuses.
    """
    stored, header = read_tensors(path, ModelHeader, entry)
    weights = {}
    for name, tensor in stored.items():
        counter = name.endswith("num_batches_tracked")
        if tensor.dtype not in ((torch.int64,) if counter else FLOATS):
            expected = "int64" if counter else "float32, float16 or bfloat16"
            raise CheckpointError(f"{path}: {name} is stored as {tensor.dtype}, expected {expected}", _HINT)
        weights[name] = tensor if counter else tensor.float()
    check_sound(weights, path)
    return weights, header


def read_json(path: Path, model: type[_Model]) -> _Model:
    """A JSON file of ours, all of it. Raises CheckpointError, OSError."""
    return parse(read_plain(path, MAX_HEADER_BYTES), model, path)


def _size(file: BinaryIO, path: Path) -> int:
    if (size := os.fstat(file.fileno()).st_size) > MAX_FILE_BYTES:
        raise CheckpointError(f"{path}: {size:,} bytes, more than any checkpoint of this network", _HINT)
    return size


def _read_head(file: BinaryIO, path: Path) -> bytes:
    """The length of a safetensors header and the header, before anything else of the file is read."""
    length = file.read(8)
    size = struct.unpack("<Q", length)[0] if len(length) == 8 else 0
    if not 2 <= size <= MAX_HEADER_BYTES:
        raise CheckpointError(f"{path}: not a safetensors file (header of {size:,} bytes)", _HINT)
    return length + file.read(size)


def _metadata(head: bytes, path: Path) -> dict[str, str]:
    try:
        metadata = parse_json(head[8:]).get("__metadata__", {})
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: not a safetensors file (in its header: {error})", _HINT) from error
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"{path}: the metadata in its header is damaged", _HINT)
    return metadata


def _ours(metadata: dict[str, str], path: Path) -> str:
    if HEADER_KEY not in metadata:
        raise CheckpointError(f"{path}: a safetensors file, but without the header that resnetcli writes", _HINT)
    return metadata[HEADER_KEY]


def to_json(model: BaseModel, indent: int | None = None) -> str:
    """What `parse` reads. A path that is no UTF-8 comes back as it was: its bytes are lone surrogates in Python, which
    only an escape can say."""
    try:
        return model.model_dump_json(indent=indent)
    except PydanticSerializationError:
        return json.dumps(model.model_dump(mode="json"), indent=indent, allow_nan=False)


def parse(text: str | bytes, model: type[_Model], path: Path) -> _Model:
    """JSON of ours to its model; a newer schema gets a message of its own."""
    try:
        document = parse_json(text)
        version = document.get("schema_version") if isinstance(document, dict) else None
        if isinstance(version, int | float) and version > SCHEMA_VERSION:
            raise CheckpointError(
                f"{path}: schema version {version}, but this resnetcli reads up to {SCHEMA_VERSION}",
                "update resnetcli: pip install --upgrade resnetcli",
            )
        if LONE_SURROGATE.search(text if isinstance(text, str) else text.decode()):
            return model.model_validate(document)  # pydantic's own parser refuses them
        return model.model_validate_json(text)
    except ValueError as error:
        what = f"{error.error_count()} invalid fields" if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(f"{path}: damaged header ({what})", _HINT) from error


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint folder. Raises CheckpointError."""
    path = folder / MANIFEST_FILE
    try:
        text = read_plain(path, MAX_HEADER_BYTES)
    except OSError as error:
        raise CheckpointError(f"{folder}: no readable {MANIFEST_FILE} ({error.strerror})", _HINT) from error
    manifest = parse(text, Manifest, path)
    if manifest.encode() != text:
        raise CheckpointError(f"{path}: not the text that resnetcli writes (damaged or altered)", _HINT)
    if set(manifest.files) != {MODEL_FILE, TRAINER_FILE}:
        raise CheckpointError(f"{path}: lists {sorted(manifest.files)}, not {MODEL_FILE} and {TRAINER_FILE}", _HINT)
    return manifest


def entry_for(path: Path) -> FileEntry:
    """Size and sha256 of a file. Raises CheckpointError."""
    try:
        with open_plain(path) as file:
            return FileEntry(size=_size(file, path), sha256=hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})", _HINT) from error


def _check_size(path: Path, entry: FileEntry, size: int) -> None:
    if size != entry.size:
        difference, what = abs(size - entry.size), "short (truncated?)" if size < entry.size else "too long"
        raise CheckpointError(f"{path}: {difference:,} bytes {what}", _HINT)


def _check_digest(path: Path, entry: FileEntry, sha256: str) -> None:
    if sha256 != entry.sha256:
        raise CheckpointError(f"{path}: its sha256 is not the one in the manifest (damaged or altered)", _HINT)


_HINT = "resnetcli checkpoints list RUN shows the others; --resume RUN uses the newest intact one"

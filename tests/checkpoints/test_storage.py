import errno
import os
import re
from pathlib import Path

import pytest

from resnetcli.checkpoints import storage
from resnetcli.errors import StorageError


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a" / "f.json"
    storage.write_file(path, b"one", parents=True)
    storage.write_file(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["f.json"]


@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_failing_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, call, code):
    path = tmp_path / "f"
    storage.write_file(path, b"old")

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    if call == "write":
        monkeypatch.setattr(os, "write", fail)
    elif call == "fsync":
        monkeypatch.setattr(os, "fsync", fail)
    else:
        monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StorageError) as caught:
        storage.write_file(path, b"new!")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    if code == errno.ENOSPC:
        assert re.search(r"\(4 bytes are needed, [\d,]+ are free on this disk\)", caught.value.message)


def test_a_folder_appears_complete_or_not_at_all(tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def fail_third(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fail_third)
    with pytest.raises(StorageError):
        storage.write_folder(tmp_path / "c", {"a": b"1", "b": b"2", "manifest": b"3"})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    storage.write_folder(tmp_path / "c", {"a": b"1", "b": b"2"})
    assert {p.name: p.read_bytes() for p in (tmp_path / "c").iterdir()} == {"a": b"1", "b": b"2"}


def test_a_folder_is_replaced_not_merged(tmp_path):
    storage.write_folder(tmp_path / "c", {"a": b"1"})
    storage.write_folder(tmp_path / "c", {"b": b"2"})
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["b"]


def test_a_folder_that_cannot_be_replaced_is_still_there(tmp_path, monkeypatch):
    storage.write_folder(tmp_path / "c", {"a": b"1"})
    real = Path.rename

    def fail_for_the_new_one(self, target):
        if self.name.startswith(storage.TEMPORARY):
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new_one)
    with pytest.raises(StorageError):
        storage.write_folder(tmp_path / "c", {"b": b"2"})
    monkeypatch.undo()
    assert (tmp_path / "c" / "a").read_bytes() == b"1"
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_a_kill_between_putting_aside_and_renaming_loses_nothing(tmp_path):
    storage.write_folder(tmp_path / f"{storage.REPLACED}c", {"a": b"1"})
    storage.write_folder(tmp_path / f"{storage.REPLACED}d", {"a": b"old"})
    storage.write_folder(tmp_path / "d", {"a": b"new"})
    storage.sweep(tmp_path)
    assert (tmp_path / "c" / "a").read_bytes() == b"1"
    assert (tmp_path / "d" / "a").read_bytes() == b"new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c", "d"]


def test_sweep_clears_leftovers_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-step-1-abc").mkdir()
    (tmp_path / ".tmp-f-abc").write_text("half")
    (tmp_path / "step-1").mkdir()
    assert len(storage.sweep(tmp_path)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]

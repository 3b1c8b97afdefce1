import errno
import os
import re
import shutil
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


def test_of_a_link_to_a_folder_only_the_link_is_removed(tmp_path):
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    storage.write_folder(elsewhere, {"x": b"kept"})
    run.mkdir()
    for remove in (
        lambda: storage.remove_folder(run / "step-1"),
        lambda: storage.write_folder(run / "step-1", {"x": b"new"}),
        lambda: (run / "step-1").rename(run / ".tmp-step-1-abc") and storage.sweep(run),
    ):
        (run / "step-1").symlink_to(elsewhere)
        remove()
        assert not [p for p in run.iterdir() if p.is_symlink() or p.name.startswith(".")]
        assert (elsewhere / "x").read_bytes() == b"kept"
        shutil.rmtree(run)
        run.mkdir()


def test_a_folder_that_is_there_needs_no_look_at_what_is_above(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "me").mkdir(parents=True)
    real = os.open

    def refuse(path, *rest):
        if Path(path) == home:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *rest)

    monkeypatch.setattr(os, "open", refuse)
    storage.write_file(home / "me" / "x", b"here", parents=True)
    assert (home / "me" / "x").read_bytes() == b"here"
    with pytest.raises(StorageError, match="Permission denied"):
        storage.write_file(home / "you" / "x", b"here", parents=True)


def test_a_folder_is_renamed_over_one_of_that_name(tmp_path):
    storage.write_folder(tmp_path / "a", {"x": b"new"})
    storage.write_folder(tmp_path / "b", {"y": b"old"})
    storage.rename_folder(tmp_path / "a", tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b" / "x").read_bytes() == b"new"


def test_a_disk_that_takes_a_part_of_what_is_written_gets_the_rest(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    storage.write_file(tmp_path / "f", b"ten bytes.")
    assert (tmp_path / "f").read_bytes() == b"ten bytes."


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        (errno.EFBIG, "ulimit -f"),
        (errno.EDQUOT, "free some space"),
        (errno.EROFS, "make the folder writable"),
        (errno.EIO, "its disk answers"),
    ],
)
def test_each_refusal_of_the_disk_has_its_own_advice(tmp_path, monkeypatch, code, hint):
    def refuse(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match=re.escape(os.strerror(code))) as caught:
        storage.write_folder(tmp_path / "c", {"a": b"1"})
    assert hint in caught.value.hint


def test_a_disk_that_is_gone_has_an_unknown_number_of_bytes_free(tmp_path, monkeypatch):
    def fill_and_vanish(descriptor):
        shutil.rmtree(tmp_path / "d")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "d").mkdir()
    monkeypatch.setattr(os, "fsync", fill_and_vanish)
    with pytest.raises(StorageError, match="an unknown number are free"):
        storage.write_folder(tmp_path / "d" / "c", {"a": b"1"})

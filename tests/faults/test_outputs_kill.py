"""A process that is killed at each single operation by which it writes what a user asked for: a portable file, a
report. The next call finishes, and leaves nothing of the killed one."""

from __future__ import annotations

import os
import signal

import pytest

from resnetcli import durable
from resnetcli.checkpoints import storage
from resnetcli.services.reports import UNFINISHED, check_free, is_free, write_report
from tests.faults.sandbox import in_child
from tests.faults.test_storage_kill import killed_after, operations_of

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and reads paths from /proc"),
    pytest.mark.usefixtures("no_waiting"),
]
REPORT = {"report.json": b"{}", "per_class.csv": b"class", "confusion.csv": b"cat"}


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_what_a_killed_export_has_left_goes_with_the_next_one(tmp_path, broke):
    def export(root):
        storage.write_file(root / "out" / "best.safetensors", b"weights", parents=True)

    (tmp_path / "whole").mkdir()
    count = len(operations_of(lambda: export(tmp_path / "whole"), tmp_path))
    left = 0
    for number in range(1, count + 1):
        root = tmp_path / str(number)
        root.mkdir()
        assert killed_after(number, root, lambda tell, root=root: export(root))[0] == -signal.SIGKILL
        left += any(root.rglob(f"{storage.TEMPORARY}*"))
        export(root)
        assert names(root / "out") == ["best.safetensors"]
    assert left >= 3
    broke(1, "SIGKILL after each storage operation of an export", count, "swept by the next one")


@pytest.mark.parametrize("there", [False, True])
def test_a_half_report_of_a_killed_command_is_replaced_by_the_next_one(tmp_path, broke, there):
    def write(root):
        check_free(root / "report", REPORT)
        write_report(root / "report", REPORT)

    def prepared(name):
        (tmp_path / name).mkdir()
        if there:
            (tmp_path / name / "report").mkdir()
            (tmp_path / name / "report" / "mine.txt").write_text("mine")
        return tmp_path / name

    whole = prepared("whole")
    count = len(operations_of(lambda: write(whole), tmp_path))
    halves = 0
    for number in range(1, count + 1):
        root = prepared(str(number))
        assert killed_after(number, root, lambda tell, root=root: write(root))[0] == -signal.SIGKILL
        report = root / "report"
        done = not (report / UNFINISHED).exists() and any((report / name).exists() for name in REPORT)
        halves += not done and any((report / name).exists() for name in REPORT)
        assert is_free(report) == (not done and not there)
        if not done:
            write(root)
        assert names(report) == sorted([*REPORT, *(["mine.txt"] if there else [])])
        assert all((report / name).read_bytes() == data for name, data in REPORT.items())
    assert halves >= 3
    broke(1, "SIGKILL after each storage operation of a report", count, "completed by the next call")


def test_a_failed_report_leaves_what_was_there(tmp_path, monkeypatch):
    real = storage.write_file

    def refuse_the_last(path, data):
        if path.name == "confusion.csv":
            raise storage.StorageError("the disk is full")
        real(path, data)

    monkeypatch.setattr(storage, "write_file", refuse_the_last)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "mine.txt").write_text("mine")
    for folder in (tmp_path / "old", tmp_path / "a" / "b"):
        with pytest.raises(storage.StorageError):
            write_report(folder, REPORT, parents=True)
    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == ["mine.txt"]


def test_what_another_process_is_writing_is_not_swept(tmp_path, monkeypatch):
    """The child writes one file of its name inside the other's writing of it, after the first byte and before the
    last."""
    seen = []

    def write_in_between(tell):
        write = os.write

        def second(descriptor, data):
            written = write(descriptor, data[:1])
            if not seen:
                seen.append(True)
                code, _ = in_child(lambda _: storage.write_file(tmp_path / "f", b"second"))
                tell([code, names(tmp_path)])
            return written

        monkeypatch.setattr(os, "write", second)
        storage.write_file(tmp_path / "f", b"first")
        tell([(tmp_path / "f").read_text(), names(tmp_path)])

    (code, (during, after)) = in_child(write_in_between)
    assert code == 0
    assert during[0] == 0
    assert [name.startswith(storage.TEMPORARY) for name in during[1]] == [True, False]
    assert after == ["first", ["f"]]


def test_a_temporary_file_that_is_swept_too_early_is_written_again(tmp_path, monkeypatch):
    real, swept = durable.write_synced, []

    def write_synced(path, *parts):
        real(path, *parts)
        if not swept:
            swept.append(path)
            path.unlink()

    monkeypatch.setattr(durable, "write_synced", write_synced)
    storage.write_file(tmp_path / "f", b"whole")
    assert (tmp_path / "f").read_bytes() == b"whole"


@pytest.mark.parametrize("name", ["a" * 255, "ü" * 127])
def test_a_file_may_have_the_longest_name_that_the_file_system_takes(tmp_path, name):
    storage.write_file(tmp_path / name, b"x")
    assert names(tmp_path) == [name]

"""A power failure at each moment of a run's life: every state in which a disk that keeps to POSIX may come back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from resnetcli.checkpoints.locks import RunLock
from resnetcli.checkpoints.manager import CheckpointManager, step_folders
from tests.faults.life import check_nothing_lost, config_in, live
from tests.faults.operations import Disk, watched, write_out

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads paths from /proc"),
    pytest.mark.usefixtures("no_waiting"),
]


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Where a whole life was lived, and what happened in it: operations, and what was acknowledged between them."""
    root = tmp_path_factory.mktemp("life") / "disk"
    root.mkdir()
    happened = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        with watched(root, happened.append):
            live(root, happened.append)
    shutil.rmtree(root)
    return root, happened


def moments(disk, happened, acknowledged):
    """What was acknowledged when `disk` is as each operation left it, and once more after each acknowledgement."""
    for what in happened:
        if isinstance(what, tuple):
            acknowledged.append(what)
        else:
            disk.apply(what)
        yield tuple(acknowledged)


def check_survivors(disk, acknowledged, seen):
    """Boots every state that was not checked before; returns how many those were."""
    count = 0
    for tree in disk.after_power_loss():
        key = hash((repr(tree), acknowledged))
        if key not in seen:
            seen.add(key)
            write_out(tree, disk.root)
            check_nothing_lost(disk.root, acknowledged)
            shutil.rmtree(disk.root)
            count += 1
    return count


def test_a_power_failure_at_any_moment_loses_nothing_that_was_acknowledged(history, broke):
    root, happened = history
    disk, seen = Disk(root), set()
    count = sum(check_survivors(disk, done, seen) for done in moments(disk, happened, []))
    assert count > 150
    broke(
        3,
        "power loss after each storage operation, dropping un-synced data and every suffix of un-synced names",
        count,
        "0 violations: a newest and a best checkpoint ≥ the last acknowledged",
    )


@pytest.mark.full
def test_a_power_failure_while_the_next_process_clears_up_after_a_kill_loses_nothing(history, broke):
    root, happened = history
    count, seen = 0, set()
    lengths = [n for n in range(1, len(happened) + 1) if not isinstance(happened[n - 1], tuple)]
    for length in lengths:
        disk, acknowledged = Disk(root), []
        for _ in moments(disk, happened[:length], acknowledged):
            pass
        write_out(disk.as_seen(), root)
        run, cleared = config_in(root).output_dir / "r", []
        if run.is_dir() and step_folders(run):
            with watched(root, cleared.append), RunLock(run):
                CheckpointManager(run, keep_last=2)
        shutil.rmtree(root)
        count += sum(check_survivors(disk, done, seen) for done in moments(disk, cleared, acknowledged))
    assert count > 150
    broke(
        3,
        "power loss after each operation of clearing up, after SIGKILL at each storage operation",
        count,
        "0 violations: a newest and a best checkpoint ≥ the last acknowledged",
    )


def test_the_played_disk_loses_what_was_not_synced(tmp_path):
    """The instrument itself: it must be able to lose data and names, or the tests above show nothing."""
    disk = Disk(tmp_path)
    with watched(tmp_path, disk.apply):
        (tmp_path / "d").mkdir()
        descriptor = os.open(tmp_path / "d" / "f", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, b"data")
        os.close(descriptor)
        (tmp_path / "d").rename(tmp_path / "e")
    states = list(disk.after_power_loss())
    assert disk.as_seen() == {"e": {"f": b"data"}}
    assert {} in states
    for content in (b"data", b"", b"da", bytes(4)):
        assert {"e": {"f": content}} in states
        assert {"d": {"f": content}} in states
    assert {"d": {}} in states
    assert len(states) == 11  # nothing, or one of two names, empty or with a file of one of four contents

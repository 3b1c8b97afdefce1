"""A process that is killed, or refused by its disk, at each single operation by which it changes the disk."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from resnetcli.checkpoints.manager import CheckpointManager, newest_intact, step_folders
from resnetcli.checkpoints.storage import REPLACED, TEMPORARY
from resnetcli.errors import StorageError
from tests.checkpoints.samples import damage, snapshot
from tests.faults.life import check_nothing_lost, live
from tests.faults.operations import watched
from tests.faults.sandbox import in_child

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, and reads paths from /proc"),
    pytest.mark.usefixtures("no_waiting"),
]


def operations_of(work, root):
    """All operations of `work`, in order."""
    seen = []
    with watched(root, seen.append):
        work()
    return seen


def killed_after(number, root, work):
    """How `work(tell)` ends in a child that is killed after so many operations, and what it told."""

    def until(tell):
        done = []

        def after(operation):
            done.append(operation)
            if len(done) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        with watched(root, after):
            work(tell)

    return in_child(until)


def names_the_holder(operations, number):
    """Whether this operation only serves to tell others which process holds the run."""
    before = operations[number - 1].target
    return operations[number].path.name.startswith(f"{TEMPORARY}.holder") or (before and before.name == ".holder")


def test_a_kill_after_any_operation_loses_nothing_that_was_acknowledged(tmp_path, broke):
    (tmp_path / "whole").mkdir()
    count = len(operations_of(lambda: live(tmp_path / "whole", lambda saved: None), tmp_path))
    assert count > 150
    for number in range(1, count + 1):
        root = tmp_path / str(number)
        root.mkdir()
        code, acknowledged = killed_after(number, root, lambda tell, root=root: live(root, tell))
        assert code == -signal.SIGKILL
        check_nothing_lost(root, acknowledged)
    broke(
        1,
        "SIGKILL after each storage operation of start, save, replace, resume and prune",
        count,
        "a newest and a best checkpoint ≥ the last acknowledged; leftovers cleared at the next start",
    )


def test_a_kill_while_damaged_checkpoints_are_set_aside_leaves_the_intact_one(tmp_path, broke):
    def prepared(root):
        root.mkdir()
        for _ in range(2):  # the second time, one has been set aside before
            manager = CheckpointManager(root, keep_last=9)
            for step in (1, 2, 3):
                manager.save(snapshot(step))
            for step in (2, 3):
                damage(root / "checkpoints" / f"step-{step:07d}" / "model.safetensors", "flip")
            if not list((root / "checkpoints").glob("damaged-*")):
                manager.set_damaged_aside()

    def set_aside(root):
        CheckpointManager(root, keep_last=9).set_damaged_aside()

    prepared(tmp_path / "whole")
    count = len(operations_of(lambda: set_aside(tmp_path / "whole"), tmp_path))
    assert count > 10
    for number in range(1, count + 1):
        root = tmp_path / str(number)
        prepared(root)
        code, _ = killed_after(number, root, lambda tell, root=root: set_aside(root))
        assert code == -signal.SIGKILL
        assert newest_intact(root)[0].name == "step-0000001"
        set_aside(root)
        assert [p.name for p in step_folders(root)] == ["step-0000001"]
        assert not [p for p in (root / "checkpoints").iterdir() if p.name.startswith((TEMPORARY, REPLACED))]
    broke(
        1,
        "SIGKILL after each storage operation of setting damaged checkpoints aside",
        count,
        "the intact one is the newest; leftovers cleared at the next start",
    )


def refused_at(number, root, code):
    """A life in which one operation fails: the error that came of it, if one did, the operations, the acknowledged."""
    acknowledged, met = [], []

    def refuse(operation):
        met.append(operation)
        if len(met) == number + 1:
            raise OSError(code, os.strerror(code))

    try:
        with watched(root, lambda operation: None, refuse):
            live(root, acknowledged.append)
    except StorageError as error:
        return error, met, acknowledged
    return None, met, acknowledged


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, pytest.param(errno.EIO, marks=pytest.mark.full)], ids=errno.errorcode.get
)
def test_an_operation_that_fails_is_an_error_that_loses_nothing(tmp_path, broke, code):
    """Clean-up that fails is left to the next start; whatever makes something must succeed or be reported."""
    (tmp_path / "whole").mkdir()
    operations = operations_of(lambda: live(tmp_path / "whole", lambda saved: None), tmp_path)
    numbers = [n for n, operation in enumerate(operations) if operation.kind not in ("unlink", "rmdir")]
    silent = 0
    for number in numbers:
        root = tmp_path / str(number)
        root.mkdir()
        error, met, acknowledged = refused_at(number, root, code)
        if error is None:
            assert names_the_holder(met, number), met[number]
            silent += 1
        else:
            assert error.exit_code == 7
            assert os.strerror(code) in error.message
            if met[number].kind == "write" and code == errno.ENOSPC:
                assert " bytes are needed, " in error.message
        # What was on its way out when the disk refused is not emptied: its old name could still come back.
        litter = [p for p in root.rglob(f"{TEMPORARY}*") if p not in (met[number].path, met[number - 1].target)]
        assert not litter, (met[number], litter)
        check_nothing_lost(root, acknowledged)
    assert silent < 20  # who holds the run is a courtesy: five operations for each of three processes
    broke(
        5 if code == errno.ENOSPC else 1,
        f"{errno.errorcode[code]} from each storage operation that makes something",
        len(numbers),
        "exit 7; nothing acknowledged lost, nothing half-made left",
    )

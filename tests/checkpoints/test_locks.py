"""File systems without locks, as some of a network are."""

import errno
import os

import pytest
from filelock import FileLock

from resnetcli.checkpoints import locks
from resnetcli.checkpoints.locks import LOCK_FILE, SOFT_LOCK_FILE, RunLock, check_not_in_use
from resnetcli.config.train import TrainConfig
from resnetcli.errors import RunInUseError, StorageError
from resnetcli.services.run_folder import new_run_folder

FAILURES = [OSError(n, os.strerror(n)) for n in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)] + [
    NotImplementedError()
]


@pytest.fixture(params=FAILURES, ids=repr)
def no_locks(request, monkeypatch):
    def acquire(self, *arguments, **settings):
        raise request.param

    monkeypatch.setattr(FileLock, "acquire", acquire)
    monkeypatch.setattr(locks, "HOLDER_SECONDS", 0.0)


def test_it_is_said_and_the_soft_lock_is_offered(no_locks, tmp_path):
    with pytest.raises(StorageError, match="has no locks") as caught:
        RunLock(tmp_path).__enter__()
    assert "--soft-lock" in caught.value.hint
    assert not (tmp_path / SOFT_LOCK_FILE).exists()


def test_a_soft_lock_holds_the_run_and_lets_go(no_locks, tmp_path):
    with RunLock(tmp_path, soft=True):
        with pytest.raises(RunInUseError, match=f"process {os.getpid()}"):
            RunLock(tmp_path, soft=True).__enter__()
        assert (tmp_path / SOFT_LOCK_FILE).exists()
    with RunLock(tmp_path, soft=True):
        pass
    assert not (tmp_path / SOFT_LOCK_FILE).exists()


def test_a_run_that_is_held_by_a_soft_lock_can_be_asked_for_and_its_folder_used_again(no_locks, tmp_path):
    config = TrainConfig(output_dir=tmp_path, name="again", soft_lock=True)
    run = tmp_path / "again"
    run.mkdir()
    (run / LOCK_FILE).touch()  # the one that could not be locked
    with RunLock(run, soft=True), pytest.raises(RunInUseError):
        new_run_folder(config)
    assert new_run_folder(config) == run
    assert not (run / SOFT_LOCK_FILE).exists()
    with pytest.raises(StorageError, match="has no locks"):
        new_run_folder(config.model_copy(update={"soft_lock": False}))


def test_a_soft_lock_that_was_left_behind_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HOLDER_SECONDS", 0.0)
    (tmp_path / SOFT_LOCK_FILE).write_text("12345\nelsewhere\n")
    for soft in (False, True):
        with pytest.raises(RunInUseError, match=f"then delete .*{SOFT_LOCK_FILE}"):
            RunLock(tmp_path, soft=soft).__enter__()
    (tmp_path / SOFT_LOCK_FILE).unlink()
    with RunLock(tmp_path):
        pass


def test_each_kind_sees_the_other_where_there_are_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HOLDER_SECONDS", 0.0)
    for first, second in ((True, False), (False, True), (True, True), (False, False)):
        with RunLock(tmp_path, soft=first):
            with pytest.raises(RunInUseError):
                RunLock(tmp_path, soft=second).__enter__()
            with pytest.raises(RunInUseError):
                check_not_in_use(tmp_path)
        check_not_in_use(tmp_path)


def test_another_error_of_a_lock_is_not_taken_for_that(tmp_path, monkeypatch):
    def acquire(self, *arguments, **settings):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with pytest.raises(StorageError, match="cannot write to"):
        RunLock(tmp_path, soft=True).__enter__()

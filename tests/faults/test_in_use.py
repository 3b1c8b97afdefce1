"""Runs that want one directory: one gets it, the others say at once who has it; the lock dies with its process."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest

from resnetcli.checkpoints.locks import LOCK_FILE, RunLock
from resnetcli.checkpoints.manager import newest_intact, step_folders
from resnetcli.errors import UsageError
from resnetcli.services.run_folder import check_still_unused, new_run_folder
from tests.faults.children import Child, resnetcli, train_arguments
from tests.services.runs import short_config
from tests.services.test_train import assert_same_end

SETTINGS: dict[str, object] = {
    "limit_train": 64, "batch_size": 16, "epochs": 2, "branch_scale": 0.3, "optimizer": "sgd", "lr": 0.02,
    "precision": "fp32", "threads": 1, "save_every": 1e9, "json": True,
}  # fmt: skip
ARGUMENTS = train_arguments("run", **SETTINGS)


def wait_for(gate: str, started: str, behind: str) -> None:
    """In a child: everybody starts when the file `gate` is there, and whoever trains goes on past its first step when
    `behind` is; `started` says that it has come there."""
    from resnetcli.engine.loop import Trainer

    step = Trainer.step

    def waiting(self: Trainer, *batch: object) -> float:
        Path(started).touch()
        _until(Path(behind))
        return step(self, *batch)

    Trainer.step = waiting
    _until(Path(gate))


def until_signalled(started: str) -> None:
    """In a child: whoever trains says so and stays at its first step."""
    wait_for("/", started, "nothing of this name")


def _until(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def simultaneous(folder: Path, count: int) -> None:
    folder.mkdir()
    names = ("gate", "started", "behind")
    children = [Child(ARGUMENTS, folder, prepare=partial(wait_for, *names)) for _ in range(count)]
    pids = {child.process.pid for child in children}
    (folder / "gate").touch()
    losers = []
    while len(losers) < count - 1:
        losers += [child for child in children if child not in losers and child.process.exitcode is not None]
        assert len(losers) < count, "nobody was left to train"
        time.sleep(0.02)
    winner = next(child for child in children if child not in losers)
    _until(folder / "started")
    for child in losers:
        ended = child.wait()
        error = json.loads(ended.out)["error"]
        assert (ended.code, error["kind"]) == (6, "in_use"), ended
        assert re.search(r"in use by process (\d+) on ", error["message"])[1] == str(winner.process.pid)
    (folder / "behind").touch()
    ended = winner.wait()
    assert ended.code == 0, ended.err
    assert winner.process.pid in pids
    assert newest_intact(folder / "run")[1].position.global_step == 8
    assert not list((folder / "run").rglob(".tmp-*"))


FAULT = "simultaneous starts of a run of one name"
OUTCOME = "one trains, the others exit 6 and name it"


@pytest.mark.slow
def test_of_runs_started_together_one_trains_and_the_others_name_it(tmp_path, broke):
    simultaneous(tmp_path / "many", 6)
    broke(14, FAULT, 6, OUTCOME)


@pytest.mark.full
def test_fifty_simultaneous_starts(tmp_path, broke):
    simultaneous(tmp_path / "many", 50)
    broke(14, FAULT, 50, OUTCOME)


@pytest.mark.slow
def test_runs_without_a_name_started_together_get_a_directory_each(tmp_path, broke):
    argv = [a for a in ARGUMENTS if not a.startswith("--name")]
    children = [Child([*argv, "--epochs=1"], tmp_path) for _ in range(4)]
    assert [child.wait().code for child in children] == [0] * 4
    runs = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    assert runs == [f"fast-{n}" for n in (1, 2, 3, 4)]
    for name in runs[1:]:
        assert_same_end(tmp_path / "fast-1", tmp_path / name)
    broke(14, "simultaneous starts without a name", 4, "a directory of its own for each")


@pytest.mark.slow
def test_a_lock_dies_with_its_process_and_the_dead_are_not_named(tmp_path, broke):
    child = Child(ARGUMENTS, tmp_path, prepare=partial(until_signalled, "started"))
    _until(tmp_path / "started")
    busy = resnetcli(["train", "--resume=run", "--json"], tmp_path)
    assert busy.code == 6
    assert f"process {child.process.pid} on" in json.loads(busy.out)["error"]["message"]
    assert resnetcli(["checkpoints", "prune", "run"], tmp_path).code == 6
    os.kill(child.process.pid, signal.SIGKILL)
    assert child.wait().code == -signal.SIGKILL
    assert (tmp_path / "run" / ".holder").exists()  # it had no time to take its name away
    ended = resnetcli(["train", "--resume=run", "--json"], tmp_path)
    assert ended.code == 0, ended.err
    broke(14, "the holder of a run is killed", 1, "the next process gets the run")


def test_a_holder_that_is_dead_is_not_named_while_the_next_one_writes_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr("resnetcli.checkpoints.locks.HOLDER_SECONDS", 0.0)
    dead = os.fork()
    if not dead:
        os._exit(0)
    os.waitpid(dead, 0)
    with RunLock(tmp_path) as lock:
        mine = (tmp_path / ".holder").read_text()
        assert lock._held_by() == mine
        (tmp_path / ".holder").write_text(mine.replace(str(os.getpid()), str(dead)))
        assert lock._held_by() == "another process"
        (tmp_path / ".holder").write_text(f"process {dead} on another machine")
        assert lock._held_by() == f"process {dead} on another machine"


def test_whoever_waited_while_another_run_came_and_went_does_not_write_over_it(tmp_path):
    config = short_config(tmp_path, name="run")
    path = new_run_folder(config)  # unused so far
    (path / "checkpoints" / "step-0000008").mkdir(parents=True)
    with RunLock(path), pytest.raises(UsageError, match="a run of this name exists"):
        check_still_unused(path)


def test_the_litter_of_a_start_that_was_killed_does_not_take_the_name(tmp_path):
    config = short_config(tmp_path, name="run")
    path = new_run_folder(config)
    for name in (".tmp-config.json-12345678", LOCK_FILE, ".holder"):
        (path / name).write_text("process 1")
    assert new_run_folder(config) == path
    assert not step_folders(path)
    shutil.rmtree(path)

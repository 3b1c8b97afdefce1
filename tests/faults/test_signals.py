"""SIGINT, SIGTERM and SIGHUP at moments spread over everything that a run does, once and twice.

Each case is a process that signals itself at the n-th function call of a phase, and what is left is gone on with. The
network is a small one, all else is the program.
"""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnetcli.checkpoints.manager import newest_intact, step_folders, verify_folder
from resnetcli.interrupts import StopRequest
from tests.data.test_network import CONTENT, MD5, Server, server  # noqa: F401  # a fixture
from tests.faults.children import Child, Ended, Moment, resnetcli, train_arguments
from tests.services.test_train import assert_same_end

SETTINGS: dict[str, object] = {
    "limit_train": 64, "batch_size": 16, "epochs": 2, "lookahead": 3, "branch_scale": 0.3, "optimizer": "sgd",
    "lr": 0.02, "precision": "fp32", "threads": 1, "save_every": 1e9, "quiet": True,
}  # fmt: skip
ARGUMENTS = train_arguments("run", **SETTINGS)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PHASES = ("load", "step", "save", "evaluate")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    """A run that nothing disturbed, and how many calls each of its phases made."""
    folder = tmp_path_factory.mktemp("whole")
    ended = resnetcli(ARGUMENTS, folder, moment=Moment("all", 10**9, 0))
    assert ended.code == 0, ended.err
    return folder / "run", ended.report["calls"]


def moments(calls: dict[str, int], count: int) -> list[Moment]:
    """`count` in each phase, evenly over its calls, the three signals in turn."""
    return [
        Moment(phase, calls[phase] * (2 * i + 1) // (2 * count + 1), SIGNALS[(i + shift) % len(SIGNALS)])
        for shift, phase in enumerate(PHASES)
        for i in range(count)
    ]


def assert_left_whole(run: Path) -> None:
    """Every checkpoint that can be seen is what was written."""
    for folder in step_folders(run):
        verify_folder(folder)


def go_on(folder: Path) -> None:
    """What a user would do next: resume, or, where nothing was saved yet, start again."""
    run = folder / "run"
    argv = ["train", "--resume=run", "--quiet"] if step_folders(run) else ARGUMENTS
    ended = resnetcli(argv, folder)
    assert ended.code == 0, ended.err
    assert not [p for p in run.rglob(".*") if p.name != ".lock"], "litter"


def stopped_and_gone_on_with(moment: Moment, folder: Path, whole: Path) -> None:
    folder.mkdir()
    ended = resnetcli(ARGUMENTS, folder, moment=moment)
    assert ended.report["fired"] is not None, moment
    assert ended.code == 128 + moment.signum, (moment, ended.err)
    assert ended.err.count("stopped: ") == (not ended.out), ended.err  # or else its result was ready by then
    assert "Traceback" not in ended.err
    assert not ended.orphans
    assert_left_whole(folder / "run")
    steps_before, saves_before = ended.report["fired"]
    assert ended.report["steps"] - steps_before <= 1
    assert ended.report["saves"] - saves_before <= 2  # the one that was going on, and one more
    if ended.report["steps"]:
        assert newest_intact(folder / "run")[1].position.global_step == ended.report["steps"]
    go_on(folder)
    assert_same_end(whole, folder / "run")
    shutil.rmtree(folder)


def twice(moment: Moment, folder: Path, whole: Path) -> None:
    folder.mkdir()
    ended = resnetcli(ARGUMENTS, folder, moment=moment)
    assert ended.code == 128 + moment.signum, (moment, ended.err)
    assert "Traceback" not in ended.err
    assert not ended.orphans
    assert_left_whole(folder / "run")
    go_on(folder)
    assert_same_end(whole, folder / "run")
    shutil.rmtree(folder)


def in_turn(calls: dict[str, int], count: int) -> list[Moment]:
    """Moments at which two signals come, the second a few to a few thousand calls after the first."""
    return [
        Moment(m.phase, m.call, m.signum, again=m.signum, gap=1 + 7 ** (i % 5))
        for i, m in enumerate(moments(calls, count))
        if m.signum != signal.SIGHUP
    ]


ONCE = "SIGINT, SIGTERM or SIGHUP while loading, stepping, saving or evaluating"
ONCE_OUTCOME = "130, 143 or 129; saved within a step and a save; nothing left running; resumed bit-equal"
TWICE = "the same signal again a moment later"
TWICE_OUTCOME = "left at once with that code; all checkpoints whole; resumed bit-equal"


@pytest.mark.slow
def test_a_run_stopped_at_any_moment_saves_leaves_and_ends_byte_equal_after_resume(whole, tmp_path, broke):
    cases = moments(whole[1], 2)
    for i, moment in enumerate(cases):
        stopped_and_gone_on_with(moment, tmp_path / str(i), whole[0])
    broke(15, ONCE, len(cases), ONCE_OUTCOME)


@pytest.mark.full
def test_a_run_stopped_at_a_hundred_moments(whole, tmp_path, broke):
    cases = moments(whole[1], 25)
    for i, moment in enumerate(cases):
        stopped_and_gone_on_with(moment, tmp_path / str(i), whole[0])
    broke(15, ONCE, len(cases), ONCE_OUTCOME)


@pytest.mark.slow
def test_a_second_signal_leaves_at_once_and_loses_nothing_that_was_saved(whole, tmp_path, broke):
    cases = in_turn(whole[1], 1)
    for i, moment in enumerate(cases):
        twice(moment, tmp_path / str(i), whole[0])
    broke(15, TWICE, len(cases), TWICE_OUTCOME)


@pytest.mark.full
def test_two_signals_at_many_moments(whole, tmp_path, broke):
    cases = in_turn(whole[1], 8)
    for i, moment in enumerate(cases):
        twice(moment, tmp_path / str(i), whole[0])
    broke(15, TWICE, len(cases), TWICE_OUTCOME)

"""Runs that are killed without warning, wherever they happen to be, and what they are in the end."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from resnetcli.checkpoints.manager import best_first, newest_intact, step_folders
from tests.faults.worker import acknowledged, content_hash
from tests.services.runs import SHORT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

LOST = "0 acknowledged checkpoints lost; after resume the final hash equals the uninterrupted run's"


def check_kept(run, acks):
    """The newest intact checkpoint is at least what was acknowledged."""
    promised = acknowledged(acks)
    if promised >= 0:
        assert newest_intact(run)[1].position.global_step >= promised


def kill_until_done(worker, run, start, seconds, draw, at_most):
    """Starts and kills a run at random moments, checking each time, `at_most` times; then lets it finish. Returns how
    often it was really killed."""
    acks, kills = f"{run}.acks", 0
    while kills < at_most:
        child = start(acks)
        time.sleep(draw.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        code = worker.wait(child)
        check_kept(run, acks)
        if code == 0:
            return kills
        assert code == -signal.SIGKILL
        kills += 1
    assert worker.wait(start(acks)) == 0
    check_kept(run, acks)
    return kills


@pytest.mark.parametrize("wanted", [20, pytest.param(300, marks=pytest.mark.full)])
def test_a_tiny_run_killed_at_random_moments_ends_as_the_uninterrupted_one(worker, tmp_path, broke, wanted):
    began = time.monotonic()
    assert worker.run("train_tiny", str(tmp_path / "whole"), str(tmp_path / "whole.acks")) == 0
    seconds = time.monotonic() - began
    expected = content_hash(tmp_path / "whole")
    draw, kills, runs = random.Random(wanted), 0, 0
    while kills < wanted:
        run = tmp_path / f"killed-{(runs := runs + 1)}"

        def start(acks, run=run):
            return worker.start("train_tiny", str(run), acks)

        kills += kill_until_done(worker, run, start, seconds / 3, draw, wanted - kills)
        assert content_hash(run) == expected
        assert not [p for p in run.rglob(".*") if p.name not in (".lock", ".holder")]
    broke(2, "SIGKILL at random moments of tiny runs", kills, LOST)


OPTIONS = {**SHORT, "save_every": 0, "threads": 1, "device": "cpu"}


@pytest.mark.full
def test_a_real_run_killed_at_random_moments_ends_as_the_uninterrupted_one(worker, tmp_path, broke):
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in OPTIONS.items()]
    first = [*flags, f"--output-dir={tmp_path}"]
    fence = {"log": str(tmp_path / "log")}
    began = time.monotonic()
    assert worker.run("command", ["train", *first, "--name=whole"], str(tmp_path / "whole.acks"), fence) == 0
    seconds = time.monotonic() - began
    expected = content_hash(tmp_path / "whole")
    draw, kills, runs = random.Random(0), 0, 0
    while kills < 20:
        run = tmp_path / f"killed-{(runs := runs + 1)}"

        def start(acks, run=run):
            going_on = step_folders(run) if run.is_dir() else []
            arguments = ["--resume", str(run)] if going_on else [*first, f"--name={run.name}"]
            return worker.start("command", ["train", *arguments], acks, fence)

        kills += kill_until_done(worker, run, start, seconds, draw, min(20 - kills, 5))
        assert content_hash(run) == expected
        assert best_first(run)[0].name == best_first(tmp_path / "whole")[0].name
    broke(2, "SIGKILL at random moments of real runs (`resnetcli train`, cifar10-mini)", kills, LOST)

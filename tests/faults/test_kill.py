"""A run that is killed without warning, and what is left of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from resnetcli.checkpoints.manager import newest_intact, step_folders
from tests.services.runs import SHORT
from tests.services.test_train import assert_same_end

OPTIONS = {**SHORT, "limit_train": 48, "save_every": 0, "optimizer": "muon", "precision": "auto"}
"""Three steps an epoch; in bf16 where the processor has it."""


def arguments(folder: Path, name: str) -> list[str]:
    flags = [f"--{key.replace('_', '-')}={value}" for key, value in OPTIONS.items()]
    return [sys.executable, "-m", "resnetcli", "train", *flags, f"--output-dir={folder}", f"--name={name}"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    subprocess.run(arguments(folder, "whole"), check=True, capture_output=True)
    return folder / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.full)])
def test_a_run_killed_in_the_middle_of_an_epoch_ends_byte_equal_after_resume(uninterrupted, tmp_path, broke, step):
    run = tmp_path / "killed"
    process = subprocess.Popen(arguments(tmp_path, "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(p.name >= f"step-{step:07d}" for p in step_folders(run)):
        assert process.poll() is None
        assert time.monotonic() < deadline
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _, snapshot = newest_intact(run)
    assert 0 < snapshot.position.step < 3  # really inside an epoch
    resumed = [sys.executable, "-m", "resnetcli", "train", "--resume", str(run)]
    subprocess.run(resumed, check=True, capture_output=True)
    assert_same_end(uninterrupted, run)
    assert not list((run / "checkpoints").glob(".tmp-*"))
    broke(
        2,
        "SIGKILL inside an epoch of real runs (`resnetcli train`, Muon, bf16 where it pays)",
        1,
        "0 acknowledged checkpoints lost; after resume weights and state are byte-equal to the uninterrupted run's",
    )

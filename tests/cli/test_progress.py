"""What the commands show before they have anything to say, and that an epoch is told once in one place."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.children import resnetcli, train_arguments

ARGUMENTS = train_arguments(
    "run", limit_train=64, batch_size=16, epochs=2, precision="fp32", threads=1, optimizer="sgd", lr=0.02
)
STOPS_AT_TORCH = """
import os, sys
class Stop:
    def find_spec(self, name, path, target=None):
        if name == "torch": os._exit(99)
sys.meta_path.insert(0, Stop())
from resnetcli.cli.main import main; main()
"""
COMMANDS = (
    ("train",),
    ("train", "--dry-run"),
    ("evaluate", "pretrained"),
    ("compare", "pretrained", "pretrained"),
    ("predict", "cat.png", "--checkpoint=pretrained"),
    ("inspect",),
    ("bench", "train"),
    ("bench", "infer"),
    ("data", "show"),
    ("data", "verify"),
)


def until_torch(argv: tuple[str, ...], stderr: int) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "JPY_PARENT_PID", "GIT_PAGER")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-c", STOPS_AT_TORCH, *argv]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=stderr, env=environment, check=False)
    assert done.returncode == 99


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_something_is_on_the_screen_before_torch_is_loaded(argv: tuple[str, ...]) -> None:
    master, slave = pty.openpty()
    until_torch(argv, slave)
    os.close(slave)  # else reading would wait where nothing was written
    assert "loading PyTorch…" in os.read(master, 65536).decode()
    os.close(master)


def test_a_log_of_a_run_begins_before_torch_is_loaded(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        until_torch(("train",), log.fileno())
    assert (tmp_path / "log").read_text() == "loading PyTorch\n"


def into_one_file() -> None:
    """In a child: `2>&1`."""
    os.dup2(1, 2)


@pytest.mark.slow
def test_an_epoch_is_told_once_in_one_place_and_in_each_of_two(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = resnetcli(ARGUMENTS, tmp_path / "one", prepare=into_one_file)
    two = resnetcli(ARGUMENTS, tmp_path / "two")
    assert (one.code, two.code) == (0, 0), (one, two)
    assert "Epochs" not in one.out
    assert one.out.count("epoch 1/2") == one.out.count("epoch 2/2") == 1
    assert two.err.count("epoch 1/2") == two.err.count("epoch 2/2") == 1
    assert two.out.count("\nEpochs") + two.out.startswith("Epochs") == 1
    for out in (one.out, two.out):
        named = re.search(r"^report +run/report *\npictures +(.*?) *$", out, re.MULTILINE)
        assert named is not None, out[-1500:]
        assert named[1] == "calibration.png, confusion.png, history.png"
